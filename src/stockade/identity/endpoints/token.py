"""`POST /oauth2/token` (RFC 6749 §3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.client_auth import authenticate_client
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError
from stockade.identity.grants import GRANTS
from stockade.identity.observability import log

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.form import Form
    from stockade.identity.grants import Grant
    from stockade.identity.services import Services


async def token(services: Services, request: Request) -> Response:
    """Give an access token to a client that may have one. It is answered only after its commit."""
    try:
        form = await read_form(request)
        client = await authenticate_client(services, request, form)
        grant = select_grant(form)
        issued = await grant(services, client, form)
    except OAuthError as error:
        services.metrics.count("token_requests_refused", error=error.error)
        raise
    services.metrics.count("tokens_issued", grant=form.required("grant_type"))
    log("debug", "token_issued", client_id=client.client_id, jti=issued.jti)
    return private_json(issued.as_json())


def select_grant(form: Form) -> Grant:
    """RFC 6749 §5.2: `unsupported_grant_type` for every grant that is not in the list."""
    grant = GRANTS.get(form.required("grant_type"))
    if grant is None:
        raise OAuthError("unsupported_grant_type", "this grant type is not supported")
    return grant
