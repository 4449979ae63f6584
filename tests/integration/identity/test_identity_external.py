"""An external issuer in place of ours: a small real one, over TLS, that can be told to misbehave."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import (
    AUDIENCE,
    UPSTREAM,
    Server,
    ask,
    eventually,
    introspect,
    jwks_of,
    signing_key,
)

from stockade.identity.jose import import_public_keys, parse, sign, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from joserfc.jwk import Key

    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates


class Issuer:
    """Serves `documents` by path and counts what is asked for."""

    def __init__(self, certificates: DevelopmentCertificates) -> None:
        self.key = signing_key(kid="e1")
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                document = issuer.documents.get(self.path)
                status = 200 if document is not None else 404
                if isinstance(document, int):
                    status, document = document, {}
                body = document if isinstance(document, bytes) else json.dumps(document or {}).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/jwks")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.http.server_address[1]}"
        self.documents["/.well-known/openid-configuration"] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.publish(self.key)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def publish(self, *keys: Key) -> None:
        self.documents["/jwks"] = jwks_of(*keys)

    def token(self, key: Key | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        key = key or self.key
        now = int(time.time())
        standard = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "user-1",
            "client_id": "app-1",
            "scope": "orders:read",
            "iat": now,
            "exp": now + 300,
            "jti": "j1",
        }
        present = {name: value for name, value in {**standard, **claims}.items() if value is not None}
        parameters = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid, **(header or {})}
        return sign({name: value for name, value in parameters.items() if value is not None}, present, key)

    def close(self) -> None:
        if self.thread.is_alive():
            self.http.shutdown()
            self.thread.join()
            self.http.server_close()


@pytest.fixture
def issuer(public_certificates: DevelopmentCertificates) -> Iterator[Issuer]:
    running = Issuer(public_certificates)
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
) -> Iterator[tuple[Issuer, httpx.Client, Server]]:
    issuer = Issuer(public_certificates)
    changes = {"external": external(issuer, public_certificates)}
    folder = tmp_path_factory.mktemp("external")
    with Server(folder, internal_certificates, public_certificates, changes) as server, server.gateway() as gateway:
        yield issuer, gateway, server
    issuer.close()


def external(issuer: Issuer, certificates: DevelopmentCertificates, **changes: Any) -> dict[str, Any]:
    return {"issuer": issuer.url, "audience": AUDIENCE, "ca": str(certificates.ca), **changes}


def ask_for(gateway: httpx.Client, token: str) -> httpx.Response:
    return gateway.post("/internal/introspect", data={"token": token, "resource": AUDIENCE})


def test_a_good_token_becomes_an_internal_one(shared: tuple[Issuer, httpx.Client, Server]) -> None:
    issuer, gateway, server = shared
    answer = introspect(gateway, issuer.token())
    assert (answer["iss"], answer["aud"]) == (issuer.url, AUDIENCE)
    assert (answer["client_id"], answer["sub"], answer["scope"]) == ("app-1", "user-1", "orders:read")
    assert (answer["jti"], answer["token_type"]) == ("j1", "Bearer")
    token = parse(answer["internal_token"])
    with server.outside() as http:
        verify(token, import_public_keys(http.get("/oauth2/jwks").json()), ["ES256"])
    assert (token.claims["iss"], token.claims["aud"]) == (server.issuer, UPSTREAM)
    assert (token.claims["sub"], token.claims["client_id"]) == ("user-1", "app-1")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"scope": None, "scp": ["a", "b"]}, {"scope": "a b"}),
        ({"scope": None, "scp": "a b"}, {"scope": "a b"}),
        ({"scope": None}, {"scope": ""}),
        ({"client_id": None, "azp": "app-2"}, {"client_id": "app-2"}),
        ({"client_id": None}, {"client_id": "user-1"}),
        ({"aud": ["https://x.example", AUDIENCE]}, {"aud": AUDIENCE}),
        ({"iat": None, "jti": None}, {"iat": None}),
    ],
    ids=str,
)
def test_what_issuers_write_differently_is_understood(
    shared: tuple[Issuer, httpx.Client, Server], claims: dict[str, Any], expected: dict[str, Any]
) -> None:
    issuer, gateway, _ = shared
    answer = introspect(gateway, issuer.token(**claims))
    assert expected.items() <= answer.items()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "https://elsewhere.example"},
        {"aud": None},
        {"aud": {"x": AUDIENCE}},
        {"exp": None},
        {"exp": 1},
        {"exp": "4000000000"},
        {"exp": True},
        {"nbf": 4000000000},
        {"nbf": "x"},
        {"iat": 4000000000},
        {"sub": None},
        {"sub": 5},
        {"client_id": ["x"]},
        {"scope": 5},
        {"scope": None, "scp": [1]},
        {"scope": None, "scp": ["a b"]},
        {"jti": 5},
    ],
    ids=str,
)
def test_claims_out_of_order_are_inactive(shared: tuple[Issuer, httpx.Client, Server], claims: dict[str, Any]) -> None:
    issuer, gateway, _ = shared
    assert introspect(gateway, issuer.token(**claims)) == {"active": False}


@pytest.mark.parametrize("header", [{"typ": None}, {"typ": "id_token"}, {"typ": "dpop+jwt"}], ids=str)
def test_tokens_of_another_type_are_inactive(
    shared: tuple[Issuer, httpx.Client, Server], header: dict[str, Any]
) -> None:
    issuer, gateway, _ = shared
    assert introspect(gateway, issuer.token(header=header)) == {"active": False}


def test_a_plain_jwt_type_is_accepted(shared: tuple[Issuer, httpx.Client, Server]) -> None:
    issuer, gateway, _ = shared
    assert introspect(gateway, issuer.token(header={"typ": "JWT"}))["active"] is True


def test_foreign_signatures_are_inactive(shared: tuple[Issuer, httpx.Client, Server]) -> None:
    issuer, gateway, _ = shared
    header, claims, signature = issuer.token().split(".")
    stranger = issuer.token(signing_key(kid="e1"))
    for text in (stranger, f"{header}.{claims}.{'A' * len(signature)}", f"{header}.{claims}."):
        assert introspect(gateway, text) == {"active": False}


def test_algorithms_outside_the_list_are_inactive(
    issuer: Issuer, make_server: Callable[..., Server], public_certificates: DevelopmentCertificates
) -> None:
    rsa = signing_key("RS256", kid="r1")
    issuer.publish(issuer.key, rsa)
    with (
        make_server(external=external(issuer, public_certificates, algorithms=["ES256"])) as server,
        server.gateway() as gateway,
    ):
        assert introspect(gateway, issuer.token())["active"] is True
        assert introspect(gateway, issuer.token(rsa, {"alg": "RS256"})) == {"active": False}


def test_a_new_key_is_found_and_an_unknown_one_asked_for_rarely(
    issuer: Issuer, make_server: Callable[..., Server], public_certificates: DevelopmentCertificates
) -> None:
    server = make_server(external=external(issuer, public_certificates))
    with server.start().gateway() as gateway:
        assert introspect(gateway, issuer.token())["active"] is True
        new = signing_key(kid="e2")
        issuer.publish(issuer.key, new)
        eventually(lambda: introspect(gateway, issuer.token(new))["active"], seconds=15)
        fetched = issuer.asked.count("/jwks")
        unknown = signing_key(kid="e3")
        for _ in range(50):
            assert introspect(gateway, issuer.token(unknown)) == {"active": False}
        assert issuer.asked.count("/jwks") <= fetched + 1


def test_an_unreachable_issuer_is_503_and_recovers(
    issuer: Issuer, make_server: Callable[..., Server], public_certificates: DevelopmentCertificates
) -> None:
    keep = issuer.documents.pop("/.well-known/openid-configuration")
    with make_server(external=external(issuer, public_certificates)) as server, server.gateway() as gateway:
        answer = ask_for(gateway, issuer.token())
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        # What can be told without keys is told.
        assert introspect(gateway, issuer.token(iss="https://elsewhere.example")) == {"active": False}
        issuer.documents["/.well-known/oauth-authorization-server"] = keep
        eventually(lambda: ask_for(gateway, issuer.token()).status_code == 200, seconds=15)
        issuer.close()
        assert ask_for(gateway, issuer.token()).json()["active"] is True


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://localhost", "jwks_uri": "{url}/jwks"},
        {"issuer": "{url}/", "jwks_uri": "{url}/jwks"},
        {"jwks_uri": "{url}/jwks"},
        {"issuer": "{url}", "jwks_uri": "http://localhost/jwks"},
        {"issuer": "{url}"},
        {"issuer": "{url}", "jwks_uri": "{url}/moved"},
        {"issuer": "{url}", "jwks_uri": "{url}/large"},
        {"issuer": "{url}", "jwks_uri": "{url}/list"},
        {"issuer": "{url}", "jwks_uri": "{url}/empty"},
    ],
    ids=["issuer", "slash", "no issuer", "http", "no uri", "redirect", "large", "list", "empty"],
)
def test_metadata_that_cannot_be_trusted_is_503(
    issuer: Issuer,
    make_server: Callable[..., Server],
    public_certificates: DevelopmentCertificates,
    metadata: dict[str, str],
) -> None:
    issuer.documents |= {
        "/.well-known/openid-configuration": {
            name: value.replace("{url}", issuer.url) for name, value in metadata.items()
        },
        "/moved": 302,
        "/large": b'{"keys": [' + b" " * 300_000 + b"]}",
        "/list": [],
        "/empty": {"keys": []},
    }
    with make_server(external=external(issuer, public_certificates)) as server, server.gateway() as gateway:
        assert ask_for(gateway, issuer.token()).status_code == 503


def test_an_issuer_with_an_untrusted_certificate_is_503(
    issuer: Issuer, make_server: Callable[..., Server], public_certificates: DevelopmentCertificates
) -> None:
    settings = {**external(issuer, public_certificates), "ca": None}
    with make_server(external=settings) as server, server.gateway() as gateway:
        assert ask_for(gateway, issuer.token()).status_code == 503


def test_nothing_is_issued_here_but_api_keys_and_signing_keys_stay(
    shared: tuple[Issuer, httpx.Client, Server],
) -> None:
    issuer, gateway, server = shared
    client = server.client("with-key", api_key=True)
    assert client.api_key is not None
    with server.outside() as http:
        assert ask(http, client).status_code == 404
        metadata = http.get("/.well-known/oauth-authorization-server").json()
        assert metadata == {
            "issuer": server.issuer,
            "jwks_uri": f"{server.issuer}/oauth2/jwks",
            "response_types_supported": [],
        }
    answer = introspect(gateway, client.api_key.api_key, token_type_hint="api_key")
    assert (answer["active"], answer["iss"]) == (True, server.issuer)
    assert introspect(gateway, issuer.token(), token_type_hint="api_key") == {"active": False}
