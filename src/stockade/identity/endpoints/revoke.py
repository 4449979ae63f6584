"""`POST /oauth2/revoke` (RFC 7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from stockade.identity.client_auth import authenticate_client
from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.endpoints.form import read_form
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage.tokens import find_credential, revoke_credential

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request

    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


async def revoke(services: Services, request: Request) -> Response:
    """Revoke a token of the client's own.

    RFC 7009 §2.2: 200 also for a token that is unknown, expired or revoked already. §2.1: a token of another client is
    refused. `token_type_hint` is not needed, the token itself says what it is.
    """
    form = await read_form(request)
    client = await authenticate_client(services, request, form)
    text = form.required("token")
    require_access_token(text)
    sequence = await revoke_own(services, client, digest(text))
    if sequence is not None:
        services.feed.announce()
        services.metrics.count("revocations")
        log("info", "token_revoked", client_id=client.client_id, sequence=sequence)
    return Response(status_code=200, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


def require_access_token(text: str) -> None:
    """API keys and secrets are the operator's to revoke: RFC 7009 §2.2.1 `unsupported_token_type`."""
    if kind_of(text) in (Kind.API_KEY, Kind.CLIENT_SECRET):
        raise OAuthError("unsupported_token_type", "only access tokens can be revoked here")


async def revoke_own(services: Services, client: ClientRecord, token_digest: bytes) -> int | None:
    """Revoke in one transaction. Returns the number in the revocation log, None when there was nothing to do."""
    now = services.clock()

    def work(connection: Connection) -> int | None:
        found = find_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)
        if found is not None and found.client_id != client.client_id:
            return _NOT_OWN
        return revoke_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)

    sequence = await services.lanes.write(work)
    if sequence == _NOT_OWN:
        raise invalid_request("the token was not issued to this client")
    return sequence


_NOT_OWN = -1
