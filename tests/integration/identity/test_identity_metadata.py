"""RFC 8414 metadata, JWKS, and an issuer with a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server


def test_both_well_known_names_hold_the_same_metadata(server: Server, outside: httpx.Client) -> None:
    first = outside.get("/.well-known/oauth-authorization-server")
    assert first.json() == outside.get("/.well-known/openid-configuration").json()
    methods = ["client_secret_basic", "private_key_jwt"]
    algorithms = ["ES256", "EdDSA", "PS256", "RS256"]
    assert first.json() == {
        "issuer": server.issuer,
        "token_endpoint": f"{server.issuer}/oauth2/token",
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": f"{server.issuer}/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "jwks_uri": f"{server.issuer}/oauth2/jwks",
        "scopes_supported": ["orders:read", "orders:write"],
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
    }


def test_jwks_holds_public_signature_keys_only(outside: httpx.Client) -> None:
    keys = outside.get("/oauth2/jwks").json()["keys"]
    assert len(keys) == 2
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["use"], key["alg"]) == ("sig", "ES256")


def test_an_issuer_with_a_path_has_its_endpoints_below_it(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.issuer = f"https://localhost:{server.public_port}/tenant/one"
    server.write_config()
    with server.start().outside() as http:
        root = f"https://localhost:{server.public_port}"
        metadata = http.get(f"{root}/.well-known/oauth-authorization-server/tenant/one").json()
        assert metadata == http.get(f"{root}/tenant/one/.well-known/openid-configuration").json()
        assert metadata["jwks_uri"] == f"{root}/tenant/one/oauth2/jwks"
        assert http.get(metadata["jwks_uri"]).status_code == 200
        assert http.post(metadata["token_endpoint"], data={"grant_type": "x"}).status_code == 401
