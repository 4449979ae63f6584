"""Coming as a client that one is not: confused JWTs, assertions from elsewhere, names without a proof."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dpop_support import DpopKey, sign_exactly
from identity_support import (
    assert_with,
    assertion,
    basic,
    credentials,
    introspect,
    jwks_of,
    signing_key,
    token_for,
)

from stockade.identity import admin
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.jose import parse, sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Server
    from joserfc.jwk import Key

    from stockade.identity.admin import CreatedClient

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def key() -> Key:
    return signing_key(kid="k1")


@pytest.fixture(scope="module")
def client(server: Server, key: Key) -> CreatedClient:
    return server.client("proves-by-key", auth_method="private_key_jwt", jwks=jwks_of(key))


@pytest.fixture(scope="module")
def public(server: Server) -> CreatedClient:
    return server.client("public", auth_method="none", metadata=ClientMetadata(grant_types=(DEVICE,)))


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


# --- JWT confusion ---


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "k1' OR '1'='1"},
        {"kid": "k1\x00"},
        {"kid": ""},
        {"kid": 1},
        {"kid": ["k1"]},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"crit": ["exp"], "exp": 9_999_999_999},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"typ": "at+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": "token-introspection+jwt"},
    ],
    ids=str,
)
def test_a_header_cannot_make_another_key_count(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, header: dict[str, Any]
) -> None:
    """Signed by the attacker's key; and by the right one, where the header itself is out of order."""
    attacker = signing_key(kid="k1")
    assert refused(assert_with(outside, forged(server, client, attacker, header)))
    if {"jku", "x5u"} & header.keys():
        return
    assert refused(assert_with(outside, forged(server, client, key, header)))


def forged(server: Server, client: CreatedClient, key: Key, header: dict[str, Any], **claims: Any) -> str:
    """Signed over whatever stands in the header, which the library would not do for us."""
    standard = parse(assertion(server, client.client_id, key)).claims
    return sign_exactly(key, {"alg": "ES256", "kid": "k1", **header}, {**standard, **claims})


def test_the_forger_can_sign_what_is_right(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    """Otherwise the tests above would show nothing."""
    assert assert_with(outside, forged(server, client, key, {})).status_code == 200


def test_a_jwt_in_a_jwt_is_not_unwrapped(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    inner = assertion(server, client.client_id, key)
    outer = sign({"alg": "ES256", "kid": "k1", "cty": "JWT"}, {"jwt": inner}, signing_key(kid="k1"))
    assert refused(assert_with(outside, outer))
    encoded = urlsafe_b64encode(inner.encode()).rstrip(b"=").decode()
    head = urlsafe_b64encode(b'{"alg":"ES256","kid":"k1","cty":"JWT"}').rstrip(b"=").decode()
    assert refused(assert_with(outside, f"{head}.{encoded}.{inner.rpartition('.')[2]}"))
    encrypted = ".".join(
        [urlsafe_b64encode(b'{"alg":"dir","enc":"A256GCM"}').rstrip(b"=").decode(), "", "AA", "AA", "AA"]
    )
    assert refused(assert_with(outside, encrypted))


def test_an_assertion_in_json_serialization_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    head, claims, signature = assertion(server, client.client_id, key).split(".")
    flattened = json.dumps({"protected": head, "payload": claims, "signature": signature})
    assert refused(assert_with(outside, flattened))


def test_a_proof_of_a_key_is_no_proof_of_a_client(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    """A DPoP proof signed by the client's own key, with all the claims of an assertion."""
    now = int(time.time())
    claims = {"iss": client.client_id, "sub": client.client_id, "aud": server.issuer, "exp": now + 60}
    proof = DpopKey(key).proof("POST", server.token_url, **claims)
    assert refused(assert_with(outside, proof))


@pytest.mark.parametrize("claim", ["iss", "sub", "jti", "aud"])
def test_text_that_cannot_be_kept_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, claim: str
) -> None:
    """Half a character (RFC 8259 §8.2): no assertion, and no fault of the server's."""
    assert refused(assert_with(outside, forged(server, client, key, {}, **{claim: "\ud800"})))


# --- Assertions from elsewhere ---


def test_an_assertion_for_another_server_is_no_good_here(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    for aud in ("https://bank.example", f"{server.issuer}.evil.example", server.issuer.upper(), "*", ""):
        assert refused(assert_with(outside, assertion(server, client.client_id, key, aud=aud)))


def test_an_assertion_used_at_one_server_is_used_at_all(make_server: Callable[..., Server], key: Key) -> None:
    """Two servers, one database: RFC 7523 §3 rule 7 for both together."""
    first = make_server()
    kek = {"file": str(first.folder / "kek")}
    with first:
        second = make_server(database_url=first.database_url, issuer=first.issuer, key_encryption_key=kek)
        with second, first.outside() as http, second.outside() as other:
            other.base_url = httpx.URL(f"https://localhost:{second.public_port}")
            client = first.client("everywhere", auth_method="private_key_jwt", jwks=jwks_of(key))
            text = assertion(first, client.client_id, key)
            assert assert_with(other, text).status_code == 200
            assert refused(assert_with(http, text))


def test_an_assertion_used_at_one_endpoint_is_used_at_all(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    text = assertion(server, client.client_id, key)
    assert assert_with(outside, text, "/oauth2/revoke", token="x").status_code == 200
    assert refused(assert_with(outside, text))


def test_an_assertion_of_one_client_is_not_anothers(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key
) -> None:
    victim = server.client("victim", auth_method="private_key_jwt", jwks=jwks_of(signing_key(kid="k1")))
    for claims in ({"sub": victim.client_id}, {"iss": victim.client_id}):
        assert refused(assert_with(outside, assertion(server, client.client_id, key, **claims)))
    both = {"sub": victim.client_id, "iss": victim.client_id}
    assert refused(assert_with(outside, assertion(server, client.client_id, key, **both)))


# --- A name and nothing else ---


def test_a_public_client_says_its_name_and_a_confidential_one_must_prove_it(
    server: Server, outside: httpx.Client, client: CreatedClient, public: CreatedClient
) -> None:
    secret = server.client("secret")
    form = {"grant_type": "client_credentials"}
    for confidential in (client, secret):
        assert refused(outside.post("/oauth2/token", data={**form, "client_id": confidential.client_id}))
    named = outside.post("/oauth2/token", data={**form, "client_id": public.client_id})
    assert (named.status_code, named.json()["error"]) == (400, "unauthorized_client")


def test_a_public_client_has_no_secret_to_guess(outside: httpx.Client, public: CreatedClient) -> None:
    form = {"grant_type": DEVICE, "device_code": "x"}
    for secret in ("", "x", "None"):
        assert refused(outside.post("/oauth2/token", data=form, headers=basic(public.client_id, secret)))
        posted = {**form, "client_id": public.client_id, "client_secret": secret or "x"}
        assert refused(outside.post("/oauth2/token", data=posted))


def test_a_public_client_cannot_have_a_token_for_itself(
    server: Server, outside: httpx.Client, public: CreatedClient
) -> None:
    """Nor exchange one: whatever stands in its registration."""
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    form = {"grant_type": exchange, "subject_token": "x", "subject_token_type": "x", "client_id": public.client_id}
    answer = outside.post("/oauth2/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


def test_an_unknown_name_and_a_disabled_one_get_the_same_answer(server: Server, outside: httpx.Client) -> None:
    gone = server.client("gone", auth_method="none", metadata=ClientMetadata(grant_types=(DEVICE,)))
    with server.storage() as storage:
        admin.disable_client(storage, gone.client_id)
    form = {"grant_type": DEVICE, "device_code": "x"}
    answers = [outside.post("/oauth2/token", data={**form, "client_id": name}) for name in (gone.client_id, "c_nobody")]
    assert all(refused(answer) for answer in answers)
    assert answers[0].text == answers[1].text


def test_guessing_names_is_slowed_down(make_server: Callable[..., Server]) -> None:
    with make_server(throttling={"address_burst": 5, "address_seconds_each": 60}) as server, server.outside() as http:
        form = {"grant_type": DEVICE, "device_code": "x"}
        answers = [http.post("/oauth2/token", data={**form, "client_id": f"c_{n}"}) for n in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 1


@pytest.mark.parametrize("extra", ["client_secret", "client_assertion"])
def test_two_proofs_at_once_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: Key, extra: str
) -> None:
    form = {"grant_type": "client_credentials", extra: "x", "client_id": client.client_id}
    answer = outside.post("/oauth2/token", data=form, headers=basic(client.client_id, "x"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_the_token_of_a_proved_client_stays_its_own(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, key: Key
) -> None:
    """A `client_id` beside the proof changes nothing but the error."""
    other = server.client("bystander")
    answer = assert_with(outside, assertion(server, client.client_id, key), client_id=other.client_id)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    token = token_for(outside, other, client_id=other.client_id)
    assert introspect(gateway, token)["client_id"] == other.client_id
    revoked = outside.post(
        "/oauth2/revoke", data={"token": token, "client_id": other.client_id}, headers=credentials(other)
    )
    assert revoked.status_code == 200
