"""`POST /oauth2/par` (RFC 9126): a request that the browser only carries the name of."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from stockade.identity.binding.prove import offer, offers_nonce
from stockade.identity.client_auth import authenticate_client
from stockade.identity.endpoints.authorization_request import Asked, Parameters, read_request, read_return_address
from stockade.identity.endpoints.authorize import REQUEST_URI_PREFIX, request_uri_digest
from stockade.identity.endpoints.beginnings import take_one
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.storage.pushed import PushedRequest, insert_pushed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.form import Form
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

_CREDENTIALS = ("client_secret", "client_assertion", "client_assertion_type")


@offers_nonce
async def par(services: Services, request: Request) -> Response:
    """Check and keep a request. RFC 9126 §2.1: the client proves itself as at the token endpoint.

    §2.3: what is wrong with it is said here, as at the token endpoint. RFC 9449 §10.1: the key of a DPoP proof binds
    the code, as `dpop_jkt` does.
    """
    try:
        form = await read_form(request)
        client = await authenticate_client(services, request, form)
        take_one(services, request, client)
        key = await offer(services, request)
        pushed, uri = _push(services, client, form, key.thumbprint if key is not None else None)
    except OAuthError as error:
        services.metrics.count("pushed_requests", result=error.error)
        raise
    await services.lanes.write(lambda connection: insert_pushed(connection, pushed))
    services.metrics.count("pushed_requests", result="kept")
    return private_json({"request_uri": uri, "expires_in": services.config.par.seconds}, 201)


def _push(services: Services, client: ClientRecord, form: Form, jkt: str | None) -> tuple[PushedRequest, str]:
    """A request that would be answered if it came now. Raises OAuthError."""
    if form.optional("request_uri") is not None:
        # RFC 9126 §2.1
        raise invalid_request("`request_uri` must not be pushed")
    parameters = {name: value for name, value in form.values.items() if name not in _CREDENTIALS}
    parameters["client_id"] = client.client_id
    uri = REQUEST_URI_PREFIX + secrets.token_urlsafe(32)
    secret_digest = request_uri_digest(uri)
    wanted = Parameters(parameters)
    address = read_return_address(services.config, client, wanted)
    checked = read_request(services, Asked(client, address, wanted, secret_digest.hex(), jkt))
    expires_at = int(services.clock()) + services.config.par.seconds
    return PushedRequest(secret_digest, client.client_id, parameters, checked.dpop_jkt, expires_at), uri
