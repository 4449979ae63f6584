"""What waits for a browser's next step: a sign-in after its password, a TOTP secret before its first code.

Bound to the browser's cookie, good once and for minutes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from stockade.identity.storage.schema import pending_sign_ins as table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection, Row


class Purpose(StrEnum):
    """What the next step is."""

    SECOND_FACTOR = "second_factor"
    NEW_PASSWORD = "new_password"  # noqa: S105 - a purpose
    TOTP_REGISTRATION = "totp_registration"


@dataclass(frozen=True, slots=True)
class Pending:
    """One of them. `state` is the purpose's own."""

    purpose: Purpose
    user_id: str
    state: Mapping[str, Any]
    expires_at: int


def insert_pending(connection: Connection, pending: Pending, digest: bytes, browser: bytes) -> None:
    """Store it under the digest of the secret that the browser gets."""
    connection.execute(
        insert(table).values(
            digest=digest,
            browser_digest=browser,
            purpose=pending.purpose.value,
            user_id=pending.user_id,
            state=json.dumps(pending.state),
            expires_at=pending.expires_at,
        )
    )


def find_pending(connection: Connection, digest: bytes, browser: bytes, now: float) -> Pending | None:
    """Look at it; None: unknown, of another browser, expired or spent."""
    row = connection.execute(select(table).where(*_alive(digest, browser, now))).one_or_none()
    return _pending(row) if row else None


def spend_pending(connection: Connection, digest: bytes, browser: bytes, now: float) -> bool:
    """Take it; of several that try, one succeeds."""
    spent = connection.execute(update(table).where(*_alive(digest, browser, now)).values(used_at=int(now)))
    return spent.rowcount == 1


def _alive(digest: bytes, browser: bytes, now: float) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.digest == digest,
        table.c.browser_digest == browser,
        table.c.used_at.is_(None),
        table.c.expires_at > now,
    )


def _pending(row: Row[Any]) -> Pending:
    return Pending(Purpose(row.purpose), row.user_id, json.loads(row.state), row.expires_at)
