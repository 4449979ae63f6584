"""An OpenID provider that is not ours: its good tokens pass, everything else about them is refused at the gate."""

from __future__ import annotations

import base64
import hmac
import http.server
import json
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from shop import shop
from stack import Reply, Stack, Upstream

from stockade.identity import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = "orders:read"


class Provider:
    """Metadata and keys over https, and a hand that signs whatever a test wants."""

    def __init__(self, folder: Path) -> None:
        made = certificates.make_development_ca(folder, [])
        self.ca = made.ca
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"}, auto_kid=False)
        self.rsa = RSAKey.generate_key(2048, {"kid": "k2", "use": "sig", "alg": "RS512"}, auto_kid=False)
        self.stranger = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"}, auto_kid=False)
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = provider.documents().get(self.path)
                body = json.dumps(document or {}).encode()
                self.send_response(200 if document else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def documents(self) -> dict[str, Any]:
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
            },
            "/jwks": KeySet([self.key, self.rsa]).as_dict(private=False),
        }

    def token(self, audience: str, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        standard = {"iss": self.url, "aud": audience, "sub": "user-1", "client_id": "app-1", "scope": READ,
                    "iat": now, "exp": now + 300, "jti": "j1"}  # fmt: skip
        present = {name: value for name, value in {**standard, **claims}.items() if value is not None}
        protected = {"alg": "ES256", "typ": "at+jwt", "kid": "k1", **(header or {})}
        return jwt.encode(protected, present, key or self.key, algorithms=[protected["alg"]])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    running = Provider(tmp_path_factory.mktemp("provider"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Stack]:
    upstream = Upstream()
    upstream.answer = lambda _: Reply(body=b"[]")
    identity = {"issuer": provider.url, "external": {"ca": str(provider.ca), "algorithms": ["ES256"]}}
    with Stack(tmp_path_factory.mktemp("external"), shop(), upstream.url, identity=identity) as stack:
        stack.upstream = upstream
        yield stack
    upstream.close()


def call(stack: Stack, token: str) -> httpx.Response:
    stack.upstream.seen.clear()
    with stack.http() as client:
        return client.get("/orders", headers={"Authorization": f"Bearer {token}"})


def refused(stack: Stack, token: str) -> None:
    answer = call(stack, token)
    assert answer.status_code == 401, answer.text
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert not stack.upstream.seen


def test_a_good_token_passes_and_the_upstream_gets_ours_in_its_place(gate: Stack, provider: Provider) -> None:
    token = provider.token(gate.url)
    assert call(gate, token).status_code == 200
    (seen,) = gate.upstream.seen
    internal = (seen.header("authorization") or "").removeprefix("Bearer ")
    assert internal != token
    assert token not in str(seen.headers)
    issuer = internal_issuer(gate)
    keys = httpx.get(f"{issuer}/oauth2/jwks", verify=gate.tls, trust_env=False).json()
    read = jwt.decode(internal, KeySet.import_key_set(keys))
    assert read.header["typ"] == "at+jwt"
    assert {name: read.claims[name] for name in ("iss", "aud", "sub", "client_id", "scope")} == {
        "iss": issuer, "aud": gate.url, "sub": "user-1", "client_id": "app-1", "scope": READ
    }  # fmt: skip


def internal_issuer(stack: Stack) -> str:
    """The embedded server, which signs the internal tokens."""
    config = json.loads((Path(stack.ready["state"]) / "run" / "identity.json").read_text())
    return f"https://{config['public']['address']}"


def test_scopes_of_the_provider_hold(gate: Stack, provider: Provider) -> None:
    answer = call(gate, provider.token(gate.url, scope="orders:write"))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert not gate.upstream.seen


def test_the_metadata_names_the_provider(gate: Stack, provider: Provider) -> None:
    with gate.http() as client:
        challenge = client.get("/orders").headers["www-authenticate"]
        metadata = client.get(challenge.split('resource_metadata="')[1].split('"')[0]).json()
    assert metadata["resource"] == gate.url
    assert metadata["authorization_servers"] == [provider.url]


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "https://elsewhere.example"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "4000000000"},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"scope": 5},
    ],
    ids=str,
)
def test_claims_out_of_order_are_refused(gate: Stack, provider: Provider, claims: dict[str, Any]) -> None:
    refused(gate, provider.token(gate.url, **claims))


def test_another_key_under_a_known_name_is_refused(gate: Stack, provider: Provider) -> None:
    refused(gate, provider.token(gate.url, key=provider.stranger))


def test_an_algorithm_outside_the_list_is_refused_though_its_key_is_published(gate: Stack, provider: Provider) -> None:
    refused(gate, provider.token(gate.url, key=provider.rsa, header={"alg": "RS512", "kid": "k2"}))


def test_a_public_key_is_no_shared_secret(gate: Stack, provider: Provider) -> None:
    """RFC 8725 §2.1: HS256 keyed with the provider's public key in PEM."""
    payload = provider.token(gate.url).split(".")[1]
    signed = encode({"alg": "HS256", "typ": "at+jwt", "kid": "k1"}) + "." + payload
    for secret in (provider.key.as_pem(private=False), provider.key.as_pem(private=False).strip()):
        signature = hmac.digest(secret, signed.encode(), "sha256")
        refused(gate, f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}")


def test_an_unsigned_token_is_refused(gate: Stack, provider: Provider) -> None:
    payload = provider.token(gate.url).split(".")[1]
    for alg in ("none", "None", "nOnE"):
        refused(gate, encode({"alg": alg, "typ": "at+jwt"}) + f".{payload}.")


def encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def test_a_changed_token_is_refused(gate: Stack, provider: Provider) -> None:
    head, payload, signature = provider.token(gate.url).split(".")
    refused(gate, f"{head}.{payload[:-2]}AA.{signature}")
    refused(gate, f"{head}.{payload}.{signature[:-4]}AAAA")
    refused(gate, f"{head}.{payload}.")
    refused(gate, f"{head}.{payload}")


@pytest.mark.parametrize(
    "header",
    [{"typ": "id_token"}, {"typ": "dpop+jwt"}, {"jwk": {"kty": "EC"}}, {"jku": "https://evil.example"}],
    ids=str,
)
def test_headers_that_would_redirect_trust_win_nothing(gate: Stack, provider: Provider, header: dict[str, Any]) -> None:
    # A `jwk` or `jku` of the token's own may be ignored or refused (RFC 8725 §3.10), but its key is never used.
    refused(gate, provider.token(gate.url, key=provider.stranger, header=header))


def test_an_access_token_of_the_embedded_server_is_not_the_providers(gate: Stack) -> None:
    refused(gate, "stk_at_" + "A" * 49)


def test_keys_that_are_replaced_are_found(gate: Stack, provider: Provider) -> None:
    """The last of the module: what was signed with the old key is refused from then on."""
    old = provider.token(gate.url, jti="before")
    provider.key = ECKey.generate_key("P-256", {"kid": "k9", "use": "sig", "alg": "ES256"}, auto_kid=False)
    new = provider.token(gate.url, header={"kid": "k9"})
    deadline = time.monotonic() + 12
    while (answer := call(gate, new)).status_code != 200 and time.monotonic() < deadline:
        # Fetches for unknown keys are bounded, so that strangers cannot make the gate ask for ever.
        assert answer.status_code in (401, 503)
        time.sleep(0.5)
    assert call(gate, new).status_code == 200
    refused(gate, old)
