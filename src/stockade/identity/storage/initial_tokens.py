"""Initial access tokens (RFC 7591 §3): who may register clients, how many, and what those may have at most."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from stockade.identity.storage.schema import initial_access_tokens as table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class InitialAccessToken:
    """Without the token itself. Times are NumericDate."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]
    uses_left: int
    created_at: int
    expires_at: int


def insert_initial_token(connection: Connection, token: InitialAccessToken, digest: bytes) -> None:
    """Store a token's digest and what it allows."""
    connection.execute(
        insert(table).values(
            digest=digest,
            token_id=token.token_id,
            name=token.name,
            allowed=json.dumps({"scopes": token.scopes, "grant_types": token.grant_types}),
            uses_left=token.uses_left,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )


def find_initial_token(connection: Connection, digest: bytes, now: float) -> InitialAccessToken | None:
    """The token, while it can be used."""
    row = connection.execute(
        select(table).where(table.c.digest == digest, table.c.uses_left > 0, table.c.expires_at > now)
    ).one_or_none()
    return _token(row) if row else None


def spend_initial_token(connection: Connection, digest: bytes, now: float) -> bool:
    """Take one use, in the transaction that registers the client. False where another was faster."""
    changed = connection.execute(
        update(table)
        .where(table.c.digest == digest, table.c.uses_left > 0, table.c.expires_at > now)
        .values(uses_left=table.c.uses_left - 1)
    )
    return changed.rowcount == 1


def list_initial_tokens(connection: Connection) -> list[InitialAccessToken]:
    """All of them by name, the used up and expired too."""
    return [_token(row) for row in connection.execute(select(table).order_by(table.c.name, table.c.token_id))]


def delete_initial_token(connection: Connection, token_id: str) -> bool:
    """End one. Clients that were registered with it stay."""
    return connection.execute(delete(table).where(table.c.token_id == token_id)).rowcount == 1


def _token(row: Row[Any]) -> InitialAccessToken:
    allowed = json.loads(row.allowed)
    return InitialAccessToken(
        token_id=row.token_id,
        name=row.name,
        scopes=tuple(allowed["scopes"]),
        grant_types=tuple(allowed["grant_types"]),
        uses_left=row.uses_left,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
