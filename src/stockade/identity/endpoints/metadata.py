"""What clients and upstreams may know: `/.well-known/…` (RFC 8414) and `/oauth2/jwks` (RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.identity.client_auth.private_key_jwt import ALGORITHMS
from stockade.identity.endpoints.guard import public_json
from stockade.identity.grants import GRANTS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.config import Config
    from stockade.identity.services import Services

METADATA_MAX_AGE_SECONDS = 300
# Shorter than the time for which the next key is published before it signs, by far.
JWKS_MAX_AGE_SECONDS = 300


async def metadata(services: Services, _request: Request) -> Response:
    """RFC 8414 §3.2; the same document under both well-known names."""
    return public_json(describe(services.config), METADATA_MAX_AGE_SECONDS)


async def jwks(services: Services, _request: Request) -> Response:
    """The public halves of the current, next and previous signing keys."""
    return public_json(services.usable_keyring().public_jwks, JWKS_MAX_AGE_SECONDS)


def describe(config: Config) -> dict[str, Any]:
    """The metadata. With an external issuer nothing is issued here, and only the keys are announced.

    RFC 8414 §2 requires `response_types_supported`; there is no authorization endpoint, so the list is empty.
    """
    document: dict[str, Any] = {
        "issuer": config.issuer,
        "jwks_uri": f"{config.issuer}/oauth2/jwks",
        "response_types_supported": [],
    }
    if config.external is not None:
        return document
    client_authentication = {
        "auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "auth_signing_alg_values_supported": list(ALGORITHMS),
    }
    for endpoint in ("token", "revocation"):
        path = "revoke" if endpoint == "revocation" else endpoint
        document[f"{endpoint}_endpoint"] = f"{config.issuer}/oauth2/{path}"
        document |= {f"{endpoint}_endpoint_{name}": value for name, value in client_authentication.items()}
    if config.scopes:
        document["scopes_supported"] = list(config.scopes)
    return document | {"grant_types_supported": list(GRANTS)}
