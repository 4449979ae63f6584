"""One measurement each: requests per second, latency at a fixed rate, handshakes per second, memory per connection.

All of them raise `InvalidError` rather than return a number that was got by failing requests.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.api import ANSWER, BODY, GET_TARGET, POST_TARGET
from bench.processes import cpu_seconds, memory_kb

if TYPE_CHECKING:
    from bench.peers import Endpoint

HERE = Path(__file__).parent
CONNECTIONS = 32
PACED_CONNECTIONS = 64


class InvalidError(Exception):
    """Requests failed while something was measured."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, and µs of the peer's CPU for each."""

    per_second: float
    cpu_us: float


def ask(endpoint: Endpoint, method: str, target: str, body: bytes = b"", token: str | None = None) -> tuple[int, bytes]:
    """Send one request as curl would and return status and body; certificates are not checked."""
    parts = urlsplit(endpoint.url)
    assert parts.hostname
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=10, context=context
        )
    else:
        client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    headers = {"Content-Type": "application/json"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    client.request(method, target, body or None, headers)
    answer = client.getresponse()
    found = answer.status, answer.read()
    client.close()
    return found


def check(endpoint: Endpoint) -> None:
    """Make sure that both requests are answered as the upstream answers them."""
    for method, target, body in (("GET", GET_TARGET, b""), ("POST", POST_TARGET, BODY)):
        if endpoint.protocol == "http2":
            continue  # h2load counts its own failures
        status, answer = ask(endpoint, method, target, body, endpoint.token)
        if (status, answer) != (200, ANSWER):
            raise InvalidError(f"{endpoint.name}: {method} {target} gave {status}: {answer[:200]!r}")


def throughput(endpoint: Endpoint, method: str, seconds: float, pids: list[int]) -> Rate:
    """Load the endpoint from one thread with 32 connections, as fast as it goes."""
    before = cpu_seconds(pids)
    measure = _h2load if endpoint.protocol == "http2" else _wrk
    requests, per_second = measure(endpoint, method, seconds)
    return Rate(per_second, (cpu_seconds(pids) - before) * 1e6 / requests)


def _wrk(endpoint: Endpoint, method: str, seconds: float) -> tuple[int, float]:
    env = {**os.environ, "BENCH_METHOD": method, "BENCH_BODY": BODY.decode()}
    if endpoint.token:
        env["BENCH_TOKEN"] = endpoint.token
    url = endpoint.url + (GET_TARGET if method == "GET" else POST_TARGET)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(HERE / "load.lua"), url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise InvalidError(f"{endpoint.name}: wrk said {done.stdout[-300:]} {done.stderr[-300:]}")
    result = json.loads(found[1])
    if result["refused"] or result["broken"] or not result["requests"]:
        raise InvalidError(f"{endpoint.name} {method}: {result}")
    return result["requests"], result["requests"] / result["seconds"]


def run_wrk(script: str, url: str, environment: dict[str, str], seconds: float, pids: list[int]) -> Rate:
    """Load a URL from one thread with 32 connections by a script of ours. Raises InvalidError."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(HERE / script), url]
    before = cpu_seconds(pids)
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    used = cpu_seconds(pids) - before
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise InvalidError(f"{script}: wrk said {done.stdout[-300:]} {done.stderr[-300:]}")
    result = json.loads(found[1])
    if result["refused"] or result["broken"] or not result["requests"]:
        raise InvalidError(f"{script} at {url}: {result}")
    return Rate(result["requests"] / result["seconds"], used * 1e6 / result["requests"])


def _h2load(endpoint: Endpoint, method: str, seconds: float) -> tuple[int, float]:
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", "-m1", "-D", str(max(1, round(seconds)))]
    if endpoint.token:
        command += ["-H", f"authorization: Bearer {endpoint.token}"]
    if method == "POST":
        body = HERE / ".work" / "body.json"
        body.write_bytes(BODY)
        command += ["-d", str(body), "-H", "content-type: application/json"]
    url = endpoint.url + (GET_TARGET if method == "GET" else POST_TARGET)
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=seconds + 60)
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if not (rate and codes and failed):
        raise InvalidError(f"{endpoint.name}: h2load said {done.stdout[-300:]} {done.stderr[-300:]}")
    if any(map(int, codes.groups()[1:])) or any(map(int, failed.groups())) or not int(codes[1]):
        raise InvalidError(f"{endpoint.name} {method}: {codes[0]}; {failed[0]}")
    return int(codes[1]), float(rate[1])


def latency(endpoint: Endpoint, rate: float, seconds: float) -> dict[str, float]:
    """Return `p50_us`, `p99_us` and others of GETs at a fixed rate; see pace.rs for how they are counted."""
    parts = urlsplit(endpoint.url)
    token = f"Authorization: Bearer {endpoint.token}\r\n" if endpoint.token else ""
    request = HERE / ".work" / f"request-{endpoint.name}"
    request.write_bytes(f"GET {GET_TARGET} HTTP/1.1\r\nHost: {parts.netloc}\r\n{token}\r\n".encode())
    arguments = [parts.netloc, f"{rate:.0f}", f"{seconds}", str(PACED_CONNECTIONS), str(request)]
    done = subprocess.run([str(pace()), *arguments], capture_output=True, text=True, check=True, timeout=seconds + 60)
    result: dict[str, float] = json.loads(done.stdout)
    if result["errors"] or result["requests"] < 0.95 * rate * seconds:
        raise InvalidError(f"{endpoint.name} at {rate:.0f}/s: {result}")
    return result


def pace() -> Path:
    """Build pace.rs where it is older than its source; return the program."""
    source, program = HERE / "pace.rs", HERE / ".work" / "pace"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["rustc", "--edition", "2021", "-C", "opt-level=3", "-o", str(program), str(source)], check=True)
    return program


def handshakes(endpoint: Endpoint, seconds: float, pids: list[int], clients: int = 3) -> Rate:
    """Open connections with a full TLS handshake each (no resumption) from a few OpenSSL clients at once."""
    before = cpu_seconds(pids)
    command = ["openssl", "s_time", "-new", "-connect", f"localhost:{endpoint.port}", "-time", str(round(seconds))]

    def one(_: int) -> tuple[int, float]:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
        found = re.search(r"(\d+) connections in (\d+) real seconds", done.stdout)
        if not found or not int(found[1]):
            raise InvalidError(f"{endpoint.name}: s_time said {done.stdout[-200:]} {done.stderr[-200:]}")
        return int(found[1]), seconds

    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        total = sum(count for count, _ in pool.map(one, range(clients)))
    return Rate(total / (time.monotonic() - started), (cpu_seconds(pids) - before) * 1e6 / total)


def kb_per_idle_connection(endpoint: Endpoint, pids: list[int], count: int) -> float:
    """Return the proportional memory (PSS, KiB) that each of `count` idle TLS connections costs the peer.

    The clients come from a thousand connections per loopback address, as a limit per address would have it.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    before = memory_kb(pids, "Pss")
    connections: list[ssl.SSLSocket] = []
    try:
        for number in range(count):
            source = (f"127.0.0.{2 + number // 900}", 0)
            plain = socket.create_connection(("127.0.0.1", endpoint.port), 10, source)
            connections.append(context.wrap_socket(plain, server_hostname="localhost"))
        time.sleep(2)
        return (memory_kb(pids, "Pss") - before) / count
    finally:
        for connection in connections:
            connection.close()
