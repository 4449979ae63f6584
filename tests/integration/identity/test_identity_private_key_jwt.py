"""`private_key_jwt` (RFC 7523), and the ways in which JWTs are confused."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import assert_with, assertion, credentials, jwks_of, signing_key

if TYPE_CHECKING:
    import httpx
    from identity_support import Server
    from joserfc.jwk import Key

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def key() -> Key:
    return signing_key(kid="k1")


@pytest.fixture(scope="module")
def client(server: Server, key: Key) -> CreatedClient:
    jwks = jwks_of(key, signing_key(kid="k2"))
    return server.client("by-assertion", auth_method="private_key_jwt", jwks=jwks)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "PS256", "RS256"])
def test_each_listed_algorithm_is_accepted(server: Server, outside: httpx.Client, algorithm: str) -> None:
    key = signing_key(algorithm, kid="k")
    client = server.client(f"alg-{algorithm}", auth_method="private_key_jwt", jwks=jwks_of(key))
    text = assertion(server, client.client_id, key, {"alg": algorithm})
    assert assert_with(outside, text).status_code == 200


def test_a_single_key_needs_no_kid(server: Server, outside: httpx.Client) -> None:
    key = signing_key()
    client = server.client("one-key", auth_method="private_key_jwt", jwks={"keys": [key.as_dict(private=False)]})
    assert assert_with(outside, _resigned(server, client, key, {"alg": "ES256"})).status_code == 200


@pytest.mark.parametrize("audience", ["issuer", "token_url"])
def test_audience_is_the_issuer_or_the_token_endpoint(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, audience: str
) -> None:
    text = assertion(server, client.client_id, key, aud=getattr(server, audience))
    assert assert_with(outside, text).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://elsewhere.example"},
        {"aud": None},
        {"aud": []},
        {"exp": None},
        {"exp": 1},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": float(2**63)},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 300},
        {"iss": "c_other"},
        {"iss": None},
        {"sub": None},
        {"sub": "c_other"},
        {"nbf": 99999999999},
        {"iat": 99999999999},
        {"iat": "now"},
    ],
    ids=str,
)
def test_claims_out_of_order_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, claims: dict[str, Any]
) -> None:
    answer = assert_with(outside, assertion(server, client.client_id, key, **claims))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_assertion_good_for_two_audiences_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    text = assertion(server, client.client_id, key, aud=[server.issuer, "https://elsewhere.example"])
    assert assert_with(outside, text).status_code == 401


def test_an_assertion_that_lives_long_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    """An hour is what widespread clients choose who do not choose; FAPI 2.0 clients have five minutes."""
    hour = int(time.time()) + 3_600
    assert assert_with(outside, assertion(server, client.client_id, key, exp=hour)).status_code == 200
    assert assert_with(outside, assertion(server, client.client_id, key, exp=hour + 100)).status_code == 401


def test_an_assertion_is_good_once(server: Server, outside: httpx.Client, client: CreatedClient, key: Key) -> None:
    text = assertion(server, client.client_id, key)
    assert assert_with(outside, text).status_code == 200
    assert assert_with(outside, text).status_code == 401


def test_an_assertion_used_in_vain_is_used(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    """Otherwise who sees a refused request could send its assertion again with another scope."""
    text = assertion(server, client.client_id, key)
    assert assert_with(outside, text, scope="admin").json()["error"] == "invalid_scope"
    assert assert_with(outside, text).status_code == 401


def test_parallel_uses_of_one_assertion_give_one_token(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    text = assertion(server, client.client_id, key)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: assert_with(outside, text).status_code, range(8)))
    assert sorted(statuses)[:2] == [200, 401]


def test_a_used_assertion_stays_used_after_a_crash(make_server: Any) -> None:
    key = signing_key(kid="k")
    server = make_server()
    client = server.client("c", auth_method="private_key_jwt", jwks=jwks_of(key))
    text = assertion(server, client.client_id, key)
    with server.start().outside() as http:
        assert assert_with(http, text).status_code == 200
    server.kill()
    with server.start().outside() as http:
        assert assert_with(http, text).status_code == 401


def test_the_key_named_by_kid_is_the_one_that_counts(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    assert assert_with(outside, assertion(server, client.client_id, key, {"kid": "k2"})).status_code == 401
    assert assert_with(outside, assertion(server, client.client_id, key, {"kid": "unknown"})).status_code == 401


def test_without_kid_several_keys_are_ambiguous(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    assert assert_with(outside, _resigned(server, client, key, {"alg": "ES256"})).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"typ": "at+jwt"},
        {"kid": 7},
        {"kid": ["k1"]},
        {"alg": None},
        {"alg": "ES384"},
        {"alg": "RS256"},
    ],
    ids=str,
)
def test_strange_headers_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, header: dict[str, Any]
) -> None:
    text = _resigned(server, client, key, {"alg": "ES256", "kid": "k1", **header})
    assert assert_with(outside, text).status_code == 401


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c"])
def test_keys_brought_in_the_header_are_not_used(
    server: Server, outside: httpx.Client, client: CreatedClient, member: str
) -> None:
    stranger = signing_key(kid="k1")
    value = {
        "jku": "https://attacker.example/jwks",
        "x5u": "https://attacker.example/x5u",
        "jwk": stranger.as_dict(private=False),
        "x5c": ["MIIB"],
    }[member]
    text = _resigned(server, client, stranger, {"alg": "ES256", "kid": "k1", member: value})
    assert assert_with(outside, text).status_code == 401


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
def test_an_unsigned_assertion_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, alg: str
) -> None:
    _, claims, signature = assertion(server, client.client_id, key).split(".")
    header = _encode({"alg": alg, "kid": "k1"})
    assert assert_with(outside, f"{header}.{claims}.").status_code == 401
    assert assert_with(outside, f"{header}.{claims}.{signature}").status_code == 401


def test_a_public_key_is_no_hmac_secret(server: Server, outside: httpx.Client) -> None:
    """Whatever bytes of the public key the attacker takes for the secret."""
    key = signing_key("RS256", kid="k")
    client = server.client("hmac", auth_method="private_key_jwt", jwks=jwks_of(key))
    _, claims, _ = assertion(server, client.client_id, key, {"alg": "RS256"}).split(".")
    header = _encode({"alg": "HS256", "kid": "k"})
    for secret in (key.as_pem(private=False), key.as_der(private=False), json.dumps(jwks_of(key)).encode()):
        mac = hmac.new(secret, f"{header}.{claims}".encode(), hashlib.sha256).digest()
        text = f"{header}.{claims}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert assert_with(outside, text).status_code == 401


def test_an_altered_assertion_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    header, _, signature = assertion(server, client.client_id, key).split(".")
    _, claims, _ = assertion(server, client.client_id, key).split(".")
    assert assert_with(outside, f"{header}.{claims}.{signature}").status_code == 401
    assert assert_with(outside, f"{header}.{claims}.{'A' * 86}").status_code == 401
    assert assert_with(outside, "not.a.jwt").status_code == 401
    assert assert_with(outside, "x" * 20_000).status_code == 401


def test_duplicate_claims_are_refused(server: Server, outside: httpx.Client, client: CreatedClient, key: Key) -> None:
    header, claims, signature = assertion(server, client.client_id, key).split(".")
    doubled = urlsafe_b64encode(b'{"sub":"a","sub":"b"}').rstrip(b"=").decode()
    assert assert_with(outside, f"{header}.{doubled}.{signature}").status_code == 401
    assert claims


def test_each_client_proves_with_its_own_key(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    other_key = signing_key(kid="k1")
    server.client("its-own-key", auth_method="private_key_jwt", jwks=jwks_of(other_key))
    assert assert_with(outside, assertion(server, client.client_id, other_key)).status_code == 401


def test_only_the_registered_method_counts(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    by_secret = server.client("by-secret")
    assert assert_with(outside, assertion(server, by_secret.client_id, key)).status_code == 401
    headers = credentials(by_secret)
    assert outside.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=headers).status_code == 200
    assert client.client_secret is None


def test_assertion_type_must_be_the_registered_one(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    for wrong in ("", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"):
        text = assertion(server, client.client_id, key)
        answer = assert_with(outside, text, client_assertion_type=wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_client_id_beside_the_assertion_must_agree(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    text = assertion(server, client.client_id, key)
    assert assert_with(outside, text, client_id="c_other").json()["error"] == "invalid_request"
    assert assert_with(outside, text, client_id=client.client_id).status_code == 200


def _encode(value: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _resigned(server: Server, client: CreatedClient, key: Key, header: dict[str, Any]) -> str:
    """An assertion under any header, signed by ES256 over what is really sent."""
    from joserfc.jws import JWSRegistry

    _, claims, _ = assertion(server, client.client_id, key).split(".")
    signing_input = f"{_encode({name: value for name, value in header.items() if value is not None})}.{claims}"
    signature = JWSRegistry.algorithms["ES256"].sign(signing_input.encode(), key)
    return f"{signing_input}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"
