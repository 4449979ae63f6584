"""Slow, silent and flooding clients against the real gateway, while legitimate clients go on being served."""

from __future__ import annotations

import functools
import json
import re
import resource
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    RST_STREAM,
    SETTINGS,
    RawH2,
    frame,
    setting,
)
from honest import Honest
from shop import shop
from stack import Reply, Seen, Stack, Upstream, until

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_CONNECTIONS = 5_000
# One address stands for all clients here, so it may hold more than the defaults let it.
ROOM = {"max": 8_000, "max_per_address": 7_000}
HASTY = {
    **ROOM,
    "handshake_timeout_ms": 1_500,
    "header_timeout_ms": 1_500,
    "body_grace_seconds": 1,
    "body_min_bytes_per_second": 1_000,
    "write_timeout_ms": 1_500,
}
BIG = bytes(range(256)) * 131_072


def answers(seen: Seen) -> Reply:
    if seen.target.startswith("/files/"):
        return Reply(headers={"Content-Type": "application/octet-stream"}, body=BIG)
    if seen.target == "/status":
        return Reply(body=b'{"ok":true}')
    return Reply(body=json.dumps([{"id": 7, "sku": "ABC-1234", "qty": 2}]).encode())


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gate with short deadlines, so that the tests are short."""
    upstream = Upstream()
    upstream.answer = answers
    with Stack(tmp_path_factory.mktemp("floods"), shop(), upstream.url, listen={"connections": HASTY}) as stack:
        stack.upstream = upstream
        yield stack
    upstream.close()


def port_of(stack: Stack) -> int:
    return int(stack.url.rsplit(":", 1)[1])


def plain(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(stack)), timeout=8)


def http1(stack: Stack) -> ssl.SSLSocket:
    return context_for(stack.ca).wrap_socket(plain(stack), server_hostname="localhost")


@functools.cache
def context_for(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def http2(stack: Stack, **options: Any) -> RawH2:
    return RawH2(port_of(stack), stack.ca, **options)


def head(stack: Stack, method: str, path: str, *lines: str) -> bytes:
    every = [f"{method} {path} HTTP/1.1", f"Host: localhost:{port_of(stack)}", *lines, "", ""]
    return "\r\n".join(every).encode()


def counter(stack: Stack, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", stack.metrics(), re.MULTILINE)
    assert found, name
    return float(found[1])


def rest_of(connection: socket.socket) -> bytes:
    """Everything until the other side ends the connection. Raises TimeoutError if it does not."""
    data = b""
    try:
        while got := connection.recv(65536):
            data += got
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def drip(connections: list[ssl.SSLSocket], piece: bytes, seconds: float) -> None:
    """A byte now and then on each, as long as it is taken."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in connections:
            try:
                connection.sendall(piece)
            except (OSError, ssl.SSLError):
                continue
        time.sleep(0.2)


# Slow


def test_slow_heads_are_cut_and_told_so(hasty: Stack) -> None:
    with Honest(hasty) as honest, ExitStack() as held:
        slow = []
        for _ in range(100):
            # At once, as who has sent nothing of a head when its time is up gets no answer.
            slow.append(held.enter_context(http1(hasty)))
            slow[-1].sendall(head(hasty, "GET", "/orders")[:-2])
        drip(slow, b"X", 2.2)
        ended = [rest_of(connection) for connection in slow]
    assert all(data.startswith(b"HTTP/1.1 408") for data in ended)
    honest.was_served()


def test_slow_bodies_are_cut_and_told_so(hasty: Stack) -> None:
    token = hasty.token("orders:write")
    hasty.upstream.seen.clear()
    lines = (f"Authorization: Bearer {token}", "Content-Length: 5000")
    with Honest(hasty) as honest, ExitStack() as held:
        slow = []
        for index in range(40):
            # One half is validated before it is forwarded, the other streamed.
            how = ("POST", "/orders", "json") if index % 2 else ("PUT", "/files/x", "octet-stream")
            slow.append(held.enter_context(http1(hasty)))
            slow[-1].sendall(head(hasty, *how[:2], *lines, f"Content-Type: application/{how[2]}"))
        drip(slow, b" ", 3.0)
        ended = [rest_of(connection) for connection in slow]
    assert all(data.startswith(b"HTTP/1.1 408") for data in ended), {data[:40] for data in ended}
    assert not any(seen.method == "POST" for seen in hasty.upstream.seen)
    honest.was_served()


def test_slow_http2_bodies_are_cut_and_told_so(hasty: Stack) -> None:
    token = hasty.token("orders:write")
    with Honest(hasty) as honest, http2(hasty) as slow:
        fields = (
            ("authorization", f"Bearer {token}"),
            ("content-type", "application/json"),
            ("content-length", "5000"),
        )
        for stream in range(1, 41, 2):
            slow.send(frame(HEADERS, END_HEADERS, stream, slow.block("/orders", *fields, method="POST")))
        assert statuses_of(slow, 20) == [408] * 20
    honest.was_served()


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"Authorization": "Bearer x"}, 401)], ids=["no-token", "bad-token"]
)
def test_an_early_refusal_reaches_a_client_that_goes_on_sending(
    hasty: Stack, http2: bool, headers: dict[str, str], status: int
) -> None:
    """What the body's window holds, and more: some clients read nothing before they have sent everything."""
    started = time.monotonic()
    with hasty.http(http2=http2) as client:
        answer = client.put("/files/x", content=b"a" * 3_000_000, headers=headers)
        assert answer.status_code == status
        assert client.get("/status").status_code == 200
    assert time.monotonic() - started < 5


def test_slow_readers_are_cut_over_http1(hasty: Stack) -> None:
    token = hasty.token("orders:read")
    with Honest(hasty) as honest, ExitStack() as held:
        slow = [held.enter_context(http1(hasty)) for _ in range(10)]
        for connection in slow:
            connection.sendall(head(hasty, "GET", "/files/big", f"Authorization: Bearer {token}"))
        until(lambda: counter(hasty, "stockade_requests_in_flight") >= 10, 5, "all downloads")
        # The honest clients are three.
        until(lambda: counter(hasty, "stockade_requests_in_flight") <= 3, 12, "the end of the downloads")
        taken = [len(rest_of(connection)) for connection in slow]
    assert max(taken) < len(BIG)
    honest.was_served()


def test_slow_readers_are_cut_over_http2(hasty: Stack) -> None:
    """They read, and answer pings; but their window stays shut."""
    token = hasty.token("orders:read")
    with Honest(hasty) as honest, http2(hasty, settings=setting(INITIAL_WINDOW_SIZE, 16)) as slow:
        for stream in range(1, 101, 2):
            block = slow.block("/files/big", ("authorization", f"Bearer {token}"))
            slow.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        reset: set[int] = set()
        end = time.monotonic() + 8
        while len(reset) < 50 and time.monotonic() < end:
            got = slow.receive()
            assert got is not None, "the connection should live"
            if got.kind == RST_STREAM:
                reset.add(got.stream)
            elif got.kind in (PING, SETTINGS) and not got.flags & ACK:
                slow.send(frame(got.kind, ACK, 0, got.payload if got.kind == PING else b""))
    assert len(reset) == 50
    honest.was_served()


def test_connections_without_a_client_hello_are_cut(hasty: Stack) -> None:
    before = counter(hasty, 'stockade_tls_handshakes_total{outcome="timeout"}')
    with Honest(hasty) as honest, ExitStack() as held:
        silent = [held.enter_context(plain(hasty)) for _ in range(300)]
        for connection in silent[::2]:
            # The first bytes of a handshake record whose rest never comes.
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert all(rest_of(connection) == b"" for connection in silent)
    assert counter(hasty, 'stockade_tls_handshakes_total{outcome="timeout"}') >= before + 300
    honest.was_served()


# Many


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"needs {number} file descriptors; the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_5000_idle_tls_connections_hinder_nobody_and_cost_little(tmp_path_factory: pytest.TempPathFactory) -> None:
    patient = {**ROOM, "header_timeout_ms": 120_000, "idle_timeout_ms": 120_000, "handshake_timeout_ms": 30_000}
    upstream = Upstream()
    upstream.answer = answers
    # The limit is raised before the gate starts: its processes inherit it.
    with descriptors(IDLE_CONNECTIONS + 1_500):
        with (
            Stack(tmp_path_factory.mktemp("idle"), shop(), upstream.url, listen={"connections": patient}) as stack,
            Honest(stack) as honest,
            ExitStack() as held,
        ):
            before = resident_kb(stack.gateway_pid())
            for _ in range(IDLE_CONNECTIONS):
                held.enter_context(http1(stack))
            # The handshake ends at the client before the gateway has counted it.
            until(lambda: counter(stack, "stockade_connections_open") >= IDLE_CONNECTIONS, 10, "all connections")
            grown = (resident_kb(stack.gateway_pid()) - before) / IDLE_CONNECTIONS
            during = len(honest.seconds)
            until(lambda: len(honest.seconds) > during + 30, 20, "service meanwhile")
        upstream.close()
    honest.was_served()
    assert grown < 100, f"{grown:.0f} KB each"


def test_an_address_gets_no_more_connections_than_it_may_have(tmp_path_factory: pytest.TempPathFactory) -> None:
    upstream = Upstream()
    connections = {"max_per_address": 20}
    with Stack(tmp_path_factory.mktemp("few"), shop(), upstream.url, listen={"connections": connections}) as stack:
        with ExitStack() as held:
            for _ in range(20):
                held.enter_context(http1(stack))
            with pytest.raises((OSError, ssl.SSLError)):
                http1(stack)
            assert counter(stack, 'stockade_shed_total{what="connection"}') >= 1
        with stack.http() as client:
            until(lambda: counter(stack, "stockade_connections_open") < 20, 5, "the places")
            assert client.get("/status").status_code == 200
    upstream.close()


# HTTP/2


def reset(connection: RawH2, number: int) -> bytes:
    stream = 2 * number + 1
    block = connection.block("/status")
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block) + frame(RST_STREAM, 0, stream, CANCEL)


def continuation(connection: RawH2, number: int) -> bytes:
    return frame(CONTINUATION, 0, 1) if number else frame(HEADERS, END_STREAM, 1, connection.block("/status"))


def big_continuation(connection: RawH2, number: int) -> bytes:
    if not number:
        return frame(HEADERS, END_STREAM, 1, connection.block("/status"))
    field = b"\x00\x05x-pad\x7f\xe1\x7b" + b"a" * 15_968
    return frame(CONTINUATION, 0, 1, field)


def ping(_: RawH2, number: int) -> bytes:
    return frame(PING, 0, 0, number.to_bytes(8, "big"))


def settings(_: RawH2, number: int) -> bytes:
    return frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 65_535 - number % 2))


def empty_data(connection: RawH2, number: int) -> bytes:
    return frame(0, 0, 1) if number else frame(HEADERS, END_HEADERS, 1, connection.block("/orders", method="POST"))


def unknown(_: RawH2, number: int) -> bytes:
    return frame(0x42, 0, 0)


@pytest.mark.parametrize(
    "piece",
    [reset, continuation, big_continuation, ping, settings, empty_data, unknown],
    ids=lambda each: each.__name__.replace("_", "-"),
)
def test_an_http2_flood_is_cut(hasty: Stack, piece: Any) -> None:
    before = counter(hasty, "stockade_protocol_errors_total")
    started = time.monotonic()
    with Honest(hasty) as honest:
        for _ in range(5):
            with http2(hasty) as flood:
                flood.sends([b"".join(piece(flood, n) for n in range(at, at + 50)) for at in range(0, 5_000, 50)])
                flood.until_the_end()
        time.sleep(0.3)
    assert time.monotonic() - started < 20
    until(lambda: counter(hasty, "stockade_protocol_errors_total") >= before + 5, 3, "five cuts")
    honest.was_served()


def test_a_reset_flood_hardly_reaches_the_upstream(hasty: Stack) -> None:
    hasty.upstream.seen.clear()
    with http2(hasty) as flood:
        flood.sends([reset(flood, n) for n in range(5_000)])
        flood.until_the_end()
    time.sleep(0.5)
    assert len(hasty.upstream.seen) < 600


def test_an_hpack_bomb_unpacks_to_nothing(hasty: Stack) -> None:
    """One field of 4,000 bytes enters the table; each further byte of the block names it once more (RFC 7541 §6.1)."""
    hasty.upstream.seen.clear()
    before = resident_kb(hasty.gateway_pid())
    with Honest(hasty) as honest:
        for _ in range(10):
            with http2(hasty) as bomb:
                field = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4_000
                block = bomb.block("/status") + field + b"\xbe" * 12_000
                bomb.sends([frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in range(1, 41, 2)])
                assert 200 not in statuses_of(bomb, 20)
    assert not any("x" in dict(seen.headers) for seen in hasty.upstream.seen)
    assert resident_kb(hasty.gateway_pid()) - before < 100_000
    honest.was_served()


def statuses_of(connection: RawH2, number: int) -> list[int]:
    """The statuses of up to so many answers; fewer when streams are reset or the connection ends."""
    import hpack

    decoder, found, done = hpack.Decoder(), [], set()
    while len(done) < number and (got := connection.receive()) is not None:
        if got.kind == HEADERS:
            found.append(int(dict(decoder.decode(got.payload))[":status"]))
            done.add(got.stream)
        elif got.kind == RST_STREAM:
            done.add(got.stream)
        elif got.kind == GOAWAY:
            break
    return found


@pytest.mark.parametrize(
    ("count", "size"), [(20, 3_000), (1, 60_000), (150, 10)], ids=["too-much", "one-huge", "too-many"]
)
def test_an_oversized_header_list_is_refused_over_http2(hasty: Stack, count: int, size: int) -> None:
    hasty.upstream.seen.clear()
    with http2(hasty) as raw, hasty.http() as client:
        block = raw.block("/status", *((f"x-pad-{index}", "a" * size) for index in range(count)))
        pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS * (len(pieces) == 1), 1, pieces[0]))
        for index, piece in enumerate(pieces[1:], 2):
            raw.send(frame(CONTINUATION, END_HEADERS * (index == len(pieces)), 1, piece))
        assert all(status == 431 for status in statuses_of(raw, 1))
        assert not hasty.upstream.seen
        assert client.get("/status").status_code == 200


@pytest.mark.parametrize(
    ("count", "size"), [(20, 3_000), (1, 60_000), (150, 10)], ids=["too-much", "one-huge", "too-many"]
)
def test_an_oversized_header_list_is_refused_over_http1(hasty: Stack, count: int, size: int) -> None:
    hasty.upstream.seen.clear()
    with http1(hasty) as connection:
        connection.sendall(head(hasty, "GET", "/status", *(f"X-Pad-{index}: {'a' * size}" for index in range(count))))
        assert rest_of(connection).startswith(b"HTTP/1.1 431")
    assert not hasty.upstream.seen


def test_more_streams_than_allowed_are_refused_and_the_rest_is_served(hasty: Stack) -> None:
    token = hasty.token("orders:read")
    hasty.upstream.answer = lambda seen: Reply(delay=0.5) if seen.target == "/status" else answers(seen)
    try:
        with Honest(hasty) as honest, http2(hasty) as many:
            block = many.block("/status", ("authorization", f"Bearer {token}"))
            # A client that waits for the settings knows the bound; this one does not wait.
            many.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, block) for n in range(150)))
            statuses = statuses_of(many, 150)
    finally:
        hasty.upstream.answer = answers
    assert 0 < len(statuses) <= 150
    assert set(statuses) == {200}
    honest.was_served()


def test_pipelined_requests_wait_for_their_turn(hasty: Stack) -> None:
    with Honest(hasty) as honest, http1(hasty) as connection:
        connection.sendall(head(hasty, "GET", "/status") * 199 + head(hasty, "GET", "/status", "Connection: close"))
        data = rest_of(connection)
    assert data.count(b"HTTP/1.1 ") == 200
    honest.was_served()


def test_what_is_left_after_all_this_is_nothing(hasty: Stack) -> None:
    """Places, bodies and requests are given back, whatever cut them short."""
    until(lambda: counter(hasty, "stockade_requests_in_flight") == 0, 5, "the last request")
    until(lambda: counter(hasty, "stockade_connections_open") == 0, 8, "the last connection")
    assert "Traceback" not in hasty.errors
    assert counter(hasty, "stockade_panics_total") == 0
