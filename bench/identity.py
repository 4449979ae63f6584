"""The authorization server side by side with npm `oidc-provider`: tokens per second and core, memory, introspection.

Both serve HTTPS from one process on loopback and are loaded in turn by the same wrk script over 32 connections. What
counts is CPU per token of the serving process, user and system: a core gives 1/that many tokens per second, whatever
the load generator and the neighbours take of the machine.

Stockade writes every token to SQLite with `synchronous=FULL` before it answers. The peer is measured twice: with its
own adapter, which is memory (and forgets all but the last thousand entries), and with a SQLite adapter of the same
durability (`vs_oidc_provider`: the same class of store). The memory one is the harder (`vs_oidc_provider_memory`).
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import ssl
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from bench.load import InvalidError, Rate, run_wrk
from bench.processes import Running, cpu_seconds, free_port, memory_kb
from stockade.identity import admin
from stockade.identity.certificates import make_internal_ca
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.config import Config, read_config
from stockade.identity.keys.seal import ensure_key_file
from stockade.identity.storage import Storage, open_storage
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.grants import GrantRow, insert_grant
from stockade.identity.storage.refresh_tokens import insert_refresh_token
from stockade.identity.storage.tokens import Authorization
from stockade.identity.storage.users import UserRecord, insert_user
from stockade.identity.tokens.refresh import make_refresh_token

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
MODULES = HERE / ".work" / "oidc"
AUDIENCE = "https://localhost:8443"
SCOPES = ("openid", "offline_access", "orders:read")
# Enough that none is missing while 32 connections each hold one.
REFRESH_TOKENS = 80
GRANTS = ("client_credentials", "refresh")
IDLE_SECONDS = 3
WARM_SECONDS = 4
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# A gateway asks over a few connections at once.
GATEWAY_CONNECTIONS = 8


@dataclass
class Server:
    """A server under measurement."""

    name: str
    port: int
    running: Running
    authorization: str
    mint: Callable[[int], list[str]]
    rates: dict[str, list[Rate]] = field(default_factory=dict)
    idle_mb: float = 0.0

    @property
    def pid(self) -> int:
        """The one process that serves."""
        return self.running.process.pid

    def median(self, grant: str, what: str) -> float:
        """The median of `per_second` or `cpu_us` over the rounds."""
        return median(getattr(rate, what) for rate in self.rates[grant])


def measure(work: Path, certificate: Path, key: Path, rounds: int, seconds: float) -> tuple[dict[str, Any], Any]:
    """Everything: what goes into results.json under `identity`, and the details."""
    folder = work / "identity"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    servers: list[Server] = []
    try:
        ours = start_ours(folder / "stockade", certificate, key)
        servers.append(ours)
        servers += start_peers(folder, certificate, key)
        time.sleep(IDLE_SECONDS)
        for server in servers:
            server.idle_mb = round(memory_kb([server.pid]) / 1024, 1)
        for server in servers:
            # V8 compiles what is run often; the first thousands of requests are not what a server gives.
            for grant in GRANTS:
                load(server, grant, max(seconds, WARM_SECONDS), folder)
        for number in range(rounds):
            for grant in GRANTS:
                for server in servers:
                    server.rates.setdefault(grant, []).append(load(server, grant, seconds, folder))
            print(f"  round {number + 1} of {rounds}", flush=True)
        introspection_us = introspection(folder / "stockade", ours, seconds)
        return _results(servers, introspection_us), _details(servers)
    finally:
        for server in servers:
            server.running.stop()


def _results(servers: list[Server], introspection_us: float) -> dict[str, Any]:
    ours, *peers = servers
    ratios = {
        peer.name: {grant: round(peer.median(grant, "cpu_us") / ours.median(grant, "cpu_us"), 3) for grant in GRANTS}
        for peer in peers
    }
    return {
        **{{"memory": "vs_oidc_provider_memory", "sqlite": "vs_oidc_provider"}[name]: r for name, r in ratios.items()},
        "introspection_us": introspection_us,
        "idle_mb": ours.idle_mb,
        "tokens_per_second_and_core": {
            server.name: {grant: round(1e6 / server.median(grant, "cpu_us")) for grant in GRANTS} for server in servers
        },
    }


def _details(servers: list[Server]) -> dict[str, Any]:
    return {
        server.name: {
            "idle_mb": server.idle_mb,
            **{
                grant: {"per_second": [round(r.per_second) for r in rates], "cpu_us": [round(r.cpu_us) for r in rates]}
                for grant, rates in server.rates.items()
            },
        }
        for server in servers
    }


def load(server: Server, grant: str, seconds: float, folder: Path) -> Rate:
    """Ask for tokens from one thread with 32 connections, as fast as it goes. Raises InvalidError."""
    body = urlencode({"grant_type": "client_credentials", "scope": "orders:read", "resource": AUDIENCE})
    environment = {"BENCH_AUTHORIZATION": server.authorization, "BENCH_BODY": body}
    if grant == "refresh":
        file = folder / f"refresh-{server.name}"
        file.write_text("".join(token + "\n" for token in server.mint(REFRESH_TOKENS)))
        environment["BENCH_REFRESH"] = str(file)
    path = "/oauth2/token" if server.name == "stockade" else "/token"
    url = f"https://localhost:{server.port}{path}"
    return run_wrk("tokens.lua", url, environment, seconds, [server.pid])


# Stockade


def start_ours(folder: Path, certificate: Path, key: Path) -> Server:
    """The authorization server as `stockade up` would start it, with one client and one user."""
    folder.mkdir()
    port, internal = free_port(), free_port()
    path = _write_config(folder, port, internal, certificate, key)
    config = read_config(path)
    with open_storage(config.database_url) as storage:
        metadata = ClientMetadata(
            grant_types=("client_credentials", "authorization_code", "refresh_token"),
            redirect_uris=("https://app.example/callback",),
        )
        client = admin.create_client(storage, "bench", SCOPES, metadata=metadata)
        _insert_user(storage)
    command = [sys.executable, "-m", "stockade.identity", str(path)]
    running = Running.start(command, folder / "log", dict(os.environ))
    running.wait_for(port)
    pair = f"{client.client_id}:{client.client_secret}"

    def mint(count: int) -> list[str]:
        with open_storage(config.database_url) as storage:
            return [_mint(storage, config, client.client_id) for _ in range(count)]

    return Server("stockade", port, running, _basic(pair), mint)


def _write_config(folder: Path, port: int, internal: int, certificate: Path, key: Path) -> Path:
    made = make_internal_ca(folder / "internal")
    ensure_key_file(folder / "kek")
    config = {
        "database_url": f"sqlite:///{folder / 'identity.db'}",
        "issuer": f"https://localhost:{port}",
        "audiences": [AUDIENCE],
        "internal_audience": AUDIENCE,
        "scopes": list(SCOPES),
        "public": {"address": f"127.0.0.1:{port}", "certificate": str(certificate), "key": str(key)},
        "internal": {
            "address": f"127.0.0.1:{internal}",
            "certificate": str(made.server_certificate),
            "key": str(made.server_key),
            "ca": str(made.ca),
        },
        "key_encryption_key": {"file": "kek"},
    }
    path = folder / "identity.json"
    path.write_text(json.dumps(config))
    return path


def _insert_user(storage: Storage) -> None:
    user = UserRecord(
        user_id="u_bench",
        username="bench",
        name=None,
        email=None,
        email_verified=False,
        locale=None,
        roles=(),
        generation=0,
        created_at=0,
        disabled_at=None,
        has_password=False,
        must_change_password=False,
        has_totp=False,
        passkeys=0,
        recovery_codes=0,
    )
    with storage.write() as connection:
        insert_user(connection, user, "bench", None)


def _mint(storage: Storage, config: Config, client_id: str) -> str:
    """A refresh token, as if the user had signed in."""
    now = int(time.time())
    grant = GrantRow(f"g_{secrets.token_hex(16)}", client_id, "u_bench", None, SCOPES, now, now + 30 * 86_400)
    who = Authorization("u_bench", 0, grant.grant_id, None, now, "pwd", ("pwd",))
    with storage.write() as connection:
        client = find_client(connection, client_id, now)
        if client is None:
            raise InvalidError("the client is gone")
        insert_grant(connection, grant)
        made = make_refresh_token(config, client, who, SCOPES, AUDIENCE, None, grant.expires_at, now)
        insert_refresh_token(connection, made.row)
    return made.refresh_token


def introspection(folder: Path, ours: Server, seconds: float) -> float:
    """µs of the server's CPU for each introspection by the gateway: what a cache miss costs there."""
    config = json.loads((folder / "identity.json").read_text())
    token = _token(ours)
    context = ssl.create_default_context(cafile=config["internal"]["ca"])
    context.load_cert_chain(folder / "internal" / "gateway.pem", folder / "internal" / "gateway.key")
    port = int(config["internal"]["address"].rpartition(":")[2])
    body = urlencode({"token": token, "token_type_hint": "access_token", "resource": AUDIENCE})
    deadline = time.monotonic() + seconds

    def ask(_: int) -> int:
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        count = 0
        while time.monotonic() < deadline:
            client.request("POST", "/internal/introspect", body, FORM)
            answer = client.getresponse().read()
            if b'"active":true' not in answer:
                raise InvalidError(f"introspection gave {answer[:200]!r}")
            count += 1
        client.close()
        return count

    before = cpu_seconds([ours.pid])
    with ThreadPoolExecutor(GATEWAY_CONNECTIONS) as pool:
        count = sum(pool.map(ask, range(GATEWAY_CONNECTIONS)))
    return round((cpu_seconds([ours.pid]) - before) * 1e6 / count, 1)


def _token(server: Server) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=context)
    headers = {**FORM, "Authorization": server.authorization}
    client.request("POST", "/oauth2/token", "grant_type=client_credentials&scope=orders%3Aread", headers)
    found: str = json.loads(client.getresponse().read())["access_token"]
    client.close()
    return found


# The peer


def start_peers(folder: Path, certificate: Path, key: Path) -> list[Server]:
    """oidc-provider with each of its stores. Raises InvalidError where it is not installed."""
    if not (MODULES / "node_modules" / "oidc-provider").exists():
        raise InvalidError("oidc-provider is not installed: run bench/setup.sh")
    return [
        _start_peer("memory", "memory", folder, certificate, key),
        _start_peer("sqlite", str(folder / "peer.db"), folder, certificate, key),
    ]


def _start_peer(name: str, store: str, folder: Path, certificate: Path, key: Path) -> Server:
    port = free_port()
    environment = {**os.environ, "NODE_ENV": "production", "BENCH_MODULES": str(MODULES / "package.json")}
    command = ["node", str(HERE / "identity_peer" / "server.mjs"), str(port), str(certificate), str(key), store]
    running = Running.start(command, folder / f"peer-{name}.log", environment)
    running.wait_for(port)
    return Server(name, port, running, _basic("bench:bench-secret-bench-secret-bench-secret"), lambda n: _ask(port, n))


def _ask(port: int, count: int) -> list[str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    client.request("GET", f"/mint/{count}")
    found: list[str] = json.loads(client.getresponse().read())
    client.close()
    return found


def _basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()
