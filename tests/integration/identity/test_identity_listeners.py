"""What one caller may take of the public listener while others go on being served."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from identity_support import ask, basic, credentials, token_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_support import Server

QUICK = {
    "handshake_timeout_seconds": 1,
    "head_timeout_seconds": 1,
    "body_timeout_seconds": 1,
    "idle_timeout_seconds": 1,
}


@pytest.fixture(scope="module")
def quick(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: object,
    public_certificates: object,
) -> Iterator[Server]:
    from identity_support import Server

    limits = {**QUICK, "max_connections": 60, "max_per_address": 40}
    folder = tmp_path_factory.mktemp("quick")
    with Server(folder, internal_certificates, public_certificates, {"connections": limits}) as server:  # type: ignore[arg-type]
        yield server


@contextlib.contextmanager
def connected(server: Server) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", server.public_port), timeout=10) as plain,
        server.trust().wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        yield secured


def closed_after(sock: socket.socket) -> float:
    """Seconds until the server closes; what it says before is read and dropped."""
    started = time.monotonic()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while sock.recv(65_536):
            pass
    return time.monotonic() - started


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        (
            b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100\r\n\r\ngrant_type="
        ),
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_slow_callers_are_cut_off(quick: Server, sent: bytes) -> None:
    with connected(quick) as sock:
        sock.sendall(sent)
        assert 0.5 < closed_after(sock) < 5


def test_dripping_bytes_win_no_time(quick: Server) -> None:
    with connected(quick) as sock:
        sock.settimeout(0.2)
        started = time.monotonic()
        sock.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 8:
                sock.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(100):
                        break
        assert time.monotonic() - started < 5


def test_blank_lines_after_an_answer_win_no_time(quick: Server) -> None:
    with connected(quick) as sock:
        sock.sendall(b"GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
        sock.sendall(b"\r\n")
        assert closed_after(sock) < 5


def test_a_handshake_that_does_not_come_is_cut_off(quick: Server) -> None:
    with socket.create_connection(("127.0.0.1", quick.public_port), timeout=10) as plain:
        assert closed_after(plain) < 5


def test_idle_connections_are_closed(quick: Server) -> None:
    with connected(quick) as sock:
        sock.sendall(b"GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert closed_after(sock) < 5


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    ],
    ids=["target", "field", "count"],
)
def test_large_heads_are_refused(quick: Server, head: bytes) -> None:
    with connected(quick) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(head)
        answer = b""
        with contextlib.suppress(OSError):
            answer = sock.recv(100)
        assert not answer or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GARBAGE\r\n\r\n",
    ],
)
def test_ambiguous_framing_is_refused(quick: Server, head: bytes) -> None:
    with connected(quick) as sock:
        sock.sendall(head)
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


def test_one_address_cannot_take_all_connections(quick: Server) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(quick)) for _ in range(45)]
        for sock in socks:
            sock.settimeout(0.3)
        refused = 0
        for sock in socks:
            try:
                refused += sock.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                refused += 1
        assert refused >= 5
    with quick.outside() as http:
        assert http.get("/oauth2/jwks").status_code == 200


def test_old_tls_is_not_spoken(quick: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(quick.public.ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", quick.public_port), timeout=5) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_answers_name_no_software(quick: Server) -> None:
    with quick.outside() as http:
        headers = http.get("/oauth2/jwks").headers
        assert "server" not in headers
        assert headers["x-content-type-options"] == "nosniff"


def test_failures_are_throttled_by_client_and_others_go_on(make_server: Callable[..., Server]) -> None:
    with make_server(throttling={"client_burst": 5, "address_burst": 50}) as server, server.outside() as http:
        victim, neighbour = server.client("victim"), server.client("neighbour")
        form = {"grant_type": "client_credentials"}
        answers = [http.post("/oauth2/token", data=form, headers=basic(victim.client_id, "wrong")) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].headers["cache-control"] == "no-store"
        # From this address the throttled client has to wait as well; the neighbour does not notice.
        assert ask(http, victim).status_code == 429
        assert ask(http, neighbour).status_code == 200
        unknown = [http.post("/oauth2/token", data=form, headers=basic("c_nobody", "x")) for _ in range(8)]
        assert [answer.status_code for answer in unknown] == [401] * 5 + [429] * 3


def test_guessing_many_clients_is_throttled_by_address_but_not_for_the_proven(
    make_server: Callable[..., Server],
) -> None:
    with make_server(throttling={"client_burst": 5, "address_burst": 20}) as server, server.outside() as http:
        proven, late = server.client("proven"), server.client("late")
        token_for(http, proven)
        form = {"grant_type": "client_credentials"}
        statuses = [http.post("/oauth2/token", data=form, headers=basic(f"c_{n}", "x")).status_code for n in range(40)]
        assert statuses[:20] == [401] * 20
        assert 429 in statuses[20:]
        assert ask(http, proven).status_code == 200
        assert ask(http, late).status_code == 429
        # Another address is another matter.
        transport = httpx.HTTPTransport(verify=server.trust(), local_address="127.0.0.2", trust_env=False)
        with httpx.Client(base_url=server.issuer, transport=transport) as elsewhere:
            answer = elsewhere.post("/oauth2/token", data=form, headers=credentials(late))
            assert answer.status_code == 200


def test_timing_does_not_tell_whether_a_client_exists(server: Server) -> None:
    """Medians of interleaved attempts; a look-up or hash that only one side does would stand out."""
    known = server.client("timed")
    form = {"grant_type": "client_credentials"}
    samples: dict[str, list[float]] = {known.client_id: [], "c_00000000000000000000": []}
    with server.outside() as http:
        for _ in range(150):
            for client_id, times in samples.items():
                started = time.perf_counter()
                assert http.post("/oauth2/token", data=form, headers=basic(client_id, "wrong")).status_code == 401
                times.append(time.perf_counter() - started)
    first, second = (sorted(times)[len(times) // 2] for times in samples.values())
    assert abs(first - second) < 0.25 * max(first, second)
