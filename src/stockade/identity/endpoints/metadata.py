"""What clients and upstreams may know: `/.well-known/…` (RFC 8414, OIDC Discovery) and `/oauth2/jwks` (RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.identity.binding import dpop
from stockade.identity.binding.mtls import mtls_origin
from stockade.identity.client_auth.private_key_jwt import ALGORITHMS
from stockade.identity.endpoints.authorization_request import PROMPTS, RESPONSE_MODES
from stockade.identity.endpoints.guard import public_json
from stockade.identity.endpoints.userinfo import CLAIMS
from stockade.identity.grants import GRANTS
from stockade.identity.keys.keyring import ALGORITHM
from stockade.identity.people.assurance import ACRS
from stockade.identity.profile import FAPI2_ALGORITHMS, FAPI2_METHODS, is_fapi2
from stockade.identity.scopes import OPENID_SCOPES
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.config import Config
    from stockade.identity.services import Services

METADATA_MAX_AGE_SECONDS = 300
# Shorter than the time for which the next key is published before it signs, by far.
JWKS_MAX_AGE_SECONDS = 300
# Member → path below `/oauth2/`.
ENDPOINTS = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "pushed_authorization_request_endpoint": "par",
    "revocation_endpoint": "revoke",
    "userinfo_endpoint": "userinfo",
    "end_session_endpoint": "logout",
    "introspection_endpoint": "introspect",
    "device_authorization_endpoint": "device_authorization",
}
# Those that mutual TLS serves (RFC 8705 §5), and those at which clients prove themselves.
ALIASED = (
    "token_endpoint",
    "pushed_authorization_request_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "introspection_endpoint",
    "device_authorization_endpoint",
)
AUTHENTICATED = ("token_endpoint", "revocation_endpoint", "introspection_endpoint")


async def metadata(services: Services, _request: Request) -> Response:
    """RFC 8414 §3.2; the same document under both well-known names."""
    return public_json(describe(services.config), METADATA_MAX_AGE_SECONDS)


async def jwks(services: Services, _request: Request) -> Response:
    """The public halves of the current, next and previous signing keys."""
    return public_json(services.usable_keyring().public_jwks, JWKS_MAX_AGE_SECONDS)


def describe(config: Config) -> dict[str, Any]:
    """The metadata. With an external issuer nothing is issued here, and only the keys are announced."""
    document: dict[str, Any] = {
        "issuer": config.issuer,
        "jwks_uri": f"{config.issuer}/oauth2/jwks",
        # RFC 8414 §2 requires it even where there is no authorization endpoint.
        "response_types_supported": [],
    }
    if config.external is not None:
        return document
    return document | _endpoints(config) | _client_authentication(config) | _bindings(config) | _protocol(config)


def _endpoints(config: Config) -> dict[str, Any]:
    endpoints = {member: f"{config.issuer}/oauth2/{path}" for member, path in ENDPOINTS.items()}
    if config.registration != "off":
        endpoints["registration_endpoint"] = f"{config.issuer}/oauth2/register"
    return endpoints


def _client_authentication(config: Config) -> dict[str, Any]:
    """RFC 8414 §2. What the profile leaves out is not announced."""
    methods = [method for method in AuthMethod if config.mtls is not None or method not in _BY_CERTIFICATE]
    algorithms: tuple[str, ...] = ALGORITHMS
    if is_fapi2(config):
        methods = [method for method in methods if method in FAPI2_METHODS]
        algorithms = tuple(name for name in ALGORITHMS if name in FAPI2_ALGORITHMS)
    announced: dict[str, Any] = {}
    for endpoint in AUTHENTICATED:
        announced[f"{endpoint}_auth_methods_supported"] = [method.value for method in methods]
        announced[f"{endpoint}_auth_signing_alg_values_supported"] = list(algorithms)
    # A public client is nobody's resource server.
    proved = [method.value for method in methods if method is not AuthMethod.NONE]
    return announced | {"introspection_endpoint_auth_methods_supported": proved}


_BY_CERTIFICATE = (AuthMethod.TLS_CLIENT_AUTH, AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH)


def _bindings(config: Config) -> dict[str, Any]:
    """RFC 9449 §5.1, RFC 8705 §3.3 and §5."""
    announced: dict[str, Any] = {"dpop_signing_alg_values_supported": list(dpop.ALGORITHMS)}
    if config.mtls is None:
        return announced
    origin = mtls_origin(config, config.mtls) + config.base_path
    return announced | {
        "tls_client_certificate_bound_access_tokens": True,
        "mtls_endpoint_aliases": {member: f"{origin}/oauth2/{ENDPOINTS[member]}" for member in ALIASED},
    }


def _protocol(config: Config) -> dict[str, Any]:
    """RFC 8414 §2, OIDC Discovery §3, RFC 9126 §5, RFC 9207 §3."""
    return {
        "scopes_supported": list(dict.fromkeys((*config.scopes, *OPENID_SCOPES))),
        "response_types_supported": ["code"],
        "response_modes_supported": list(RESPONSE_MODES),
        "grant_types_supported": list(GRANTS),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "require_pushed_authorization_requests": config.par.required or is_fapi2(config),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        # RFC 9701 §6
        "introspection_signing_alg_values_supported": [ALGORITHM],
        "acr_values_supported": list(ACRS),
        "prompt_values_supported": sorted(PROMPTS),
        "claims_supported": [*CLAIMS, "acr", "amr", "auth_time", "sid"],
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        # By URL; those of pushed requests are another matter. Absent would mean true.
        "request_uri_parameter_supported": False,
    }
