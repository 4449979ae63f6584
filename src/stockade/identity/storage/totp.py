"""TOTP secrets, sealed, and the last time step that was accepted of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from stockade.identity.storage.schema import totp_secrets as table

if TYPE_CHECKING:
    from sqlalchemy import Connection


def find_totp(connection: Connection, user_id: str) -> bytes | None:
    """The sealed secret of a person."""
    sealed: bytes | None = connection.execute(
        select(table.c.sealed_secret).where(table.c.user_id == user_id, table.c.confirmed_at.is_not(None))
    ).scalar()
    return sealed


def replace_totp(connection: Connection, user_id: str, sealed: bytes, step: int, now: int) -> None:
    """Store a secret whose first code was right, in place of the one before."""
    connection.execute(delete(table).where(table.c.user_id == user_id))
    connection.execute(
        insert(table).values(user_id=user_id, sealed_secret=sealed, created_at=now, confirmed_at=now, last_step=step)
    )


def advance_totp(connection: Connection, user_id: str, step: int) -> bool:
    """Spend a time step and all before it; False when it was spent. Of two that race for one, one wins."""
    spent = connection.execute(
        update(table).where(table.c.user_id == user_id, table.c.last_step < step).values(last_step=step)
    )
    return spent.rowcount == 1


def delete_totp(connection: Connection, user_id: str) -> bool:
    """Remove it. False where there was none."""
    return connection.execute(delete(table).where(table.c.user_id == user_id)).rowcount == 1
