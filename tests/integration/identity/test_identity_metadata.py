"""RFC 8414 metadata, JWKS, and an issuer with a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server


@pytest.mark.standard(
    "RFC 8414 §2 (2)",
    "RFC 8414 §3 (1)",
    "RFC 8414 §3.3 (1)",
    "RFC 9207 §3 (1)",
    "OIDC Discovery §3 (1)",
    "OIDC Discovery §3 (2)",
    "OIDC Discovery §4 (1)",
)
def test_both_well_known_names_hold_the_same_metadata(server: Server, outside: httpx.Client) -> None:
    first = outside.get("/.well-known/oauth-authorization-server")
    assert first.json() == outside.get("/.well-known/openid-configuration").json()
    document = first.json()
    assert document["issuer"] == server.issuer
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["authorization_response_iss_parameter_supported"] is True
    assert document["request_parameter_supported"] is document["request_uri_parameter_supported"] is False
    assert set(document["scopes_supported"]) == {
        "orders:read", "orders:write", "openid", "profile", "email", "offline_access"
    }  # fmt: skip
    assert set(document["token_endpoint_auth_methods_supported"]) == {"client_secret_basic", "private_key_jwt", "none"}
    assert "mtls_endpoint_aliases" not in document


@pytest.mark.standard("RFC 8414 §2 (3)")
def test_every_endpoint_that_is_announced_is_there_and_below_the_issuer(server: Server, outside: httpx.Client) -> None:
    document = outside.get("/.well-known/openid-configuration").json()
    urls = [value for name, value in document.items() if name.endswith("_endpoint") or name == "jwks_uri"]
    assert len(urls) >= 7
    for url in urls:
        assert url.startswith(f"{server.issuer}/oauth2/")
        assert 404 not in (outside.get(url).status_code, outside.post(url, data={"x": "y"}).status_code)


def test_the_profile_fapi2_announces_no_more_than_it_takes(make_server: Callable[..., Server]) -> None:
    with make_server(profile="fapi2").start().outside() as http:
        document = http.get("/.well-known/openid-configuration").json()
    assert document["require_pushed_authorization_requests"] is True
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert set(document["token_endpoint_auth_signing_alg_values_supported"]) <= {"ES256", "PS256", "EdDSA", "Ed25519"}


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
