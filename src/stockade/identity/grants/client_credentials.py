"""`client_credentials` (RFC 6749 §4.4): a token for the client itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stockade.identity.errors import OAuthError
from stockade.identity.tokens.access import issue_access_token

if TYPE_CHECKING:
    from stockade.identity.config import Config
    from stockade.identity.endpoints.form import Form
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.tokens.access import IssuedToken

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


async def client_credentials(services: Services, client: ClientRecord, form: Form) -> IssuedToken:
    """Issue a token for the client's own access."""
    scopes = select_scopes(services.config, client, form.optional("scope"))
    audience = select_audience(services.config, form.optional("resource"))
    return await issue_access_token(services, client, scopes, audience)


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
