"""DPoP at the token endpoint and at userinfo (RFC 9449), and what a thief would try."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dpop_support import DpopKey, sign_exactly
from identity_support import AUDIENCE, ask, basic, credentials, introspect, signing_key
from signed_in_support import make_person

from stockade.identity.binding import Binding
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.tokens import NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Server

    from stockade.identity.admin import CreatedClient

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return server.client("dpop-client")


@pytest.fixture
def key(outside: httpx.Client, client: CreatedClient) -> DpopKey:
    """One that has a nonce already."""
    made = DpopKey()
    made.post(outside, "/oauth2/token", credentials(client), **GRANT)
    assert made.nonce is not None
    return made


def send(http: httpx.Client, client: CreatedClient, *proofs: str, **form: str) -> httpx.Response:
    headers = [*credentials(client).items(), *(("DPoP", proof) for proof in proofs)]
    return http.post("/oauth2/token", data={**GRANT, **form}, headers=headers)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def refused(answer: httpx.Response) -> bool:
    return error_of(answer) == (400, "invalid_dpop_proof")


def test_a_token_asked_for_with_a_proof_is_bound_to_its_key(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    key = DpopKey()
    answer = key.post(outside, "/oauth2/token", credentials(client), **GRANT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    known = introspect(gateway, answer.json()["access_token"])
    assert known["cnf"] == {"jkt": key.jkt}
    assert known["token_type"] == "DPoP"


def test_without_a_proof_a_token_is_bearer(outside: httpx.Client, client: CreatedClient) -> None:
    assert ask(outside, client).json()["token_type"] == "Bearer"


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "Ed25519", "PS256"])
def test_each_announced_algorithm_is_taken(outside: httpx.Client, client: CreatedClient, algorithm: str) -> None:
    family = "EdDSA" if algorithm == "Ed25519" else algorithm
    key = DpopKey(signing_key(family), algorithm)
    assert (
        algorithm in outside.get("/.well-known/oauth-authorization-server").json()["dpop_signing_alg_values_supported"]
    )
    answer = key.post(outside, "/oauth2/token", credentials(client), **GRANT)
    assert answer.status_code == 200, answer.text


# --- The twelve checks of §4.3 ---


def test_check_1_two_proofs_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    proofs = [key.proof("POST", server.token_url) for _ in range(2)]
    assert refused(send(outside, client, *proofs))
    assert refused(send(outside, client, ", ".join(proofs)))


@pytest.mark.parametrize("text", ["x", "a.b.c", "e30.e30.", "..", "a" * 20_000 + ".b.c", "e30.e30.AA.AA"])
def test_check_2_what_is_no_jwt_is_refused(outside: httpx.Client, client: CreatedClient, text: str) -> None:
    answer = send(outside, client, text)
    assert answer.status_code == 400


@pytest.mark.parametrize("claim", ["jti", "htm", "htu", "iat"])
@pytest.mark.parametrize("value", [None, 7, "", {"x": 1}, True])
def test_check_3_a_required_claim_missing_or_of_the_wrong_type_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, claim: str, value: Any
) -> None:
    if (claim, value) == ("iat", 7):
        value = "now"
    claims = {claim: value}
    assert refused(send(outside, client, key.proof("POST", server.token_url, **claims)))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/dpop+jwt", "DPoP+jwt", None])
def test_check_4_another_kind_of_jwt_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, typ: str | None
) -> None:
    assert refused(send(outside, client, key.proof("POST", server.token_url, header={"typ": typ})))


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"x" * 64) -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_check_5_no_signature_and_shared_secrets_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    """`none`, and HMAC with the public key as the secret."""
    import hashlib
    import hmac

    claims = {"jti": "a", "htm": "POST", "htu": server.token_url, "iat": int(time.time()), "nonce": key.nonce}
    public = key.key.as_dict(private=False)
    for alg in ("none", "None", "HS256", "RS1", "ES256K"):
        header = {"typ": "dpop+jwt", "alg": alg, "jwk": public}
        unsigned = forged(header, claims).rpartition(".")[0]
        for secret in (b"", json.dumps(public).encode(), b"k"):
            mac = hmac.digest(secret, unsigned.encode(), hashlib.sha256)
            assert refused(send(outside, client, forged(header, claims, mac)))
    symmetric = {"typ": "dpop+jwt", "alg": "HS256", "jwk": {"kty": "oct", "k": "a2tra2tra2tra2tra2tra2tra2tra2s"}}
    assert refused(send(outside, client, forged(symmetric, claims)))


@pytest.mark.parametrize("algorithm", ["RS256", "ES384", "PS384"])
def test_check_5_algorithms_beyond_the_announced_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, algorithm: str
) -> None:
    other = DpopKey(signing_key(algorithm), algorithm, key.nonce)
    assert refused(send(outside, client, other.proof("POST", server.token_url)))


def test_check_6_a_proof_signed_by_another_key_than_it_shows_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    """A thief knows the victim's public key, and would have a token bound to it or use one that is."""
    thief = DpopKey(nonce=key.nonce)
    header = {"jwk": key.key.as_dict(private=False)}
    assert refused(send(outside, client, thief.proof("POST", server.token_url, header=header)))
    tampered = key.proof("POST", server.token_url)[:-4] + "AAAA"
    assert refused(send(outside, client, tampered))


def test_check_7_a_private_key_in_the_header_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    header = {"jwk": key.key.as_dict(private=True)}
    assert refused(send(outside, client, key.proof("POST", server.token_url, header=header)))


@pytest.mark.parametrize("jwk", [None, {}, [], "x", {"kty": "EC"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}])
def test_the_key_must_be_in_the_header_and_be_one(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, jwk: Any
) -> None:
    claims = {"jti": "a", "htm": "POST", "htu": server.token_url, "iat": int(time.time()), "nonce": key.nonce}
    header = {"typ": "dpop+jwt", "alg": "ES256", **({} if jwk is None else {"jwk": jwk})}
    assert refused(send(outside, client, forged(header, claims)))


@pytest.mark.parametrize("name", ["kid", "jku", "x5u", "x5c"])
def test_a_key_is_never_taken_from_anywhere_but_the_jwk_header(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, name: str
) -> None:
    value: Any = ["AA"] if name == "x5c" else "https://evil.example/keys"
    text = key.proof("POST", server.token_url, header={"jwk": None, name: value})
    assert refused(send(outside, client, text))


def test_critical_headers_and_duplicate_members_are_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    proof = key.proof("POST", server.token_url)
    claims = json.loads(urlsafe_b64decode(proof.split(".")[1] + "=="))
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.key.as_dict(private=False), "crit": ["exp"], "exp": 1}
    assert refused(send(outside, client, sign_exactly(key.key, header, claims)))
    twice = '{"htm":"POST","htm":"GET"}'
    encoded = urlsafe_b64encode(twice.encode()).rstrip(b"=").decode()
    first, _, last = proof.split(".")
    assert refused(send(outside, client, f"{first}.{encoded}.{last}"))


@pytest.mark.parametrize("method", ["GET", "PUT", "post", "Post", "POST "])
def test_check_8_a_proof_for_another_method_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, method: str
) -> None:
    assert refused(send(outside, client, key.proof(method, server.token_url)))


@pytest.mark.parametrize(
    "uri",
    [
        "{issuer}/oauth2/revoke",
        "{issuer}/oauth2/token/",
        "{issuer}/oauth2/../oauth2/token",
        "{issuer}/OAUTH2/token",
        "{issuer}//oauth2/token",
        "{issuer}",
        "https://localhost:1/oauth2/token",
        "https://localhost/oauth2/token",
        "http://localhost:{port}/oauth2/token",
        "https://evil.example/oauth2/token",
        "https://x@localhost:{port}/oauth2/token",
        "https://localhost:{port}@evil.example/oauth2/token",
        "https://evil.example/?{issuer}/oauth2/token",
        "https://evil.example/#{issuer}/oauth2/token",
        "https://localhost:{port}x/oauth2/token",
        "/oauth2/token",
        "oauth2/token",
    ],
)
def test_check_9_a_proof_for_another_uri_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, uri: str
) -> None:
    htu = uri.replace("{issuer}", server.issuer).replace("{port}", str(server.public_port))
    assert refused(send(outside, client, key.proof("POST", htu)))


@pytest.mark.parametrize(
    "uri",
    [
        "{issuer}/oauth2/token?a=b",
        "{issuer}/oauth2/token#x",
        "HTTPS://LOCALHOST:{port}/oauth2/token",
        "{issuer}/oauth2/%74oken",
    ],
)
def test_check_9_query_fragment_and_spelling_make_no_difference(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, uri: str
) -> None:
    htu = uri.replace("{issuer}", server.issuer).replace("{port}", str(server.public_port))
    assert send(outside, client, key.proof("POST", htu)).status_code == 200


def test_check_9_the_host_header_has_no_say(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    """A proof that was made for evil.example, forwarded from there."""
    proof = key.proof("POST", "https://evil.example/oauth2/token")
    headers = {**credentials(client), "DPoP": proof, "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    assert refused(outside.post("/oauth2/token", data=GRANT, headers=headers))


def test_check_10_without_a_nonce_the_client_is_given_one(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    """RFC 9449 §8."""
    key = DpopKey()
    answer = send(outside, client, key.proof("POST", server.token_url))
    assert error_of(answer) == (400, "use_dpop_nonce")
    key.nonce = answer.headers["dpop-nonce"]
    assert send(outside, client, key.proof("POST", server.token_url)).status_code == 200


@pytest.mark.parametrize("spoil", ["other", "tampered", "padded", "old", "future", "gateway"])
def test_check_10_a_nonce_that_is_not_ours_or_not_fresh_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, spoil: str
) -> None:
    assert key.nonce
    raw = bytearray(urlsafe_b64decode(key.nonce))
    if spoil == "tampered":
        raw[-1] ^= 1
    elif spoil == "old":
        raw[7] ^= 0x80
    elif spoil == "future":
        raw[0] = 1
    nonces = {"other": "x", "padded": key.nonce + "==", "gateway": "A" * 32}
    key.nonce = nonces.get(spoil, urlsafe_b64encode(raw).decode())
    assert error_of(send(outside, client, key.proof("POST", server.token_url))) == (400, "use_dpop_nonce")


def test_every_answer_to_a_proof_brings_a_fresh_nonce(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    good = send(outside, client, key.proof("POST", server.token_url))
    bad_scope = send(outside, client, key.proof("POST", server.token_url), scope="admin")
    bad_proof = send(outside, client, key.proof("GET", server.token_url))
    assert [good.status_code, bad_scope.status_code, bad_proof.status_code] == [200, 400, 400]
    assert all(len(answer.headers["dpop-nonce"]) == 32 for answer in (good, bad_scope, bad_proof))


@pytest.mark.parametrize(
    ("seconds", "taken"), [(-300, False), (-70, False), (-30, True), (8, True), (30, False), (9e9, False)]
)
def test_check_11_a_proof_from_the_past_or_the_future_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, seconds: float, taken: bool
) -> None:
    proof = key.proof("POST", server.token_url, iat=int(time.time() + seconds))
    assert (send(outside, client, proof).status_code == 200) is taken


# --- Replay (§11.1) ---


def test_a_proof_seen_on_the_wire_cannot_be_replayed(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    proof = key.proof("POST", server.token_url)
    assert send(outside, client, proof).status_code == 200
    assert refused(send(outside, client, proof))


def test_a_proof_replayed_in_parallel_is_good_once(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    proof = key.proof("POST", server.token_url)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(outside, client, proof).status_code, range(8)))
    assert sorted(answers) == [200] + [400] * 7


def test_a_jti_is_spent_for_its_key_alone(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    """Nobody can use up another's identifiers by guessing them."""
    other = DpopKey(nonce=key.nonce)
    assert send(outside, client, key.proof("POST", server.token_url, jti="one")).status_code == 200
    assert send(outside, client, other.proof("POST", server.token_url, jti="one")).status_code == 200
    assert refused(send(outside, client, key.proof("POST", server.token_url, jti="one")))


def test_a_proof_used_in_vain_is_used(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    proof = key.proof("POST", server.token_url)
    assert error_of(send(outside, client, proof, scope="admin"))[1] == "invalid_scope"
    assert refused(send(outside, client, proof))


def test_neither_a_restart_nor_a_second_server_forgets_a_proof(make_server: Callable[..., Server]) -> None:
    """And both know the nonces of each other: they come from the database that they share."""
    first = make_server()
    with first:
        second = make_server(
            database_url=first.database_url, issuer=first.issuer, key_encryption_key={"file": str(first.folder / "kek")}
        )
        with second, first.outside() as http, second.outside() as other:
            client, key = first.client("both"), DpopKey()
            other.base_url = httpx.URL(f"https://localhost:{second.public_port}")
            key.post(http, "/oauth2/token", credentials(client), **GRANT)
            proof = key.proof("POST", first.token_url)
            assert send(other, client, proof).status_code == 200
            assert refused(send(http, client, proof))
            kept = key.proof("POST", first.token_url)
            assert send(http, client, kept).status_code == 200
    with first, first.outside() as http:
        assert refused(send(http, client, kept))


def test_a_server_with_another_database_does_not_know_the_nonce(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, make_server: Callable[..., Server]
) -> None:
    with make_server() as elsewhere, elsewhere.outside() as http:
        there = elsewhere.client("there")
        assert error_of(send(http, there, key.proof("POST", elsewhere.token_url))) == (400, "use_dpop_nonce")


def test_nonces_can_be_switched_off(make_server: Callable[..., Server]) -> None:
    with make_server(dpop={"nonce": False}) as server, server.outside() as http:
        client, key = server.client("no-nonce"), DpopKey()
        answer = send(http, client, key.proof("POST", server.token_url))
        assert answer.status_code == 200
        assert "dpop-nonce" not in answer.headers


@pytest.mark.parametrize("claim", ["jti", "nonce", "ath", "htu", "htm"])
@pytest.mark.parametrize("value", ["\ud800", "a\x00b", "x" * 5_000])
def test_text_that_cannot_be_kept_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, key: DpopKey, claim: str, value: str
) -> None:
    """Half a character, a null, a flood: no proof, and no fault of the server's."""
    claims = {
        "jti": "a",
        "htm": "POST",
        "htu": server.token_url,
        "iat": int(time.time()),
        "nonce": key.nonce,
        claim: value,
    }
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.key.as_dict(private=False)}
    answer = send(outside, client, sign_exactly(key.key, header, claims))
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_dpop_proof", "use_dpop_nonce")


def test_a_proof_that_cannot_be_spent_gives_nothing(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http:
        client, key = server.client("locked-out"), DpopKey()
        key.post(http, "/oauth2/token", credentials(client), **GRANT)
        with contextlib.closing(sqlite3.connect(server.folder / "identity.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = send(http, client, key.proof("POST", server.token_url))
            other.execute("ROLLBACK")
        assert error_of(answer) == (503, "temporarily_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert send(http, client, key.proof("POST", server.token_url)).status_code == 200


# --- Who may have bearer tokens ---


def test_a_client_registered_for_bound_tokens_gets_no_others(server: Server, outside: httpx.Client) -> None:
    client = server.client("bound-only", metadata=ClientMetadata(dpop_bound_access_tokens=True))
    assert error_of(ask(outside, client)) == (400, "invalid_request")
    key = DpopKey()
    assert key.post(outside, "/oauth2/token", credentials(client), **GRANT).json()["token_type"] == "DPoP"


def test_where_binding_is_required_nobody_gets_a_bearer_token(make_server: Callable[..., Server]) -> None:
    with make_server(token_binding="required") as server, server.outside() as http:
        client, key = server.client("anyone"), DpopKey()
        refusal = ask(http, client)
        assert error_of(refusal) == (400, "invalid_request")
        # Enough to go on: RFC 9449 §8 lets the nonce come with any answer.
        key.nonce = refusal.headers["dpop-nonce"]
        assert send(http, client, key.proof("POST", server.token_url)).status_code == 200


def test_a_proof_proves_a_key_and_no_client(server: Server, outside: httpx.Client, key: DpopKey) -> None:
    headers = {**basic("c_nobody", "wrong"), "DPoP": key.proof("POST", server.token_url)}
    answer = outside.post("/oauth2/token", data=GRANT, headers=headers)
    assert error_of(answer) == (401, "invalid_client")


# --- Using a bound token at the server itself (check 12) ---


@pytest.fixture(scope="module")
def owner(server: Server) -> DpopKey:
    return DpopKey()


def token_of(server: Server, client: CreatedClient, binding: Binding | None) -> str:
    text, now = generate(Kind.ACCESS_TOKEN), int(time.time())
    with server.storage() as storage:
        who = make_person(storage)
        row = NewAccessToken(
            digest(text), "jti", client.client_id, 0, ("openid",), AUDIENCE, now, now + 300, binding, who
        )
        with storage.write() as connection:
            insert_access_token(connection, row)
    return text


def userinfo(http: httpx.Client, scheme: str, token: str, proof: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"{scheme} {token}", **({"DPoP": proof} if proof else {})}
    return http.get("/oauth2/userinfo", headers=headers)


def with_nonce(http: httpx.Client, key: DpopKey, token: str) -> None:
    answer = userinfo(http, "DPoP", token, key.proof("GET", str(http.base_url.join("/oauth2/userinfo")), token=token))
    key.nonce = answer.headers["dpop-nonce"]


def test_check_12_a_bound_token_is_good_with_its_key(
    server: Server, outside: httpx.Client, client: CreatedClient, owner: DpopKey
) -> None:
    token, url = token_of(server, client, Binding("jkt", owner.jkt)), f"{server.issuer}/oauth2/userinfo"
    first = userinfo(outside, "DPoP", token, owner.proof("GET", url, token=token))
    assert (first.status_code, first.json()["error"]) == (401, "use_dpop_nonce")
    assert 'error="use_dpop_nonce"' in first.headers["www-authenticate"]
    owner.nonce = first.headers["dpop-nonce"]
    proof = owner.proof("GET", url, token=token)
    assert userinfo(outside, "DPoP", token, proof).status_code == 200
    replayed = userinfo(outside, "DPoP", token, proof)
    assert (replayed.status_code, replayed.json()["error"]) == (401, "invalid_dpop_proof")


def test_check_12_a_stolen_bound_token_is_worth_nothing(
    server: Server, outside: httpx.Client, client: CreatedClient, owner: DpopKey
) -> None:
    """As bearer, with another key, with a proof for another token, with one for the token endpoint, with none."""
    token, url = token_of(server, client, Binding("jkt", owner.jkt)), f"{server.issuer}/oauth2/userinfo"
    thief = DpopKey()
    with_nonce(outside, thief, token)
    owner.nonce = thief.nonce
    other = token_of(server, client, Binding("jkt", owner.jkt))
    attempts = [
        ("Bearer", None),
        ("Bearer", thief.proof("GET", url, token=token)),
        ("Bearer", owner.proof("GET", url, token=token)),
        ("DPoP", None),
        ("DPoP", thief.proof("GET", url, token=token)),
        ("DPoP", owner.proof("GET", url, token=other)),
        ("DPoP", owner.proof("GET", url)),
        ("DPoP", owner.proof("POST", url, token=token)),
        ("DPoP", owner.proof("GET", server.token_url, token=token)),
    ]
    answers = [userinfo(outside, scheme, token, proof) for scheme, proof in attempts]
    assert {answer.status_code for answer in answers} == {401}
    assert all("DPoP" in answer.headers["www-authenticate"] for answer in answers)


def test_a_bearer_token_does_not_pass_as_a_bound_one(
    server: Server, outside: httpx.Client, client: CreatedClient, owner: DpopKey
) -> None:
    token, url = token_of(server, client, None), f"{server.issuer}/oauth2/userinfo"
    assert userinfo(outside, "Bearer", token).status_code == 200
    assert userinfo(outside, "DPoP", token, owner.proof("GET", url, token=token)).status_code == 401


def test_a_certificate_bound_token_is_no_good_without_its_certificate(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    token = token_of(server, client, Binding("x5t#S256", "A" * 43))
    assert userinfo(outside, "Bearer", token).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Basic x", "DPoP", "x"])
def test_what_is_no_token_gets_the_challenges_of_both_schemes(outside: httpx.Client, header: str) -> None:
    answer = outside.get("/oauth2/userinfo", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert "Bearer" in challenge
    assert 'algs="ES256' in challenge
