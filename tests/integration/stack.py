"""A whole Stockade as a user runs it, in front of a recording upstream. Real processes, real TLS, loopback only."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import yaml

from stockade.enforcement.admin import GatewayAdmin

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 40.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """One request as the upstream got it; header names as received."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Reply:
    """What the upstream answers. `delay` in seconds before the head."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b"{}"
    delay: float = 0.0


class Upstream:
    """Records every request and answers with `answer(seen)`."""

    def __init__(self, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen], Reply] = lambda _: Reply()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                seen = Seen(self.command, self.path, list(self.headers.items()), self._body())
                outer.seen.append(seen)
                reply = outer.answer(seen)
                if reply.delay:
                    time.sleep(reply.delay)
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    if "Content-Length" not in reply.headers:
                        self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(reply.body)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Stack:
    """`stockade up` on a description and a policy, in a folder of its own."""

    def __init__(self, folder: Path, description: dict[str, Any], upstream_url: str, **policy: Any) -> None:
        self.folder = folder
        self.upstream: Upstream
        self.python = sys.executable
        self.errors = ""
        self._process: subprocess.Popen[str] | None = None
        self._clients: dict[tuple[str, ...], dict[str, Any]] = {}
        self.description = folder / "openapi.yaml"
        self.policy = folder / "stockade.yaml"
        self.write_description(description)
        self._policy: dict[str, Any] = {
            "version": 1,
            "api": {"description": "openapi.yaml", "upstream": upstream_url},
            "listen": {"address": "127.0.0.1:0", "drain_seconds": 5},
            "identity": {"listen": "127.0.0.1:0"},
            "limits": {"per_address": None, "per_client": None},
        }
        for key, value in policy.items():
            current = self._policy.get(key)
            self._policy[key] = {**current, **value} if isinstance(current, dict) and isinstance(value, dict) else value
        self.write_policy()

    def write_description(self, description: dict[str, Any]) -> None:
        temporary = self.description.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump(description, sort_keys=False))
        temporary.replace(self.description)

    def write_policy(self, **changes: Any) -> None:
        self._policy.update(changes)
        self.policy.write_text(yaml.safe_dump(self._policy, sort_keys=False))

    # Life

    def start(self) -> dict[str, Any]:
        """Start and wait until ready. Raises AssertionError with everything it said."""
        self._process = self.popen("up", "--json")
        assert self._process.stderr is not None
        threading.Thread(target=self._collect, args=(self._process.stderr,), daemon=True).start()
        assert self._process.stdout is not None
        killer = threading.Timer(START_SECONDS, self._process.kill)
        killer.start()
        text = ""
        for line in self._process.stdout:
            text += line
            if line.rstrip() == "}":
                break
        killer.cancel()
        assert text.rstrip().endswith("}"), f"not ready: {self.errors or self._process.stderr.read()}"
        self.ready: dict[str, Any] = json.loads(text)
        self.url: str = self.ready["api_url"]
        self.ca: str = self.ready["ca_file"]
        self.tls = ssl.create_default_context(cafile=self.ca)
        return self.ready

    def stop(self, number: int = signal.SIGTERM) -> int:
        process = self._process
        if process is None:
            return 0
        process.send_signal(number)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        self._process = None
        return status

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def gateway_pid(self) -> int:
        return int(self.cli_json("status", "--json")["pid"])

    # Commands

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-m", "stockade", *arguments],
            cwd=self.folder,
            env=os.environ,
            stdin=subprocess.PIPE if arguments[0] == "token" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-m", "stockade", *arguments],
            cwd=self.folder, env=os.environ, input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def cli_json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.cli(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # Calls

    def client(self, *scopes: str, api_key: bool = False) -> dict[str, Any]:
        """A registered client with these scopes; the same one for the same scopes."""
        key = (*scopes, str(api_key))
        if key not in self._clients:
            options = [option for scope in scopes for option in ("--scope", scope)]
            name = "client-" + re.sub(r"\W", "-", "-".join(key)).lower()
            extra = ["--api-key"] if api_key else []
            self._clients[key] = self.cli_json("client", "create", name, *options, *extra, "--json")
        return self._clients[key]

    def token(self, *scopes: str) -> str:
        """An access token with these scopes."""
        made = self.client(*scopes)
        answer = httpx.post(
            self.ready["token_endpoint"],
            data={"grant_type": "client_credentials", "scope": " ".join(scopes)}
            if scopes
            else {"grant_type": "client_credentials"},
            auth=(made["client_id"], made["client_secret"]),
            verify=self.tls,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def http(self, *, http2: bool = False, **options: Any) -> httpx.Client:
        """A client that trusts the development CA."""
        # A context of its own: the client writes its protocols into it.
        tls = ssl.create_default_context(cafile=self.ca)
        return httpx.Client(base_url=self.url, verify=tls, trust_env=False, http2=http2, timeout=20, **options)

    def event(self, problem: httpx.Response) -> dict[str, Any]:
        """The event of a refusal, by the id in its problem document."""
        event_id = problem.json()["instance"]
        for _ in range(60):
            done = self.cli("explain", event_id, "--json")
            if done.returncode == 0:
                found: dict[str, Any] = json.loads(done.stdout)
                return found
            time.sleep(0.05)
        raise AssertionError(f"no event {event_id}: {done.stderr}")

    def metrics(self) -> str:
        return GatewayAdmin(Path(self.ready["state"]) / "run" / "gateway.sock").metrics()

    def _collect(self, stream: Any) -> None:
        with suppress(ValueError):
            for line in stream:
                self.errors += line


def until(condition: Callable[[], bool], seconds: float = 10.0, what: str = "it") -> float:
    """Wait for a condition; returns how long it took."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if condition():
            return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds} s")
