"""Opaque access tokens: made here, stored as digests, answered after the commit."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.tokens import NOBODY, Authorization, NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.binding import Binding
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


@dataclass(frozen=True, slots=True)
class Authorized:
    """For whom and for what: what every grant comes to, and all that `make_access_token` needs."""

    client: ClientRecord
    scopes: tuple[str, ...]
    audience: str
    authorization: Authorization = NOBODY
    binding: Binding | None = None
    # A shorter life than the configured one: an exchanged token does not outlive the one it was made from.
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class MadeToken:
    """An access token that is not stored yet. The text is shown once and kept out of the repr."""

    access_token: str = field(repr=False)
    row: NewAccessToken


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """An answer of the token endpoint: all of it is in the database. Secrets stay out of the repr."""

    access_token: str = field(repr=False)
    jti: str
    token_type: str
    expires_in: int
    scopes: tuple[str, ...]
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    # RFC 8693 §2.2.1
    issued_token_type: str | None = None

    def as_json(self) -> dict[str, Any]:
        """RFC 6749 §5.1. The scope is always named: the client need not remember what it asked for."""
        answer: dict[str, Any] = {
            "access_token": self.access_token,
            "token_type": self.token_type,
            "expires_in": self.expires_in,
        }
        for name in ("refresh_token", "id_token", "issued_token_type"):
            if (value := getattr(self, name)) is not None:
                answer[name] = value
        return answer | ({"scope": " ".join(self.scopes)} if self.scopes else {})


def make_access_token(services: Services, authorized: Authorized, now: int) -> MadeToken:
    """Make a token. Store its row in the transaction that spends what it was given for.

    The token carries the client's generation as it was when the client proved who it is. If the client is disabled
    meanwhile, the token is dead before it arrives.
    """
    text = generate(Kind.ACCESS_TOKEN)
    expires_at = now + services.config.lifetimes.access_token_seconds
    if authorized.expires_at is not None:
        expires_at = min(expires_at, authorized.expires_at)
    row = NewAccessToken(
        digest=digest(text),
        jti=secrets.token_urlsafe(16),
        client_id=authorized.client.client_id,
        generation=authorized.client.generation,
        scopes=authorized.scopes,
        audience=authorized.audience,
        issued_at=now,
        expires_at=expires_at,
        binding=authorized.binding,
        authorization=authorized.authorization,
    )
    return MadeToken(text, row)


def answer(made: MadeToken, **extra: str | None) -> IssuedTokens:
    """The answer for a token whose row is committed. `extra`: refresh_token, id_token, issued_token_type."""
    row = made.row
    return IssuedTokens(
        access_token=made.access_token,
        jti=row.jti,
        token_type=row.binding.token_type if row.binding else "Bearer",
        expires_in=row.expires_at - row.issued_at,
        scopes=row.scopes,
        **extra,
    )


async def issue_access_token(services: Services, authorized: Authorized) -> IssuedTokens:
    """Make a token and store it, where nothing else is spent. Raises StorageUnavailable: then no token exists."""
    made = make_access_token(services, authorized, int(services.clock()))

    def work(connection: Connection) -> None:
        insert_access_token(connection, made.row)

    await services.lanes.write(work)
    return answer(made)
