"""Scopes of requests that a user stands behind: the API's, and OpenID Connect's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stockade.identity.errors import OAuthError

if TYPE_CHECKING:
    from stockade.identity.config import Config
    from stockade.identity.storage.clients import ClientRecord

# OIDC Core §5.4 and §11.
OPENID_SCOPES = ("openid", "profile", "email", "offline_access")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


def allowed_scopes(config: Config, client: ClientRecord) -> tuple[str, ...]:
    """What a user can give this client: registered for it, and declared by the API or by OpenID Connect."""
    return tuple(scope for scope in client.scopes if scope in config.scopes or scope in OPENID_SCOPES)


def select_user_scopes(config: Config, client: ClientRecord, requested: str | None) -> tuple[str, ...]:
    """The scopes asked for; without any, the client's scopes of the API (RFC 6749 §3.3).

    Raises `invalid_scope` when any of them is not among the allowed: less than was asked for is never given silently.
    """
    allowed = allowed_scopes(config, client)
    if requested is None:
        return tuple(scope for scope in allowed if scope not in OPENID_SCOPES)
    scopes = tuple(dict.fromkeys(requested.split(" ")))
    if not _SCOPE.fullmatch(requested) or not set(scopes) <= set(allowed):
        raise OAuthError("invalid_scope", "a requested scope is malformed, unknown or not granted to this client")
    return scopes
