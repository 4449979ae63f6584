"""A running gateway between a raw socket and an upstream that answers as a vector says."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import load_pem_x509_certificate
from vectors import NOW, Occasion, VectorFile, body, response_headers

from stockade.compiler import sign
from stockade.identity.certificates import InternalCertificates, make_internal_ca

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_SECONDS = 3.0
TRUSTED = "X-Forwarded-For"
PLAIN = {"status": 204}


@dataclass(frozen=True)
class Reply:
    """What the client got. `None` for a connection that ended without an answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def fields(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Upstream:
    """Keeps the targets that it was asked for, and answers as it is told."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = PLAIN
        self.targets: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError, ValueError):
            while line := stream.readline():
                headers = _read_headers(stream)
                _read_body(stream, headers)
                self.targets.append(line.split()[1].decode("latin-1"))
                connection.sendall(self._bytes(line.startswith(b"HEAD ")))

    def _bytes(self, head: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.answer['status']} Told"]
        lines += [f"{name}: {value}" for name, value in response_headers(self.answer)]
        if self.answer["status"] == 101:
            lines += ["Connection: upgrade", "Upgrade: websocket"]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body(self.answer))


class AuthorizationServer:
    """The internal listener of docs/contracts.md §3, for credentials that no honest server issues."""

    def __init__(self, file: VectorFile, certificates: InternalCertificates) -> None:
        known = {each["secret"]: each["identity"] for each in file.credentials.values()}
        thumbprint = _thumbprint(certificates.gateway_certificate)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                identity = known.get(form["token"][0])
                wanted = form["token_type_hint"][0]
                active = identity is not None and identity["kind"] == wanted
                self._json(_introspection(identity, thumbprint) if active else {"active": False})

            def do_GET(self) -> None:
                query = parse_qs(self.path.partition("?")[2])
                time.sleep(min(float(query.get("wait", ["0"])[0]), 1.0))
                self._json({"epoch": "vectors", "sequence": 0, "reset": False, "now": time.time(), "revocations": []})

            def _json(self, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificates.server_certificate, certificates.server_key)
        context.load_verify_locations(certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _introspection(identity: dict[str, Any], thumbprint: str) -> dict[str, Any]:
    """The identity's answer; its end is as far from now as it is from the vectors' time."""
    end = identity["expires_at"]
    if end is not None and end - NOW == 1:
        time.sleep(1 - time.time() % 1)  # A last second is told from its beginning.
    now = int(time.time())
    bound = {}
    if "jkt" in identity:
        bound["jkt"] = identity["jkt"]
    if "certificate" in identity:
        bound["x5t#S256"] = thumbprint if identity["certificate"] == "client" else "o" * 42 + "8"
    user: dict[str, Any] = {"cnf": bound} if bound else {}
    if "acr" in identity:
        user["acr"] = identity["acr"]
    if "auth_time" in identity:
        user["auth_time"] = now + identity["auth_time"] - NOW
    if "jkt" in identity and identity["kind"] == "access_token":
        user["token_type"] = "DPoP"
    return {
        "active": True,
        "client_id": identity["client_id"],
        "sub": identity["subject"],
        "scope": " ".join(identity["scopes"]),
        "iss": identity["issuer"],
        "aud": identity["audience"],
        "iat": now,
        "exp": None if end is None else now + end - NOW,
        "jti": "vector",
        "token_type": "api_key" if identity["kind"] == "api_key" else "Bearer",
        "internal_token": "a.b.c",
        "internal_token_exp": now + 100,
    } | user


def _thumbprint(certificate: Path) -> str:
    """`x5t#S256` (RFC 8705 §3.1)."""
    digest = load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Stand:
    """A gateway process in front of one file's bundle. `secure`: with TLS, so that a client may show a certificate."""

    file: VectorFile
    folder: Path
    available: bool = True
    secure: bool = False
    upstream: Upstream = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificates = make_internal_ca(self.folder / "ca")
        self.upstream = Upstream()
        self.authorization = AuthorizationServer(self.file, self.certificates)
        self.address = ("127.0.0.1", _free_port())
        events = self.folder / "events.jsonl"
        events.touch(0o600)
        self._events = events.open(encoding="utf-8")
        key = Ed25519PrivateKey.generate()
        (self.folder / "current.stkb").write_bytes(sign(self.file.payload, 1, key))
        config = self.folder / "gateway.json"
        config.write_text(json.dumps(self._config(key.public_key().public_bytes_raw().hex())))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stockade.enforcement.gateway_process", str(config)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            self.__exit__()
            raise AssertionError(f"the gateway did not get ready on {self.file.name}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._events.close()
        self.authorization.close()
        self.upstream.close()

    def ask(self, request: dict[str, Any], answer: dict[str, Any] | None, jti: str = "vector") -> Reply:
        """Send a vector's request byte for byte on a connection of its own; the upstream would answer `answer`."""
        occasion = Occasion(int(time.time()), self._nonce() if "proof" in request else None, jti)
        return self._send(request, answer, occasion)

    def _nonce(self) -> str:
        """The gateway's nonce: what a client gets that comes without one."""
        path = next(each for each in json.loads(self.file.payload)["operations"] if each["security"])["paths"][0]
        without = {"method": "GET", "target": path, "headers": [["Authorization", "DPoP x"]]}
        reply = self._send(without, None, Occasion())
        self.events()
        return reply.fields("dpop-nonce")[0]

    def _send(self, request: dict[str, Any], answer: dict[str, Any] | None, occasion: Occasion) -> Reply:
        self.upstream.answer = answer or PLAIN
        self.upstream.targets.clear()
        with (
            socket.create_connection(self.address, PATIENCE_SECONDS) as plain,
            self._dressed(plain, request) as channel,
        ):
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                channel.sendall(self._bytes(request, occasion))
            with channel.makefile("rb") as stream:
                return _read_reply(stream, request["method"])

    def events(self) -> list[dict[str, Any]]:
        """The decisions since the last call, up to one that ends a request."""
        found: list[dict[str, Any]] = []
        pending = ""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            pending += self._events.readline()
            if not pending.endswith("\n"):
                time.sleep(0.005)
                continue
            event = json.loads(pending)
            pending = ""
            if event["kind"] in ("decision", "connection"):
                found.append(event)
                if event["outcome"] != "observe":
                    return found
        raise AssertionError(f"no event within {PATIENCE_SECONDS} s; found {found}")

    def _dressed(self, plain: socket.socket, request: dict[str, Any]) -> socket.socket:
        if not self.secure:
            return plain
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        if request.get("client_certificate"):
            context.load_cert_chain(self.certificates.gateway_certificate, self.certificates.gateway_key)
        return context.wrap_socket(plain, server_hostname="localhost")

    def _bytes(self, request: dict[str, Any], occasion: Occasion) -> bytes:
        headers = self.file.headers(request, occasion)
        if "address" in request:
            headers.append((TRUSTED, request["address"]))
        lines = [f"{request['method']} {self.file.secrets(request['target'])} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode() + body(request)

    def _config(self, public_key: str) -> dict[str, Any]:
        tls = {
            "certificate": str(self.certificates.server_certificate),
            "key": str(self.certificates.server_key),
            "client_ca": str(self.certificates.ca),
            "client_certificate": "optional",
        }
        return {
            "threads": 1,
            "listen": {
                "address": "{}:{}".format(*self.address),
                "tls": tls if self.secure else None,
                "trusted_proxies": ["127.0.0.0/8"],
            },
            "bundle": {"path": "current.stkb", "public_key": public_key},
            "upstream": {"endpoints": [self.upstream.url]},
            "authorization_server": {
                "url": self.authorization.url if self.available else f"https://127.0.0.1:{_free_port()}",
                "ca": str(self.certificates.ca),
                "certificate": str(self.certificates.gateway_certificate),
                "key": str(self.certificates.gateway_key),
            },
            "events": {"path": "events.jsonl", "allowed": True},
            "drain_seconds": 1,
        }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _read_headers(stream: Any) -> list[tuple[str, str]]:
    headers = []
    while line := stream.readline().rstrip(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    return headers


def _read_body(stream: Any, headers: list[tuple[str, str]]) -> bytes:
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return bytes(stream.read(int(fields.get("content-length", 0))))
    content = b""
    while size := int(stream.readline().split(b";")[0], 16):
        content += stream.read(size)
        stream.readline()
    stream.readline()
    return content


def _read_reply(stream: Any, method: str) -> Reply:
    status_line = stream.readline()
    if not status_line:
        raise AssertionError("the connection ended without an answer")
    status = int(status_line.split()[1])
    headers = _read_headers(stream)
    if status == 100:
        return _read_reply(stream, method)
    bodiless = method == "HEAD" or status < 200 or status in (204, 304)
    return Reply(status, headers, b"" if bodiless else _read_body(stream, headers))
