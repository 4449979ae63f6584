"""Removing what has expired, in bounded bytes of work so that no caller waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from stockade.identity.storage.revocations import purge_revocations
from stockade.identity.storage.schema import access_tokens, api_keys, client_secrets, used_assertions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

BATCH = 500
# An expired row is kept a little: a clock that is set back must not make a used assertion fresh.
GRACE_SECONDS = 300
# Expired and revoked API keys stay listed for a while, so that an operator can see what they were.
API_KEY_SECONDS = 30 * 86_400


def purge_once(connection: Connection, now: float, revocation_log_seconds: int) -> int:
    """Remove up to BATCH rows of each kind. Returns the number removed: call again soon when it is large."""
    expired = now - GRACE_SECONDS
    return (
        _delete_expired(connection, access_tokens, expired)
        + _delete_expired(connection, used_assertions, expired)
        + _delete_expired(connection, client_secrets, expired)
        + _delete_expired(connection, api_keys, now - API_KEY_SECONDS)
        + purge_revocations(connection, now - revocation_log_seconds, BATCH)
    )


def _delete_expired(connection: Connection, table: Table, before: float) -> int:
    oldest = select(table.c.digest).where(table.c.expires_at < before).limit(BATCH)
    return connection.execute(delete(table).where(table.c.digest.in_(oldest))).rowcount
