"""Administration of dynamic registration: initial access tokens (RFC 7591 §3), in the style of admin.py."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from stockade.identity.audit import AuditEvent, record
from stockade.identity.clients_metadata import GrantType
from stockade.identity.config import scope_token
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.errors import AdministrationError
from stockade.identity.storage import initial_tokens as table
from stockade.identity.storage.initial_tokens import InitialAccessToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stockade.identity.storage import Storage

MAX_USES = 1_000
MAX_SECONDS = 90 * 86_400
_MAX_NAME_CHARS = 128


@dataclass(frozen=True, slots=True)
class CreatedInitialAccessToken:
    """An initial access token, shown once."""

    token: InitialAccessToken
    initial_access_token: str = field(repr=False)


def create_initial_access_token(
    storage: Storage,
    name: str,
    scopes: Sequence[str],
    grant_types: Sequence[str] = ("authorization_code", "refresh_token"),
    *,
    uses: int = 1,
    expires_in_seconds: int = 86_400,
) -> CreatedInitialAccessToken:
    """Let somebody register up to `uses` clients, each with at most these scopes and grant types.

    Raises AdministrationError.
    """
    if not 0 < len(name) <= _MAX_NAME_CHARS or not name.isprintable():
        raise AdministrationError(f"a name has 1 to {_MAX_NAME_CHARS} printable characters")
    if not 1 <= uses <= MAX_USES:
        raise AdministrationError(f"an initial access token has 1 to {MAX_USES} uses")
    if not 1 <= expires_in_seconds <= MAX_SECONDS:
        raise AdministrationError(f"an initial access token lives for 1 to {MAX_SECONDS} seconds")
    if unknown := [name for name in grant_types if name not in get_args(GrantType)]:
        raise AdministrationError(f"unknown grant type `{unknown[0]}`")
    for scope in scopes:
        try:
            scope_token(scope)
        except ValueError as error:
            raise AdministrationError(f"scope `{scope}` {error}") from error
    now, text = time.time(), generate(Kind.INITIAL_ACCESS_TOKEN)
    token = InitialAccessToken(
        token_id=f"i_{secrets.token_hex(10)}",
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        grant_types=tuple(dict.fromkeys(grant_types)),
        uses_left=uses,
        created_at=int(now),
        expires_at=int(now) + expires_in_seconds,
    )
    with storage.write() as connection:
        table.insert_initial_token(connection, token, digest(text))
        detail = {"token_id": token.token_id, "uses": uses, "scopes": list(token.scopes)}
        record(connection, AuditEvent("initial_access_token.created", detail=detail), now)
    return CreatedInitialAccessToken(token, text)


def list_initial_access_tokens(storage: Storage) -> list[InitialAccessToken]:
    """All of them, newest first; no secret can be shown again."""
    with storage.read() as connection:
        return table.list_initial_tokens(connection)


def revoke_initial_access_token(storage: Storage, token_id: str) -> bool:
    """End one; clients that were registered with it stay. False: there is none with this id."""
    with storage.write() as connection:
        ended = table.delete_initial_token(connection, token_id)
        if ended:
            record(connection, AuditEvent("initial_access_token.revoked", detail={"token_id": token_id}), time.time())
        return ended
