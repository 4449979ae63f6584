"""The `fapi2` switch (docs/identity.md §8): what the FAPI 2.0 Security Profile asks beyond OAuth 2.1.

Every endpoint asks here, by configuration and client, so that one client can be held to the profile on a server that
serves others too. Sections are those of the final specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from stockade.identity.config import Config
    from stockade.identity.storage.clients import ClientRecord

# §5.4.1: PS256, ES256 and EdDSA (with Ed25519) only.
FAPI2_ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "PS256")
# §5.3.2.1: `private_key_jwt` or mutual TLS only.
FAPI2_METHODS = (AuthMethod.PRIVATE_KEY_JWT, AuthMethod.TLS_CLIENT_AUTH, AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH)


def is_fapi2(config: Config, client: ClientRecord | None = None) -> bool:
    """Whether the profile holds: for the whole server, or for this client."""
    return config.profile == "fapi2" or (client is not None and client.metadata.profile == "fapi2")


def must_bind(config: Config, client: ClientRecord) -> bool:
    """§5.3.2.1: only sender-constrained access tokens are issued."""
    bound_only = config.token_binding == "required"  # noqa: S105 - a mode
    return bound_only or client.metadata.must_bind or is_fapi2(config, client)


def rotates_refresh_tokens(config: Config, client: ClientRecord) -> bool:
    """§5.3.2.1: no refresh token rotation, except in extraordinary circumstances."""
    return config.refresh.rotation and not is_fapi2(config, client)


def requires_pushed_requests(config: Config, client: ClientRecord) -> bool:
    """§5.3.2.2: authorization requests by PAR (RFC 9126) only."""
    return config.par.required or client.metadata.require_pushed_authorization_requests or is_fapi2(config, client)


def allows_client(config: Config, client: ClientRecord) -> bool:
    """§5.3.2.1: confidential clients only, authenticated by `private_key_jwt` or mutual TLS."""
    return not is_fapi2(config, client) or client.auth_method in FAPI2_METHODS


def allows_redirect(config: Config, client: ClientRecord, redirect_uri: str) -> bool:
    """§5.3.2.2: https redirect URIs only."""
    return not is_fapi2(config, client) or redirect_uri.startswith("https://")
