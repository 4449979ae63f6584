"""Stockade under measurement: the one place where the benchmark knows how Stockade is started.

`run.py` calls `available`, then `start` and `stop` as often as it likes, the rest once. Whatever cannot be measured
raises `NotMeasuredError` with the reason; the number is then left out, never guessed. Everything goes through the
command line, as a user has it: two installations, one in clear and one with TLS, each with a state folder of its own.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import resource
import shutil
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.api import ANSWER, BODY, POST_TARGET
from bench.peers import Endpoint
from bench.processes import Running, family, free_port

READY_SECONDS = 60.0
NEVER_MET = "100000000/second"
IDENTITY_PROCESS = re.compile(r"stockade[./]identity")


class NotMeasuredError(Exception):
    """A number cannot be had on this machine or at this stage; the message says why."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a started Stockade offers.

    `endpoints` are named `stockade` (clear), `stockade_tls` (HTTPS, HTTP/1.1) and `stockade_h2` (HTTPS, HTTP/2), each
    with the token of a client that holds the scope `orders`; the limits are on, and high enough never to refuse.
    `gateway` are the process numbers of both gateways, `idle_gateway` and `idle_authorization_server` those of the
    installation with TLS alone; `ready_seconds` counts from the start of its command to "ready", self-check included.
    """

    endpoints: tuple[Endpoint, ...]
    gateway: tuple[int, ...]
    idle_gateway: tuple[int, ...]
    idle_authorization_server: tuple[int, ...]
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class BoundClient:
    """Where it asks for tokens, and the `Authorization` header that proves it."""

    token_endpoint: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """Wall time and peak resident memory of compiling one description in a process of its own."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class _Installation:
    """One running `stockade up`."""

    running: Running
    state: Path
    ready: dict[str, Any]
    seconds: float

    def gateway(self) -> int:
        return int(_stockade("status", "--json", "--state", str(self.state))["pid"])

    def authorization_server(self) -> list[int]:
        found = [pid for pid in family(self.running.process.pid) if IDENTITY_PROCESS.search(_command_line(pid))]
        if not found:
            raise NotMeasuredError("no process of the authorization server found")
        return sorted({pid for parent in found for pid in family(parent)})

    def token(self) -> str:
        """Return an access token of a new client, asked for as any client would."""
        client = _stockade(
            "client", "create", f"bench-{time.time_ns()}", "--scope", "orders", "--json", "--state", str(self.state)
        )
        parts = urlsplit(self.ready["token_endpoint"])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=10, context=context)
        basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", parts.path, "grant_type=client_credentials&scope=orders", headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return str(answer["access_token"])


@dataclass(slots=True)
class Stockade:
    """Stockade with all layers on: cached token, limits, both directions validated, events and metrics, two threads."""

    installations: list[_Installation] = field(default_factory=list)

    def available(self) -> str | None:
        """Return None where Stockade can be started, else why not."""
        done = _run("--version")
        return None if done.returncode == 0 else f"`stockade` does not run: {done.stderr.strip()[-200:]}"

    def start(self, work: Path, description: Path, upstream_port: int, certificate: Path, key: Path) -> Started:
        """Start it in front of the upstream with this description and this TLS certificate; return when it is ready."""
        files = {"mode": "files", "certificate": str(certificate), "key": str(key)}
        clear = self._start(work / "stockade-clear", description, upstream_port, {"mode": "off"})
        tls = self._start(work / "stockade-tls", description, upstream_port, files)
        port = urlsplit(tls.ready["api_url"]).port
        clear_url = f"http://127.0.0.1:{urlsplit(clear.ready['api_url']).port}"
        token = tls.token()
        endpoints = (
            Endpoint("stockade", clear_url, token=clear.token()),
            Endpoint("stockade_tls", f"https://localhost:{port}", token=token),
            Endpoint("stockade_h2", f"https://localhost:{port}", "http2", token),
        )
        idle = tuple(tls.authorization_server())
        return Started(endpoints, (clear.gateway(), tls.gateway()), (tls.gateway(),), idle, tls.seconds)

    def bound_client(self) -> BoundClient:
        """A client of the installation with TLS whose tokens are bound to a key."""
        tls = self.installations[-1]
        options = ("--scope", "orders", "--dpop-bound", "--json", "--state", str(tls.state))
        made = _stockade("client", "create", "bound", *options)
        pair = f"{made['client_id']}:{made['client_secret']}".encode()
        return BoundClient(tls.ready["token_endpoint"], "Basic " + base64.b64encode(pair).decode())

    def stop(self) -> None:
        """Stop everything that the last `start` began."""
        while self.installations:
            self.installations.pop().running.stop()

    def compile(self, description: Path, work: Path) -> Compiled:
        """Compile a description into a bundle in `work`."""
        command = [
            "compile",
            str(description),
            "-o",
            str(work / "largest.stkb"),
            "--state",
            str(work / "compile-state"),
        ]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "stockade", *command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise NotMeasuredError(f"compiling {description.name} ended with {process.returncode}")
        return Compiled(seconds, _peak_mb(usage))

    def engine_us(self, description: Path, work: Path) -> float:
        """Return µs of CPU that the engine alone takes for the benchmark's POST and its answer."""
        if not self.installations:
            raise NotMeasuredError("Stockade does not run, so there is no token")
        bundle, body, answer = work / "engine.stkb", work / "body.json", work / "answer.json"
        body.write_bytes(BODY)
        answer.write_bytes(ANSWER)
        state = str(work / "compile-state")
        _stockade("compile", str(description), "-o", str(bundle), "--json", "--state", state)
        cargo = [
            "cargo",
            "run",
            "--quiet",
            "--profile",
            "dist",
            "--locked",
            "-p",
            "stockade-engine",
            "--example",
            "cost",
            "--",
        ]
        inputs = [str(bundle), self.installations[0].token(), POST_TARGET, str(body), str(answer)]
        done = subprocess.run([*cargo, *inputs], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotMeasuredError(f"the engine's example: {done.stderr.strip()[-300:]}")
        return float(json.loads(done.stdout)["us"])

    def version(self) -> str:
        """Return the version."""
        return _run("--version").stdout.strip()

    def _start(self, folder: Path, description: Path, upstream_port: int, tls: dict[str, str]) -> _Installation:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        policy = {
            "version": 1,
            "api": {"description": str(description), "upstream": f"http://127.0.0.1:{upstream_port}"},
            "listen": {"address": f"127.0.0.1:{free_port()}", "tls": tls, "threads": 2},
            "identity": {"listen": f"127.0.0.1:{free_port()}", "access_token_lifetime_seconds": 86400},
            "limits": {"per_address": NEVER_MET, "per_client": NEVER_MET},
            "state": str(folder / "state"),
        }
        (folder / "stockade.yaml").write_text(json.dumps(policy, indent=1))  # JSON is YAML
        command = [sys.executable, "-m", "stockade", "up", "-c", str(folder / "stockade.yaml")]
        started = time.perf_counter()
        running = Running.start(command, folder / "output.log")
        ready = folder / "state" / "run" / "ready.json"
        while not ready.exists():
            if running.process.poll() is not None or time.perf_counter() - started > READY_SECONDS:
                running.stop()
                raise RuntimeError(f"Stockade did not get ready: {running.log.read_text()[-1000:]}")
            time.sleep(0.005)
        seconds = time.perf_counter() - started
        found = _Installation(running, folder / "state", json.loads(ready.read_text()), seconds)
        self.installations.append(found)
        return found


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stockade", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def _stockade(*arguments: str) -> dict[str, Any]:
    done = _run(*arguments)
    if done.returncode != 0:
        raise RuntimeError(f"`stockade {' '.join(arguments[:2])}` ended with {done.returncode}: {done.stderr[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _peak_mb(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024  # KiB on Linux
