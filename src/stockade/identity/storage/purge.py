"""Removing what has expired, in bounded bites of work so that no caller waits for it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, select

from stockade.identity.storage import schema
from stockade.identity.storage.revocations import purge_revocations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Delete, Table

BATCH = 500
# An expired row is kept a little: a clock that is set back must not make a used assertion fresh.
GRACE_SECONDS = 300
# A used code is remembered for longer than it lives: a late replay still revokes what it gave (RFC 6749 §4.1.2).
CODE_SECONDS = 86_400
# INVARIANT: longer than any access token lives (config.Lifetimes): a token must not outlive the row that revoked it.
GRANT_SECONDS = 2 * 86_400
# What an operator made stays listed for a while, so that it can be seen what it was.
LISTED_SECONDS = 30 * 86_400

# How long the rows of each table are kept after `expires_at`. Users, consents and the audit record have no such
# column and are never purged; revocations go by their age (`purge_revocations`).
KEPT_SECONDS: Mapping[str, int] = MappingProxyType(
    {
        "access_tokens": GRACE_SECONDS,
        "used_assertions": GRACE_SECONDS,
        "client_secrets": GRACE_SECONDS,
        "api_keys": LISTED_SECONDS,
        "authorization_codes": CODE_SECONDS,
        "refresh_tokens": GRACE_SECONDS,
        "grants": GRANT_SECONDS,
        "pushed_requests": GRACE_SECONDS,
        "interactions": GRACE_SECONDS,
        "device_codes": GRACE_SECONDS,
        "initial_access_tokens": LISTED_SECONDS,
        "pending_sign_ins": GRACE_SECONDS,
        "sessions": GRACE_SECONDS,
        "sign_in_failures": GRACE_SECONDS,
    }
)


def purge_once(connection: Connection, now: float, revocation_log_seconds: int) -> int:
    """Remove up to BATCH rows of each kind. Returns the number removed: call again soon when it is large."""
    removed = sum(
        connection.execute(statement, {"before": now - KEPT_SECONDS[name]}).rowcount
        for name, statement in _DELETE.items()
    )
    return removed + purge_revocations(connection, now - revocation_log_seconds, BATCH)


def _delete_expired(table: Table) -> Delete:
    (key,) = table.primary_key.columns
    oldest = select(key).where(table.c.expires_at < bindparam("before")).limit(BATCH)
    return delete(table).where(key.in_(oldest))


_DELETE = {name: _delete_expired(schema.metadata.tables[name]) for name in KEPT_SECONDS}
