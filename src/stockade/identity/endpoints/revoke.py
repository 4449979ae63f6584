"""`POST /oauth2/revoke` (RFC 7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from stockade.identity.client_auth import authenticate_client
from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.endpoints.form import read_form
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage.grants import revoke_grant
from stockade.identity.storage.refresh_tokens import find_refresh_token
from stockade.identity.storage.tokens import find_credential, revoke_credential

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request

    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


async def revoke(services: Services, request: Request) -> Response:
    """Revoke a token of the client's own.

    RFC 7009 §2.2: 200 also for a token that is unknown, expired or revoked already. §2.1: a token of another client is
    refused, and a refresh token takes its grant with it. `token_type_hint` is not needed, the token itself says
    what it is.
    """
    form = await read_form(request)
    client = await authenticate_client(services, request, form)
    text = form.required("token")
    kind = require_revocable(text)
    sequence = await revoke_own(services, client, kind, digest(text))
    if sequence is not None:
        services.feed.announce()
        services.metrics.count("revocations")
        log("info", "token_revoked", client_id=client.client_id, sequence=sequence)
    return Response(status_code=200, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


def require_revocable(text: str) -> Kind | None:
    """The kind of a token that may be revoked here; None for what is no token of ours.

    API keys and secrets are the operator's to revoke: RFC 7009 §2.2.1 `unsupported_token_type`.
    """
    kind = kind_of(text)
    if kind not in (None, Kind.ACCESS_TOKEN, Kind.REFRESH_TOKEN):
        raise OAuthError("unsupported_token_type", "only access and refresh tokens can be revoked here")
    return kind


async def revoke_own(services: Services, client: ClientRecord, kind: Kind | None, token_digest: bytes) -> int | None:
    """Revoke in one transaction. Returns the number in the revocation log, None when there was nothing to do."""
    if kind is None:
        return None
    work = _refresh_token if kind is Kind.REFRESH_TOKEN else _access_token
    now = services.clock()
    outcome = await services.lanes.write(lambda connection: work(connection, client, token_digest, now))
    if isinstance(outcome, OAuthError):
        raise outcome
    return outcome


def _not_own() -> OAuthError:
    return invalid_request("the token was not issued to this client")


def _access_token(
    connection: Connection, client: ClientRecord, token_digest: bytes, now: float
) -> int | OAuthError | None:
    found = find_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)
    if found is not None and found.client_id != client.client_id:
        return _not_own()
    return revoke_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)


def _refresh_token(
    connection: Connection, client: ClientRecord, token_digest: bytes, now: float
) -> int | OAuthError | None:
    """One that was replaced revokes its grant too: who gives it up gives up what came of it."""
    found = find_refresh_token(connection, token_digest, now)
    if found is None:
        return None
    if found.token.client_id != client.client_id:
        return _not_own()
    return revoke_grant(connection, found.token.grant_id, now)
