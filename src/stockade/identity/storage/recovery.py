"""Recovery codes, as keyed digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, update

from stockade.identity.storage.schema import recovery_codes as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


def replace_codes(connection: Connection, user_id: str, digests: Sequence[bytes], now: int) -> None:
    """Store new ones; those from before are gone."""
    delete_codes(connection, user_id)
    connection.execute(insert(table), [{"digest": digest, "user_id": user_id, "created_at": now} for digest in digests])


def spend_code(connection: Connection, user_id: str, digest: bytes, now: int) -> bool:
    """Use one; of several that try, one succeeds."""
    spent = connection.execute(
        update(table)
        .where(table.c.digest == digest, table.c.user_id == user_id, table.c.used_at.is_(None))
        .values(used_at=now)
    )
    return spent.rowcount == 1


def delete_codes(connection: Connection, user_id: str) -> int:
    """Remove all of a person. Returns how many."""
    return connection.execute(delete(table).where(table.c.user_id == user_id)).rowcount
