"""Interactions: requests on their way, by the digest of their secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from stockade.identity.storage.schema import interactions

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class InteractionRow:
    """`request` and `state` are JSON that interactions.py writes and reads."""

    digest: bytes
    browser_digest: bytes
    client_id: str
    request: str
    state: str
    user_id: str | None
    created_at: int
    expires_at: int


def insert_interaction(connection: Connection, row: InteractionRow) -> None:
    """Store a new one."""
    connection.execute(insert(interactions).values(asdict(row)))


def find_interaction(connection: Connection, digest: bytes, now: float) -> InteractionRow | None:
    """One that is still open."""
    row = connection.execute(
        select(interactions).where(
            interactions.c.digest == digest, interactions.c.done_at.is_(None), interactions.c.expires_at > now
        )
    ).one_or_none()
    if row is None:
        return None
    return InteractionRow(
        row.digest,
        row.browser_digest,
        row.client_id,
        row.request,
        row.state,
        row.user_id,
        row.created_at,
        row.expires_at,
    )


def update_state(connection: Connection, digest: bytes, known: str, state: str, user_id: str, now: float) -> bool:
    """Replace the state if it is still `known`. False where it was changed, done or expired meanwhile."""
    changed = connection.execute(
        update(interactions)
        .where(
            interactions.c.digest == digest,
            interactions.c.done_at.is_(None),
            interactions.c.expires_at > now,
            interactions.c.state == known,
        )
        .values(state=state, user_id=user_id)
    )
    return changed.rowcount == 1


def replace_state(connection: Connection, digest: bytes, state: str, now: float) -> None:
    """Replace the state of one that is still open and undecided."""
    connection.execute(
        update(interactions)
        .where(
            interactions.c.digest == digest,
            interactions.c.done_at.is_(None),
            interactions.c.expires_at > now,
            interactions.c.user_id.is_(None),
        )
        .values(state=state)
    )


def end_interaction(connection: Connection, digest: bytes, now: float) -> bool:
    """Mark it done. False where it was done before: of two answers that race, one is given."""
    changed = connection.execute(
        update(interactions)
        .where(interactions.c.digest == digest, interactions.c.done_at.is_(None), interactions.c.expires_at > now)
        .values(done_at=int(now))
    )
    return changed.rowcount == 1
