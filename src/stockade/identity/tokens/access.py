"""Opaque access tokens: made here, stored as digests, answered after the commit."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.tokens import NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that is in the database. The text is shown once and kept out of the repr."""

    access_token: str = field(repr=False)
    jti: str
    expires_in: int
    scopes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """RFC 6749 §5.1. The scope is always named: the client need not remember what it asked for."""
        answer = {"access_token": self.access_token, "token_type": "Bearer", "expires_in": self.expires_in}
        return answer | ({"scope": " ".join(self.scopes)} if self.scopes else {})


async def issue_access_token(
    services: Services, client: ClientRecord, scopes: tuple[str, ...], audience: str
) -> IssuedToken:
    """Make a token and store it. Raises StorageUnavailable: then no token exists.

    The token carries the client's generation as it was when the client proved who it is. If the client is disabled
    meanwhile, the token is dead before it arrives.
    """
    text = generate(Kind.ACCESS_TOKEN)
    lifetime = services.config.lifetimes.access_token_seconds
    now = int(services.clock())
    token = NewAccessToken(
        digest=digest(text),
        jti=secrets.token_urlsafe(16),
        client_id=client.client_id,
        generation=client.generation,
        scopes=scopes,
        audience=audience,
        issued_at=now,
        expires_at=now + lifetime,
    )
    await services.lanes.write(lambda connection: insert_access_token(connection, token))
    return IssuedToken(text, token.jti, lifetime, scopes)
