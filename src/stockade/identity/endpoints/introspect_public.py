"""`POST /oauth2/introspect` (RFC 7662) for resource servers, plain or signed (RFC 9701).

The gateway has its own, with the internal token (introspect.py). Here a client asks that is registered as the
resource server of some audiences, and hears of tokens for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from stockade.identity.client_auth import authenticate_client
from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError, invalid_client
from stockade.identity.storage.tokens import Standing, find_credential
from stockade.identity.tokens.introspection_jwt import MEDIA_TYPE, sign_introspection
from stockade.identity.tokens.verified import VerifiedCredential

if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request

    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

# For the gateway's cache and the account page; no resource server needs them.
_OURS = ("sid", "grant_id")


async def introspect_public(services: Services, request: Request) -> Response:
    """Say what a token is worth at the caller's.

    RFC 7662 §2.2: `{"active": false}` and no reason for everything else: unknown, ended, no access token, for another
    audience. §4: who is not authenticated gets 401; who is no resource server, 403.
    """
    form = await read_form(request)
    client = await authenticate_client(services, request, form)
    if not client.confidential:
        raise invalid_client()
    if not client.metadata.introspection_audiences:
        raise OAuthError("access_denied", "this client is registered as no audience's resource server", 403)
    answer = await _introspect(services, client, form.required("token"))
    services.metrics.count("introspections_for_resource_servers", result="active" if answer["active"] else "inactive")
    if not wants_signed(request):
        return private_json(answer)
    signed = sign_introspection(
        services.usable_keyring(), services.config.issuer, client.client_id, answer, services.clock()
    )
    return Response(signed, headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "Pragma": "no-cache"})


async def _introspect(services: Services, client: ClientRecord, token: str) -> dict[str, Any]:
    # RFC 7662 §2.1 lets us ignore `token_type_hint`: a token says what it is. Refresh tokens are nobody's to see.
    if kind_of(token) is not Kind.ACCESS_TOKEN:
        return {"active": False}
    wanted, now = digest(token), services.clock()
    stored = await services.lanes.read(lambda connection: find_credential(connection, Kind.ACCESS_TOKEN, wanted, now))
    if stored is None or stored.standing is not Standing.ACTIVE:
        return {"active": False}
    if stored.audience is None or stored.audience not in client.metadata.introspection_audiences:
        return {"active": False}
    verified = VerifiedCredential(
        client_id=stored.client_id,
        sub=stored.subject,
        scopes=stored.scopes,
        iss=services.config.issuer,
        aud=stored.audience,
        iat=stored.issued_at,
        exp=stored.expires_at,
        jti=stored.jti,
        token_type=stored.binding.token_type if stored.binding else "Bearer",
        binding=stored.binding,
        authorization=stored.authorization,
    )
    return {name: value for name, value in verified.as_json().items() if name not in _OURS}


def wants_signed(request: Request) -> bool:
    """RFC 9701 §4: `Accept` names the media type, with a weight above zero (RFC 9110 §12.5.1)."""
    for header in request.headers.getlist("accept"):
        for item in header.split(","):
            media_type, *parameters = (part.strip().lower().replace(" ", "") for part in item.split(";"))
            if media_type == MEDIA_TYPE:
                return not any(
                    parameter.startswith("q=0") and not parameter[3:].strip(".0") for parameter in parameters
                )
    return False
