"""Bound tokens, step-up and canaries through a whole Stockade: real authorization server, real gateway, TLS."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jws
from joserfc.jwk import ECKey
from shop import shop
from stack import Reply, Stack, Upstream, until

from stockade.identity.binding import Binding
from stockade.identity.certificates import make_internal_ca
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.engine import open_storage
from stockade.identity.storage.tokens import Authorization, NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = "orders:read"


def description() -> dict[str, Any]:
    described = shop()
    described["paths"]["/orders"]["get"]["x-stockade"] = {"internal_token": "operation"}
    described["paths"]["/orders/{id}"]["get"]["x-stockade"] = {"internal_token": "operation"}
    described["paths"]["/orders"]["post"]["x-stockade"] = {"acr": "mfa", "max_age": 300}
    return described


@pytest.fixture(scope="module")
def bound_stack(tmp_path_factory: pytest.TempPathFactory, shared_upstream: Upstream) -> Iterator[Stack]:
    listen = {"tls": {"client_certificate": "any"}}
    with Stack(tmp_path_factory.mktemp("bound"), description(), shared_upstream.url, listen=listen) as running:
        yield running


@pytest.fixture
def gate(bound_stack: Stack, upstream: Upstream) -> Stack:
    upstream.answer = lambda _: Reply(body=b"[]")
    return bound_stack


@dataclass(frozen=True)
class Holder:
    """A client's key, and the proofs that it makes (RFC 9449 §4)."""

    key: ECKey

    @classmethod
    def make(cls) -> Holder:
        return cls(ECKey.generate_key("P-256", auto_kid=False))

    def thumbprint(self) -> str:
        return self.key.thumbprint()

    def proof(self, method: str, url: str, token: str | None = None, **claims: Any) -> str:
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.as_dict(private=False)}
        said = {"jti": secrets.token_urlsafe(12), "htm": method, "htu": url, "iat": int(time.time())}
        if token is not None:
            said["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        return jws.serialize_compact(header, json.dumps(said | claims).encode(), self.key)


def issue(gate: Stack, *, scopes: tuple[str, ...] = (READ,), binding: Binding | None = None, **who: Any) -> str:
    """A token as the server stores it, for what its own endpoints give only to people and to certificates."""
    client_id = gate.client(*scopes)["client_id"]
    text, now = generate(Kind.ACCESS_TOKEN), int(time.time())
    database = f"sqlite:///{Path(gate.ready['state']) / 'identity' / 'identity.db'}"
    with closing(open_storage(database)) as storage, storage.write() as connection:
        client = find_client(connection, client_id, now)
        assert client is not None
        insert_access_token(
            connection,
            NewAccessToken(
                digest=digest(text), jti=secrets.token_urlsafe(12), client_id=client_id, generation=client.generation,
                scopes=scopes, audience=gate.url, issued_at=now, expires_at=now + 300, binding=binding,
                authorization=Authorization(**who),
            ),
        )  # fmt: skip
    return text


def bound_token(gate: Stack, holder: Holder) -> str:
    """A DPoP-bound token from the token endpoint (RFC 9449 §5), which asks for a nonce of its own first."""
    made, endpoint = gate.client(READ), gate.ready["token_endpoint"]
    nonce: dict[str, str] = {}
    for _ in range(2):
        answer = httpx.post(
            endpoint,
            data={"grant_type": "client_credentials"},
            auth=(made["client_id"], made["client_secret"]),
            headers={"DPoP": holder.proof("POST", endpoint, **nonce)},
            verify=gate.tls,
            trust_env=False,
        )
        nonce = {"nonce": answer.headers.get("dpop-nonce", "")}
        if answer.status_code == 200:
            break
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    return str(answer.json()["access_token"])


def ask(client: httpx.Client, gate: Stack, holder: Holder, token: str, **claims: Any) -> httpx.Response:
    proof = holder.proof("GET", f"{gate.url}/orders", token, **claims)
    return client.get("/orders", headers={"Authorization": f"DPoP {token}", "DPoP": proof})


def refusal(gate: Stack, answer: httpx.Response) -> str:
    assert answer.status_code in (401, 403), answer.text
    reason: str = gate.event(answer)["reason"]
    return reason


def test_a_client_gets_a_bound_token_learns_the_nonce_and_goes_on(gate: Stack, upstream: Upstream) -> None:
    holder = Holder.make()
    token = bound_token(gate, holder)
    with gate.http() as client:
        first = ask(client, gate, holder, token)
        assert first.status_code == 401
        assert 'error="use_dpop_nonce"' in first.headers["www-authenticate"]
        nonce = first.headers["dpop-nonce"]
        assert not upstream.seen
        second = ask(client, gate, holder, token, nonce=nonce)
        assert second.status_code == 200
        third = ask(client, gate, holder, token, nonce=second.headers["dpop-nonce"])
        assert third.status_code == 200
    for seen in upstream.seen:
        assert seen.header("dpop") is None
        assert token not in str(seen.headers)
        assert (seen.header("authorization") or "").startswith("Bearer ey")


def test_a_stolen_token_is_worth_nothing_without_its_key(gate: Stack, upstream: Upstream) -> None:
    holder, thief = Holder.make(), Holder.make()
    token = bound_token(gate, holder)
    with gate.http() as client:
        nonce = ask(client, gate, holder, token).headers["dpop-nonce"]
        as_bearer = client.get("/orders", headers={"Authorization": f"Bearer {token}"})
        assert refusal(gate, as_bearer) == "token_bound"
        assert as_bearer.headers.get_list("www-authenticate")[1].startswith("DPoP algs=")
        assert refusal(gate, ask(client, gate, thief, token, nonce=nonce)) == "dpop_proof_invalid"
        # A whole request, proof included, seen on the wire and sent again.
        proof = holder.proof("GET", f"{gate.url}/orders", token, nonce=nonce)
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        assert client.get("/orders", headers=headers).status_code == 200
        upstream.seen.clear()
        assert refusal(gate, client.get("/orders", headers=headers)) == "dpop_replayed"
        assert refusal(gate, client.get("/orders/7", headers=headers)) == "dpop_proof_invalid"
    assert not upstream.seen


def test_a_token_of_a_certificate_needs_that_certificate(gate: Stack, upstream: Upstream, tmp_path: Path) -> None:
    mine, other = make_internal_ca(tmp_path / "mine"), make_internal_ca(tmp_path / "other")
    certificate = load_pem_x509_certificate(mine.gateway_certificate.read_bytes())
    thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    token = issue(gate, binding=Binding("x5t#S256", thumbprint))
    bearer = {"Authorization": f"Bearer {token}"}
    for shown, status in ((mine, 200), (other, 401), (None, 401)):
        tls = ssl.create_default_context(cafile=gate.ca)
        if shown is not None:
            tls.load_cert_chain(shown.gateway_certificate, shown.gateway_key)
        with httpx.Client(base_url=gate.url, verify=tls, trust_env=False) as client:
            for _ in range(2):
                assert client.get("/orders", headers=bearer).status_code == status
    assert len(upstream.seen) == 2


def test_a_weak_sign_in_is_told_how_to_step_up(gate: Stack, upstream: Upstream) -> None:
    upstream.answer = lambda _: Reply(201, body=b'{"id": 1, "sku": "ABC-1234", "qty": 1}')
    scopes, now = ("orders:write",), int(time.time())
    order = {"sku": "ABC-1234", "qty": 1}
    with gate.http() as client:

        def post(**who: Any) -> httpx.Response:
            token = issue(gate, scopes=scopes, **who)
            return client.post("/orders", json=order, headers={"Authorization": f"Bearer {token}"})

        for who in ({}, {"acr": "pwd", "auth_time": now}, {"acr": "mfa", "auth_time": now - 400}, {"acr": "mfa"}):
            answer = post(**who)
            assert refusal(gate, answer) == "acr_insufficient"
            challenge = answer.headers.get_list("www-authenticate")[0]
            assert 'error="insufficient_user_authentication", acr_values="mfa", max_age="300"' in challenge
        assert not upstream.seen
        assert post(acr="mfa", auth_time=now).status_code == 201
        assert post(acr="phr", auth_time=now).status_code == 201


def test_an_internal_token_names_the_one_operation_it_is_for(gate: Stack, upstream: Upstream) -> None:
    token = gate.token(READ)
    upstream.answer = lambda seen: Reply(body=b"[]" if seen.target == "/orders" else b'{"sku": "ABC-1234", "qty": 1}')
    bearer = {"Authorization": f"Bearer {token}"}
    with gate.http() as client:
        for _ in range(3):
            for path in ("/orders", "/orders/7", "/orders/8"):
                assert client.get(path, headers=bearer).status_code == 200
    for seen in upstream.seen:
        payload = (seen.header("authorization") or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        assert claims["operation"] == ("GET /orders" if seen.target == "/orders" else "GET /orders/{id}")
        assert claims["exp"] - claims["iat"] <= 10


def test_a_canary_measures_the_way_of_a_revocation(gate: Stack) -> None:
    until(lambda: "stockade_revocation_canary_seconds_count 1" in gate.metrics(), 15, "the first canary")
    metrics = gate.metrics()
    assert "stockade_revocation_canary_failures_total 0" in metrics
    assert 'stockade_revocation_canary_seconds_bucket{le="1.0"} 1' in metrics


def test_metadata_says_what_the_gate_takes(gate: Stack) -> None:
    with gate.http() as client:
        metadata = client.get("/.well-known/oauth-protected-resource").json()
    assert "ES256" in metadata["dpop_signing_alg_values_supported"]
    assert metadata["tls_client_certificate_bound_access_tokens"] is True
