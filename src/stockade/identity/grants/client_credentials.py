"""`client_credentials` (RFC 6749 §4.4): a token for the client itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stockade.identity.errors import OAuthError
from stockade.identity.tokens.access import Authorized, issue_access_token

if TYPE_CHECKING:
    from stockade.identity.config import Config
    from stockade.identity.grants.request import TokenRequest
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.tokens.access import IssuedTokens

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


async def client_credentials(services: Services, request: TokenRequest) -> IssuedTokens:
    """Issue a token for the client's own access. RFC 6749 §4.4: for confidential clients only."""
    if not request.client.confidential:
        raise OAuthError("unauthorized_client", "this grant is for clients that prove who they are")
    scopes = select_scopes(services.config, request.client, request.form.optional("scope"))
    audience = select_audience(services.config, request.form.optional("resource"))
    return await issue_access_token(services, Authorized(request.client, scopes, audience, binding=request.binding))


def select_scopes(config: Config, client: ClientRecord, requested: str | None) -> tuple[str, ...]:
    """What the client may have and the API declares; RFC 6749 §3.3: all of it when nothing is asked for.

    Raises `invalid_scope` when any requested scope is not among them: less than was asked for is never given silently.
    """
    allowed = [scope for scope in client.scopes if scope in config.scopes]
    if requested is None:
        return tuple(allowed)
    scopes = tuple(dict.fromkeys(requested.split(" ")))
    if not _SCOPE.fullmatch(requested) or not set(scopes) <= set(allowed):
        raise OAuthError("invalid_scope", "a requested scope is malformed, unknown or not granted to this client")
    return scopes


def select_audience(config: Config, resource: str | None) -> str:
    """RFC 8707 §2: `resource` must be an audience that is configured; the first is the default."""
    if resource is None:
        return config.audiences[0]
    if resource not in config.audiences:
        raise OAuthError("invalid_target", "the requested resource is unknown")
    return resource
