"""Request smuggling: nothing that two readers could read differently gets through, and honest traffic does."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stack import Reply, Stack, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = Path(os.environ.get("STOCKADE_SHARED", Path(__file__).parents[3] / "shared"))
SMUGGLE = SHARED / "tools" / "smuggle.py"
FEWEST_SHAPES = 150


# Our own shapes: they need nothing but this repository.

HIDDEN = b"GET /orders/7 HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN


def post(
    *lines: bytes, body: bytes = b"", first: bytes = b"POST /echo HTTP/1.1", host: bytes = b"Host: localhost"
) -> bytes:
    return b"\r\n".join([first, host, b"Content-Type: text/plain", *lines, b"", body])


def both(transfer_encoding: bytes) -> bytes:
    return post(transfer_encoding, b"Content-Length: %d" % len(CHUNKED_HIDDEN), body=CHUNKED_HIDDEN)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


REFUSED = {
    "length and chunks": both(b"Transfer-Encoding: chunked"),
    "chunks with a space before the colon": both(b"Transfer-Encoding : chunked"),
    "an unknown coding": both(b"Transfer-Encoding: xchunked"),
    "a folded coding": both(b"Transfer-Encoding:\r\n chunked"),
    "a coding behind a bare LF": both(b"X-A: b\nTransfer-Encoding: chunked"),
    "a coding behind a bare CR": both(b"X-A: b\rTransfer-Encoding: chunked"),
    "a coding with a control character": both(b"Transfer-Encoding: \x0bchunked"),
    "an underscore twin": both(b"Transfer_Encoding: chunked"),
    "two codings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED_HIDDEN),
    "a coding twice": post(b"Transfer-Encoding: chunked, chunked", body=CHUNKED_HIDDEN),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=CHUNKED_HIDDEN, first=b"POST /echo HTTP/1.0"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "a signed length": post(b"Content-Length: +5", body=b"hello"),
    "a hexadecimal length": post(b"Content-Length: 0x5", body=b"hello"),
    "an overflowing length": post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "an empty length": post(b"Content-Length:", body=b"hello"),
    "a chunk size with a sign": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "an overflowing chunk size": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk data that goes on": chunked(b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size that ends in a bare LF": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "a request hidden behind a bare LF in an extension": chunked(b"2;\nxx\r\n%x\r\n" % len(HIDDEN) + CHUNKED_HIDDEN),
    "no host": post(b"Content-Length: 0", host=b"X-A: b"),
    "two hosts": post(b"Host: other.example", b"Content-Length: 0"),
    "a host with a user": post(b"Content-Length: 0", host=b"Host: a@localhost"),
    "an absolute target of another host": post(b"Content-Length: 0", first=b"POST http://other.example/echo HTTP/1.1"),
    "a space in the target": post(b"Content-Length: 0", first=b"POST /echo x HTTP/1.1"),
    "a NUL in the target": post(b"Content-Length: 0", first=b"POST /echo\x00 HTTP/1.1"),
    "a NUL in a value": post(b"X-A: b\x00c", b"Content-Length: 0"),
    "a folded line": post(b"X-A: b\r\n c", b"Content-Length: 0"),
    "two credentials": post(b"Authorization: Bearer a", b"Authorization: Bearer b", b"Content-Length: 0"),
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TRACE": b"TRACE /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "a nominated length": post(
        b"Connection: keep-alive, Content-Length", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
    ),
}

PASSED = {
    "a length": (post(b"Content-Length: 5", body=b"hello"), [b"hello"]),
    "chunks": (chunked(b"5\r\nhello\r\n0\r\n\r\n"), [b"hello"]),
    "chunks in other letters": (post(b"transfer-encoding: Chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), [b"hello"]),
    "a body that reads like a request": (post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN), [HIDDEN]),
    "a request behind a request": (
        post(b"Content-Length: 5", body=b"first") + post(b"Content-Length: 6", body=b"second"),
        [b"first", b"second"],
    ),
}


def echo_description(*paths: str) -> dict[str, Any]:
    """GET and POST of text in public."""
    content = {"application/json": {"schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}}}}
    responses = {"200": {"description": "ok", "content": content}}
    body = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    variable = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Echo", "version": "1"},
        "paths": {
            path: {
                **({"parameters": variable} if "{id}" in path else {}),
                "get": {"security": [], "responses": responses},
                "post": {"security": [], "requestBody": body, "responses": responses},
            }
            for path in paths
        },
    }


@pytest.fixture(scope="module", params=["clear", "tls"])
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = Upstream()
    upstream.answer = lambda _: Reply(body=b'{"ok":true}')
    listen = {"tls": {"mode": "off"}} if request.param == "clear" else {}
    folder = tmp_path_factory.mktemp("echo")
    with Stack(folder, echo_description("/echo", "/orders/{id}"), upstream.url, listen=listen) as stack:
        stack.upstream = upstream
        yield stack
    upstream.close()


def exchange(stack: Stack, raw: bytes, answers: int = 1) -> bytes:
    """Send the bytes, return what comes back, up to so many answers or the end."""
    stack.upstream.seen.clear()
    connection = socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1])), timeout=5)
    if stack.url.startswith("https"):
        connection = ssl.create_default_context(cafile=stack.ca).wrap_socket(connection, server_hostname="localhost")
    data = b""
    with connection:
        connection.sendall(raw)
        # A refusal ends the connection; an answer is followed by nothing.
        while b"connection: close" not in data.lower() and len(statuses(data)) < answers:
            got = connection.recv(65536)
            if not got:
                break
            data += got
    return data


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


@pytest.mark.parametrize("shape", REFUSED)
def test_what_two_readers_may_read_differently_is_refused(echo: Stack, shape: str) -> None:
    answered = statuses(exchange(echo, REFUSED[shape]))
    assert len(answered) <= 1
    assert all(400 <= status < 500 or status in (501, 505) for status in answered), answered
    assert not echo.upstream.seen


@pytest.mark.parametrize("shape", PASSED)
def test_honest_framing_passes(echo: Stack, shape: str) -> None:
    raw, bodies = PASSED[shape]
    assert statuses(exchange(echo, raw, len(bodies))) == [200] * len(bodies)
    assert [seen.body for seen in echo.upstream.seen] == bodies
    assert all(seen.target == "/echo" for seen in echo.upstream.seen)


# The shapes that all gateways are measured with


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def smuggle(folder: Path, listen: dict[str, Any]) -> list[dict[str, Any]]:
    folder.mkdir()
    port = free_port()
    found = folder / "found.json"
    with Stack(folder, echo_description("/s/{id}"), f"http://127.0.0.1:{port}", listen=listen) as stack:
        done = subprocess.run(
            [sys.executable, SMUGGLE, "--base", stack.url.replace("localhost", "127.0.0.1"),
             "--upstream-port", str(port), "--json", found],
            capture_output=True, text=True, timeout=270, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(found.read_text())
    return results


@pytest.fixture(scope="module")
def smuggled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What became of every shape, in clear text and over TLS, both at the same time as each mostly waits."""
    if not SMUGGLE.exists():
        pytest.skip(f"needs {SMUGGLE}")
    folder = tmp_path_factory.mktemp("smuggle")
    with ThreadPoolExecutor() as pool:
        clear = pool.submit(smuggle, folder / "clear", {"tls": {"mode": "off"}})
        tls = pool.submit(smuggle, folder / "tls", {})
        return {"clear": clear.result(), "tls": tls.result()}


@pytest.mark.parametrize("how", ["clear", "tls"])
def test_no_known_shape_is_smuggled(smuggled: dict[str, list[dict[str, Any]]], how: str) -> None:
    results = smuggled[how]
    assert len(results) >= FEWEST_SHAPES
    dangerous = [each["id"] for each in results if each["verdict"] in ("RAW", "SPLIT", "DESYNC") and not each["ok"]]
    assert not dangerous
    unwanted = {each["id"]: (each["verdict"], each["client"]) for each in results if not each["ok"]}
    assert not unwanted


@pytest.mark.parametrize("how", ["clear", "tls"])
def test_every_honest_shape_passes(smuggled: dict[str, list[dict[str, Any]]], how: str) -> None:
    controls = [each for each in smuggled[how] if each["want"] == "accept"]
    assert controls
    assert all(each["verdict"] == "clean" for each in controls), controls
