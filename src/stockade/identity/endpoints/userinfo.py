"""`/oauth2/userinfo` (OIDC Core §5.3): what the user let the client know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.identity.binding.prove import offers_nonce, presented_token, refused_token, require_possession
from stockade.identity.credentials import Kind, digest
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError
from stockade.identity.storage.tokens import Standing, find_credential
from stockade.identity.storage.users import find_user

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.services import Services
    from stockade.identity.storage.tokens import StoredCredential
    from stockade.identity.storage.users import UserRecord


@offers_nonce
async def userinfo(services: Services, request: Request) -> Response:
    """Answer the claims of the token's scopes. The token comes in the `Authorization` header only (RFC 6750 §2.1)."""
    stored, user = await _look_up(services, presented_token(request).text)
    if stored is None or stored.standing is not Standing.ACTIVE:
        raise refused_token("the access token is unknown, expired or revoked")
    await require_possession(services, request, stored)
    if user is None or "openid" not in stored.scopes:
        # RFC 6750 §3.1
        challenge = 'Bearer error="insufficient_scope", scope="openid", DPoP error="insufficient_scope", scope="openid"'
        raise OAuthError("insufficient_scope", "the token lacks `openid`", 403, {"WWW-Authenticate": challenge})
    return private_json(claims_of(user, stored.scopes))


def claims_of(user: UserRecord, scopes: Collection[str]) -> dict[str, Any]:
    """OIDC Core §5.4; §5.3.2: what is not known is left out. `sub` is always there."""
    claims: dict[str, Any] = {"sub": user.user_id}
    if "profile" in scopes:
        claims |= {"name": user.name, "preferred_username": user.username, "locale": user.locale}
    if "email" in scopes and user.email is not None:
        claims |= {"email": user.email, "email_verified": user.email_verified}
    return {name: value for name, value in claims.items() if value is not None}


CLAIMS = ("sub", "name", "preferred_username", "locale", "email", "email_verified")


async def _look_up(services: Services, text: str) -> tuple[StoredCredential | None, UserRecord | None]:
    now = services.clock()

    def work(connection: Connection) -> tuple[StoredCredential | None, UserRecord | None]:
        stored = find_credential(connection, Kind.ACCESS_TOKEN, digest(text), now)
        user_id = stored.authorization.user_id if stored is not None else None
        return stored, None if user_id is None else find_user(connection, user_id)

    return await services.lanes.read(work)
