"""The authorization server as a process of its own, and the parties that talk to it: everything real, on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_plus

import httpx
import pytest
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from stockade.identity import admin
from stockade.identity.jose import sign
from stockade.identity.keys.seal import ensure_key_file
from stockade.identity.storage import Storage, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates

SOURCE = Path(__file__).parents[3] / "src"
AUDIENCE = "https://localhost:8443"
UPSTREAM = "http://127.0.0.1:9000"
START_SECONDS = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """One authorization server in `folder`. Start it, stop it, break it."""

    folder: Path
    internal: InternalCertificates
    public: DevelopmentCertificates
    changes: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    # Where the configuration has a mutual-TLS listener.
    mtls_port: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.public_port, self.internal_port = free_port(), free_port()
        self.issuer = f"https://localhost:{self.public_port}"
        self.token_url = f"{self.issuer}/oauth2/token"
        self.internal_url = f"https://127.0.0.1:{self.internal_port}"
        self.database_url = self.changes.get("database_url", f"sqlite:///{self.folder / 'identity.db'}")
        ensure_key_file(self.folder / "kek")
        self.write_config()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "database_url": self.database_url,
            "issuer": self.issuer,
            "audiences": [AUDIENCE, "https://other.example"],
            "internal_audience": UPSTREAM,
            "scopes": ["orders:read", "orders:write"],
            "public": {
                "address": f"127.0.0.1:{self.public_port}",
                "certificate": str(self.public.certificate),
                "key": str(self.public.key),
            },
            "internal": {
                "address": f"127.0.0.1:{self.internal_port}",
                "certificate": str(self.internal.server_certificate),
                "key": str(self.internal.server_key),
                "ca": str(self.internal.ca),
            },
            "key_encryption_key": {"file": "kek"},
            "log": {"level": "debug"},
            **self.changes,
        }

    def write_config(self, **changes: Any) -> Path:
        self.changes |= changes
        path = self.folder / "identity.json"
        path.write_text(json.dumps(self.config))
        return path

    @property
    def log_path(self) -> Path:
        return self.folder / "log.jsonl"

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def spawn(self) -> subprocess.Popen[str]:
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "stockade.identity", str(self.folder / "identity.json")],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )
        return self.process

    def start(self) -> Self:
        process = self.spawn()
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", self.log_path.read_text()
        return self

    def stop(self) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(START_SECONDS)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def storage(self) -> Storage:
        return open_storage(self.database_url)

    def client(self, name: str, scopes: tuple[str, ...] = ("orders:read",), **options: Any) -> admin.CreatedClient:
        with self.storage() as storage:
            return admin.create_client(storage, name, scopes, **options)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.public.ca))

    def outside(self) -> httpx.Client:
        """A client of the public listener."""
        return httpx.Client(base_url=self.issuer, verify=self.trust(), trust_env=False, timeout=15)

    def gateway(self) -> httpx.Client:
        """The gateway, at the internal listener."""
        return self.internal_client(self.internal.gateway_certificate, self.internal.gateway_key)

    def internal_client(self, certificate: Path | None, key: Path | None, ca: Path | None = None) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(ca or self.internal.ca))
        if certificate is not None:
            context.load_cert_chain(str(certificate), str(key))
        return httpx.Client(base_url=self.internal_url, verify=context, trust_env=False, timeout=15)


def basic(client_id: str, secret: str) -> dict[str, str]:
    """RFC 6749 §2.3.1: form-urlencoded, then base64."""
    text = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + b64encode(text.encode()).decode()}


def credentials(client: admin.CreatedClient) -> dict[str, str]:
    assert client.client_secret is not None
    return basic(client.client_id, client.client_secret)


def ask(http: httpx.Client, client: admin.CreatedClient, **fields: str) -> httpx.Response:
    """A token request by client_secret_basic."""
    form = {"grant_type": "client_credentials", **fields}
    return http.post("/oauth2/token", data=form, headers=credentials(client))


def token_for(http: httpx.Client, client: admin.CreatedClient, **fields: str) -> str:
    answer = ask(http, client, **fields)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


def introspect(gateway: httpx.Client, token: str, **fields: str) -> dict[str, Any]:
    answer = gateway.post("/internal/introspect", data={"token": token, "resource": AUDIENCE, **fields})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def eventually(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def signing_key(algorithm: str = "ES256", **members: Any) -> Key:
    """A fresh key pair for `algorithm`; `members` go into its JWK."""
    if algorithm.startswith("ES"):
        return ECKey.generate_key("P-" + algorithm[2:], members)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519", members)
    return RSAKey.generate_key(2048, members)


def jwks_of(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def assertion(server: Server, client_id: str, key: Key, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A client assertion; a claim given as None is left out."""
    now = int(time.time())
    standard = {
        "iss": client_id,
        "sub": client_id,
        "aud": server.issuer,
        "iat": now,
        "exp": now + 60,
        "jti": secrets.token_hex(8),
    }
    present = {name: value for name, value in {**standard, **claims}.items() if value is not None}
    parameters = {"alg": "ES256", **({"kid": key.kid} if key.kid else {}), **(header or {})}
    return sign(parameters, present, key)


def assert_with(http: httpx.Client, text: str, path: str = "/oauth2/token", **fields: str) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": text,
        **fields,
    }
    return http.post(path, data=form)


class Cluster:
    """A PostgreSQL of our own that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port = folder / "data", free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.getuid() else []
        folder.mkdir(mode=0o755)
        if self.account:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-o", options, "-l", str(self.data / "log"), "start")

    def database(self, name: str) -> str:
        """URL of a new and empty database in it."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"{self.url.rpartition('/')[0]}/{name}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        # The server inherits standard streams, so they must not be pipes that we wait for.
        subprocess.run(
            [*self.account, program_of_postgresql(program), *arguments],
            check=True,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster for as long as it is needed; the test is skipped where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg")
    try:
        program_of_postgresql("initdb")
    except FileNotFoundError:
        pytest.skip("PostgreSQL's programs are not installed")
    # pytest's own folders are closed to the account that PostgreSQL needs.
    with tempfile.TemporaryDirectory(prefix="stockade-pg") as folder:
        Path(folder).chmod(0o755)
        running = Cluster(Path(folder) / "cluster")
        running.start()
        yield running
        running.stop()


def program_of_postgresql(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/lib/postgresql/15/bin:/usr/lib/postgresql/16/bin")
    if found is None:
        raise FileNotFoundError(name)
    return os.path.realpath(found)
