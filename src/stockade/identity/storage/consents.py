"""What a user has allowed a client before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select, text, update

from stockade.identity.storage.schema import consents

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


# Both databases spell it alike. The row is there afterwards, and no second transaction can make it too.
_ENSURE = text(
    "INSERT INTO consents (user_id, client_id, scopes, updated_at) VALUES (:user_id, :client_id, '', :now) "
    "ON CONFLICT DO NOTHING"
)


def find_consent(connection: Connection, user_id: str, client_id: str) -> tuple[str, ...]:
    """The scopes; none where nothing was allowed."""
    known = connection.execute(
        select(consents.c.scopes).where(consents.c.user_id == user_id, consents.c.client_id == client_id)
    ).scalar()
    return tuple((known or "").split())


def list_consents(connection: Connection, user_id: str) -> dict[str, tuple[str, ...]]:
    """Scopes by client, for the account page."""
    rows = connection.execute(select(consents).where(consents.c.user_id == user_id).order_by(consents.c.client_id))
    return {row.client_id: tuple(row.scopes.split()) for row in rows}


def remember_consent(connection: Connection, user_id: str, client_id: str, scopes: Collection[str], now: int) -> None:
    """Add scopes to what is allowed. The caller holds a write transaction."""
    connection.execute(_ENSURE, {"user_id": user_id, "client_id": client_id, "now": now})
    mine = (consents.c.user_id == user_id, consents.c.client_id == client_id)
    known = connection.execute(select(consents.c.scopes).where(*mine).with_for_update()).scalar_one()
    together = " ".join(dict.fromkeys([*known.split(), *scopes]))
    connection.execute(update(consents).where(*mine).values(scopes=together, updated_at=now))


def forget_consent(connection: Connection, user_id: str, client_id: str) -> None:
    """The user is asked again. What was issued is revoked by the caller (storage/grants.py)."""
    connection.execute(delete(consents).where(consents.c.user_id == user_id, consents.c.client_id == client_id))
