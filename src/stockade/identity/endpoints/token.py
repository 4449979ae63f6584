"""`POST /oauth2/token` (RFC 6749 §3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.binding.prove import offers_nonce, prove
from stockade.identity.client_auth import authenticate_client
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError
from stockade.identity.grants import GRANTS
from stockade.identity.grants.request import TokenRequest
from stockade.identity.observability import log

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.form import Form
    from stockade.identity.grants import Grant
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


@offers_nonce
async def token(services: Services, request: Request) -> Response:
    """Give an access token to a client that may have one. It is answered only after its commit."""
    try:
        form = await read_form(request)
        client = await authenticate_client(services, request, form)
        grant = select_grant(client, form)
        address = request.client.host if request.client else ""
        binding = await prove(services, request, client)
        issued = await grant(services, TokenRequest(client, form, binding, address))
    except OAuthError as error:
        services.metrics.count("token_requests_refused", error=error.error)
        raise
    services.metrics.count("tokens_issued", grant=form.required("grant_type"))
    log("debug", "token_issued", client_id=client.client_id, jti=issued.jti)
    return private_json(issued.as_json())


def select_grant(client: ClientRecord, form: Form) -> Grant:
    """The grant that is asked for, if the client is registered for it.

    RFC 6749 §5.2: `unsupported_grant_type` for what does not exist, `unauthorized_client` for what is not the client's.
    """
    name = form.required("grant_type")
    grant = GRANTS.get(name)
    if grant is None:
        raise OAuthError("unsupported_grant_type", "this grant type is not supported")
    if name not in client.metadata.grant_types:
        raise OAuthError("unauthorized_client", "this grant type is not registered for the client")
    return grant
