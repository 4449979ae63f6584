"""Client assertions that were used: RFC 7523 §3 rule 7, remembered durably until each expires by itself."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select

from stockade.identity.storage.schema import used_assertions

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FIND = select(used_assertions.c.digest).where(used_assertions.c.digest == bindparam("digest"))
_INSERT = insert(used_assertions)


def use_assertion(connection: Connection, client_id: str, jti: str, expires_at: int) -> bool:
    """Mark an assertion as used; False when it was used before.

    Two transactions that race for the same one cannot both commit: the second breaks the primary key, and its
    repetition then finds the row.
    """
    digest = sha256(f"{client_id}\x00{jti}".encode()).digest()
    if connection.execute(_FIND, {"digest": digest}).one_or_none() is not None:
        return False
    connection.execute(_INSERT, {"digest": digest, "expires_at": expires_at})
    return True
