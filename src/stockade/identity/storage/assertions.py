"""Client assertions that were used: RFC 7523 §3 rule 7, remembered durably until each expires by itself."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

# One statement, so that of two transactions that race for the same assertion one waits for the other and then finds
# its row. Both databases spell it alike.
_USE = text("INSERT INTO used_assertions (digest, expires_at) VALUES (:digest, :expires_at) ON CONFLICT DO NOTHING")


def use_assertion(connection: Connection, client_id: str, jti: str, expires_at: int) -> bool:
    """Mark an assertion as used; False when it was used before."""
    digest = sha256(f"{client_id}\x00{jti}".encode()).digest()
    return connection.execute(_USE, {"digest": digest, "expires_at": expires_at}).rowcount == 1
