"""Who is at the other end: TLS in every mode, certificates both ways, and whose word on the client's address counts."""

from __future__ import annotations

import datetime as dt
import http.server
import shutil
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from shop import shop
from stack import Reply, Stack, Upstream, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OK = b'{"ok":true}'


@dataclass(frozen=True)
class Authority:
    """A CA of the test's own that certifies clients and servers."""

    folder: Path
    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def make(folder: Path, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = builder_for(subject, subject, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        made = Authority(folder, name, builder.sign(key, hashes.SHA256()), key)
        made.ca.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def ca(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str, *, days: int = 1) -> tuple[str, str]:
        """Certificate and key files for `localhost` or whoever it is."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            builder_for(subject, self.certificate.subject, key, days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        paths = (self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key")
        paths[0].write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(paths[0]), str(paths[1])


def builder_for(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
    )


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    running.answer = lambda _: Reply(body=OK)
    yield running
    running.close()


def trusting(ca: Path, pair: tuple[str, str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def status(stack: Stack, tls: ssl.SSLContext, path: str = "/status", *, http2: bool = False) -> int:
    with httpx.Client(base_url=stack.url, verify=tls, trust_env=False, http2=http2, timeout=10) as client:
        return client.get(path).status_code


# TLS towards clients


def test_without_tls_the_gate_speaks_plainly(tmp_path: Path, upstream: Upstream) -> None:
    with Stack(tmp_path, shop(), upstream.url, listen={"tls": {"mode": "off"}}) as stack:
        assert stack.url.startswith("http://")
        with httpx.Client(base_url=stack.url, trust_env=False) as client:
            assert client.get("/status").json() == {"ok": True}
            assert client.get("/orders").status_code == 401
    assert upstream.seen[0].header("x-forwarded-proto") == "http"


def test_own_files_are_served_and_read_again_without_a_restart(tmp_path: Path, upstream: Upstream) -> None:
    first, second = Authority.make(tmp_path, "first"), Authority.make(tmp_path, "second")
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"

    def install(authority: Authority) -> None:
        made = authority.issue("gate")
        for source, target in zip(made, (certificate, key), strict=True):
            shutil.copyfile(source, target)

    install(first)
    tls = {"mode": "files", "certificate": "tls.pem", "key": "tls.key"}
    with Stack(tmp_path, shop(), upstream.url, listen={"tls": tls}) as stack:
        assert stack.ready["ca_file"] is None
        pid = stack.gateway_pid()
        with httpx.Client(base_url=stack.url, verify=trusting(first.ca), trust_env=False) as kept:
            assert kept.get("/status").status_code == 200
            install(second)
            until(lambda: trusts(stack, second.ca), 10, "the new certificate")
            assert not trusts(stack, first.ca)
            assert kept.get("/status").status_code == 200, "an open connection goes on"
        assert stack.gateway_pid() == pid
        # A file that is no certificate changes nothing.
        certificate.write_text("nonsense")
        until(lambda: "not in force" in stack.errors, 10, "the report")
        assert trusts(stack, second.ca)


def trusts(stack: Stack, ca: Path) -> bool:
    try:
        return status(stack, trusting(ca)) == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("wanted", ["required", "optional"])
def test_client_certificates_count_only_from_the_named_authority(
    tmp_path: Path, upstream: Upstream, wanted: str
) -> None:
    description = shop()
    description["components"]["securitySchemes"]["certificate"] = {"type": "mutualTLS"}
    description["paths"]["/status"]["get"]["security"] = [{"certificate": []}]
    description["paths"]["/open"] = {
        "get": {"security": [], "responses": description["paths"]["/status"]["get"]["responses"]}
    }
    ours, theirs = Authority.make(tmp_path, "ours"), Authority.make(tmp_path, "theirs")
    listen = {"tls": {"client_ca": str(ours.ca), "client_certificate": wanted}}
    with Stack(tmp_path, description, upstream.url, listen=listen) as stack:
        ca = tmp_path / ".stockade" / "tls" / "ca.pem"
        good = trusting(ca, ours.issue("client"))
        for http2 in (False, True):
            assert status(stack, good, http2=http2) == 200
        assert status(stack, good, "/open") == 200
        bad = [trusting(ca, theirs.issue("client")), trusting(ca, ours.issue("expired", days=-1))]
        for each in bad:
            with pytest.raises(httpx.TransportError):
                status(stack, each)
        if wanted == "required":
            with pytest.raises(httpx.TransportError):
                status(stack, trusting(ca))
        else:
            assert status(stack, trusting(ca), "/open") == 200
            assert status(stack, trusting(ca)) == 401, "the operation asks for a certificate"
    assert len(upstream.seen) == (3 if wanted == "required" else 4)


# TLS towards the upstream


class TlsUpstream:
    """Answers 200 over TLS, to clients with a certificate of `client_ca` only; remembers who they were."""

    def __init__(self, pair: tuple[str, str], client_ca: Path) -> None:
        self.clients: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                peer: Any = self.connection.getpeercert()  # type: ignore[attr-defined]
                outer.clients.append(dict(part[0] for part in peer["subject"])["commonName"])
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(OK)))
                self.end_headers()
                self.wfile.write(OK)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        context.load_verify_locations(str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_the_upstream_is_known_by_its_certificate_and_knows_the_gate_by_its_own(tmp_path: Path) -> None:
    theirs, ours, stranger = (Authority.make(tmp_path, name) for name in ("theirs", "ours", "stranger"))
    upstream = TlsUpstream(theirs.issue("api"), ours.ca)
    certificate, key = ours.issue("gate")
    good = {"ca": str(theirs.ca), "certificate": certificate, "key": key}
    api = {"upstream": {"endpoints": [upstream.url], "tls": good}}
    try:
        with Stack(tmp_path, shop(), upstream.url, api=api) as stack, stack.http() as client:
            assert client.get("/status").json() == {"ok": True}
            assert set(upstream.clients) == {"gate"}
            # Another authority, another name, no certificate: each time nothing is sent.
            wrong = [
                {**good, "ca": str(stranger.ca)},
                {**good, "server_name": "elsewhere.example"},
                {"ca": str(theirs.ca)},
                dict(zip(("certificate", "key"), stranger.issue("gate"), strict=True)) | {"ca": str(theirs.ca)},
            ]
            for tls in wrong:
                before = len(upstream.clients)
                stack.write_policy(api={**stack._policy["api"], "upstream": {"endpoints": [upstream.url], "tls": tls}})
                until(lambda: client.get("/status").status_code == 502, 15, f"the refusal with {sorted(tls)}")
                served = len(upstream.clients)
                answer = client.get("/status")
                assert answer.status_code == 502
                assert len(upstream.clients) == served
                assert stack.event(answer)["layer"] == "upstream"
                stack.write_policy(api={**stack._policy["api"], "upstream": {"endpoints": [upstream.url], "tls": good}})
                until(lambda: client.get("/status").status_code == 200, 15, "recovery")
                assert len(upstream.clients) > before
    finally:
        upstream.close()


# Whose word on the client's address counts


def addresses(upstream: Upstream) -> str:
    """What the upstream was told of the client."""
    return upstream.seen[-1].header("x-forwarded-for") or ""


def test_nobody_is_believed_by_default(tmp_path: Path, upstream: Upstream) -> None:
    with Stack(tmp_path, shop(), upstream.url) as stack, stack.http() as client:
        for headers in (
            {"X-Forwarded-For": "203.0.113.7"},
            {"Forwarded": "for=203.0.113.7"},
            {"X-Real-IP": "203.0.113.7"},
        ):
            assert client.get("/status", headers=headers).status_code == 200
            assert "203.0.113.7" not in str(upstream.seen[-1].headers)
            assert addresses(upstream) == "127.0.0.1"


def test_a_trusted_proxy_speaks_for_its_client_and_the_client_not_for_itself(
    tmp_path: Path, upstream: Upstream
) -> None:
    limits = {"per_address": "3/hour", "per_client": None}
    listen = {"trusted_proxies": ["127.0.0.0/8"]}
    with Stack(tmp_path, shop(), upstream.url, listen=listen, limits=limits) as stack, stack.http() as client:

        def ask(**headers: str) -> httpx.Response:
            return client.get("/status", headers={name.replace("_", "-"): value for name, value in headers.items()})

        # The rightmost address that is not a proxy's is the client's; what stands left of it is hearsay.
        for spoofed in ("198.51.100.1", "198.51.100.2", "198.51.100.3"):
            assert ask(X_Forwarded_For=f"{spoofed}, 203.0.113.7").status_code == 200
        answer = ask(X_Forwarded_For="198.51.100.4, 203.0.113.7")
        assert answer.status_code == 429
        assert stack.event(answer)["client"]["address"] == "203.0.113.7"
        assert ask(X_Forwarded_For="203.0.113.8").status_code == 200, "another client has a rate of its own"
        assert ask(Forwarded='for="203.0.113.9:4711";proto=https').status_code == 200
        for nonsense in ("", "unknown", "203.0.113.7.9", "a, b", "203.0.113.7, nonsense"):
            assert ask(X_Forwarded_For=nonsense).status_code in (200, 400, 429)


def proxy_v1(source: str) -> bytes:
    return f"PROXY TCP4 {source} 127.0.0.1 4711 443\r\n".encode()


def proxy_v2(source: str) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 4711, 443)
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack(">H", len(addresses)) + addresses


@pytest.mark.parametrize("header", [proxy_v1, proxy_v2], ids=["v1", "v2"])
def test_the_proxy_protocol_counts_from_a_trusted_proxy_and_is_required_of_it(
    tmp_path: Path, upstream: Upstream, header: Any
) -> None:
    listen = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    with Stack(tmp_path, shop(), upstream.url, listen=listen) as stack:
        assert b" 200 " in raw_status(stack, header("203.0.113.7"))
        assert addresses(upstream).split(",")[0].strip() == "203.0.113.7"
        seen = len(upstream.seen)
        assert raw_status(stack, b"") == b"", "a trusted proxy that sends no header is not served"
        assert raw_status(stack, b"PROXY TCP4 nonsense\r\n") == b""
        assert len(upstream.seen) == seen


def test_the_proxy_protocol_of_anyone_else_is_no_http(tmp_path: Path, upstream: Upstream) -> None:
    listen = {"proxy_protocol": True, "trusted_proxies": ["192.0.2.0/24"], "tls": {"mode": "off"}}
    with Stack(tmp_path, shop(), upstream.url, listen=listen) as stack:
        answer = raw_status(stack, proxy_v1("203.0.113.7"))
        assert b" 400 " in answer.split(b"\r\n")[0]
        assert not upstream.seen
        assert b" 200 " in raw_status(stack, b"")
        assert addresses(upstream) == "127.0.0.1"


def raw_status(stack: Stack, before: bytes) -> bytes:
    """The answer to `GET /status` behind some bytes in clear; empty where the connection was cut."""
    port = int(stack.url.rsplit(":", 1)[1])
    request = f"GET /status HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=8)
    data = b""
    try:
        connection.sendall(before)
        if stack.url.startswith("https"):
            connection = ssl.create_default_context(cafile=stack.ca).wrap_socket(
                connection, server_hostname="localhost"
            )
        connection.sendall(request)
        with suppress(ConnectionError, ssl.SSLError):
            while got := connection.recv(65536):
                data += got
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        connection.close()
    return data
