"""What breaks around the gate, and in which direction. docs/failure-directions.md is the table; this is its proof."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from honest import Honest
from shop import shop
from stack import Reply, Stack, Upstream, until
from test_running import alive, child_named, children

from stockade import compiler
from stockade.control import state as st
from stockade.enforcement.admin import GatewayAdmin
from stockade.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ, WRITE = "orders:read", "orders:write"
STALE_SECONDS = 3
ORDERS = json.dumps([{"id": 7, "sku": "ABC-1234", "qty": 2}]).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gate that forgets soon. Every test leaves it whole."""
    upstream = Upstream()
    upstream.answer = lambda seen: Reply(body=b'{"ok":true}' if seen.target == "/status" else ORDERS)
    identity = {"stale_seconds": STALE_SECONDS}
    with Stack(tmp_path_factory.mktemp("failures"), shop(), upstream.url, identity=identity) as stack:
        stack.upstream = upstream
        yield stack
    upstream.close()


@pytest.fixture
def gate(shared: Stack) -> Iterator[Stack]:
    yield shared
    with shared.http() as client:
        until(lambda: client.get("/orders", headers=fresh(shared)).status_code == 200, 20, "recovery")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def fresh(stack: Stack) -> dict[str, str]:
    """A token that the gateway has never seen; none while the authorization server gives none."""
    with suppress(httpx.HTTPError, AssertionError):
        return bearer(stack.token(READ))
    return {}


def counter(stack: Stack, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", stack.metrics(), re.MULTILINE)
    assert found, name
    return float(found[1])


def identity_pid(stack: Stack) -> int:
    return child_named(stack.pid, "stockade.identity")


@contextmanager
def bounded(pid: int, what: int, number: int) -> Iterator[None]:
    """Lower one of a running process's limits for a while (prlimit(2))."""
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (number, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, what, (soft, hard))


def from_cache(stack: Stack, client: httpx.Client, headers: dict[str, str]) -> bool:
    """Whether a call passes without the authorization server being asked."""
    name = 'stockade_credential_cache_lookups_total{outcome="hit"}'
    before = counter(stack, name)
    return client.get("/orders", headers=headers).status_code == 200 and counter(stack, name) > before


def unavailable(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1


# The authorization server


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def down(stack: Stack) -> Iterator[None]:
    """Killed, and kept from starting again."""
    config = Path(stack.ready["state"]) / "run" / "identity.json"
    away = config.with_suffix(".away")
    config.rename(away)
    victim = identity_pid(stack)
    os.kill(victim, signal.SIGKILL)
    until(lambda: not alive(victim), 5, "its end")
    try:
        yield
    finally:
        away.rename(config)


@pytest.mark.parametrize("how", ["down", "silent"])
def test_without_the_authorization_server_cached_tokens_go_on_for_a_bounded_time_only(gate: Stack, how: str) -> None:
    known, unknown = bearer(gate.token(READ)), bearer(gate.token(READ))
    with gate.http() as client:
        until(lambda: from_cache(gate, client, known), 10, "the cache")
        with down(gate) if how == "down" else frozen(identity_pid(gate)):
            assert client.get("/orders", headers=known).status_code == 200
            answer = client.get("/orders", headers=unknown)
            assert unavailable(answer)
            assert gate.event(answer)["reason"] == "authorization_server_unavailable"
            until(lambda: unavailable(client.get("/orders", headers=known)), STALE_SECONDS + 5, "the end of trust")
            assert client.get("/status").status_code == 200, "public operations need no authorization server"
            assert counter(gate, 'stockade_introspections_total{outcome="failed"}') >= 1
            assert counter(gate, 'stockade_credential_cache_lookups_total{outcome="stale"}') >= 1
            until(lambda: counter(gate, "stockade_revocation_feed_errors_total") >= 1, 8, "the feed's error")
        until(lambda: client.get("/orders", headers=known).status_code == 200, 25, "recovery")


def test_a_revocation_during_an_outage_is_in_force_when_it_ends(gate: Stack) -> None:
    """Nothing that was cached before the outage may pass after it without having been asked for again."""
    made = gate.client(READ, WRITE)
    token = gate.token(READ, WRITE)
    with gate.http() as client:
        assert client.get("/orders", headers=bearer(token)).status_code == 200
        with down(gate):
            assert gate.cli("client", "disable", made["client_id"]).returncode == 0
            until(lambda: client.get("/orders", headers=bearer(token)).status_code == 503, 10, "the end of trust")
        statuses: set[int] = set()

        def refused() -> bool:
            statuses.add(client.get("/orders", headers=bearer(token)).status_code)
            return 401 in statuses

        until(refused, 25, "recovery")
    assert statuses <= {503, 401}


def test_a_full_disk_of_the_authorization_server_issues_nothing_and_verifies_on(gate: Stack) -> None:
    known, made = bearer(gate.token(READ)), gate.client(READ)
    fields = {"grant_type": "client_credentials"}
    endpoint, auth = gate.ready["token_endpoint"], (made["client_id"], made["client_secret"])
    with gate.http() as client:
        with bounded(identity_pid(gate), resource.RLIMIT_FSIZE, 1):
            answer = httpx.post(endpoint, data=fields, auth=auth, verify=gate.tls, trust_env=False)
            assert unavailable(answer)
            assert answer.json()["error"] == "temporarily_unavailable"
            assert client.get("/orders", headers=known).status_code == 200, (
                "a token never seen before is read, not written"
            )
        until(
            lambda: httpx.post(endpoint, data=fields, auth=auth, verify=gate.tls, trust_env=False).status_code == 200,
            5,
            "issuing again",
        )


def test_without_its_keys_the_authorization_server_vouches_for_nobody(gate: Stack) -> None:
    database = Path(gate.ready["state"]) / "identity" / "identity.db"
    unknown = bearer(gate.token(READ))

    def change(*statements: str) -> None:
        with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    with gate.http() as client:
        change("CREATE TABLE kept AS SELECT * FROM signing_keys", "DELETE FROM signing_keys")
        try:
            until(lambda: unavailable(client.get("/orders", headers=bearer(gate.token(READ)))), 20, "the refusal")
            assert unavailable(client.get("/orders", headers=unknown))
            assert client.get("/status").status_code == 200
        finally:
            change("INSERT INTO signing_keys SELECT * FROM kept", "DROP TABLE kept")
        until(lambda: client.get("/orders", headers=unknown).status_code == 200, 20, "recovery")


# The bundle


def unreadable(folder: Path, current: bytes) -> Path:
    path = folder / "folder.stkb"
    path.mkdir(exist_ok=True)
    return path


def torn(folder: Path, current: bytes) -> Path:
    path = folder / "torn.stkb"
    path.write_bytes(current[:-7])
    return path


def unsigned(folder: Path, current: bytes) -> Path:
    path = folder / "unsigned.stkb"
    path.write_bytes(re.sub(rb"(ed25519 [0-9a-f]+ )[0-9a-f]{128}", rb"\g<1>" + b"0" * 128, current, count=1))
    return path


def signed_by_another(folder: Path, current: bytes) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder / "another.stkb"
    payload = compiler.read_envelope(current).payload
    path.write_bytes(compiler.sign(payload, 10_000, Ed25519PrivateKey.generate()))
    return path


def absent(folder: Path, current: bytes) -> Path:
    return folder / "nothing.stkb"


@pytest.mark.parametrize("spoil", [unreadable, torn, unsigned, signed_by_another, absent])
def test_a_bad_bundle_is_refused_and_the_one_in_force_stays(
    gate: Stack, tmp_path: Path, spoil: Callable[[Path, bytes], Path]
) -> None:
    admin, before, refused = bundle_admin(gate)
    path = spoil(tmp_path, st.StateFolder(Path(gate.ready["state"])).bundle.read_bytes())
    with Honest(gate) as honest:
        with pytest.raises(BundleError):
            admin.swap_bundle(path)
        time.sleep(0.2)
    assert admin.status()["bundle"] == before
    assert counter(gate, 'stockade_bundle_swaps_total{outcome="refused"}') == refused + 1
    honest.was_served()


def test_an_older_bundle_is_refused_however_well_signed(gate: Stack, tmp_path: Path) -> None:
    admin, before, refused = bundle_admin(gate)
    folder = st.StateFolder(Path(gate.ready["state"]))
    payload = compiler.read_envelope(folder.bundle.read_bytes()).payload
    changed = payload.replace(b'"title":"Shop"', b'"title":"Shed"')
    assert changed != payload
    older = tmp_path / "older.stkb"
    older.write_bytes(compiler.sign(changed, before["serial"] - 1, st.signing_key(folder)))
    with pytest.raises(BundleError):
        admin.swap_bundle(older)
    assert admin.status()["bundle"] == before
    assert counter(gate, 'stockade_bundle_swaps_total{outcome="refused"}') == refused + 1


def bundle_admin(stack: Stack) -> tuple[GatewayAdmin, dict[str, Any], float]:
    admin = GatewayAdmin(Path(stack.ready["state"]) / "run" / "gateway.sock")
    return admin, admin.status()["bundle"], counter(stack, 'stockade_bundle_swaps_total{outcome="refused"}')


# Scarce


def test_without_descriptors_open_connections_go_on_and_others_wait(gate: Stack) -> None:
    pid = gate.gateway_pid()
    headers = bearer(gate.token(READ))
    with gate.http() as client, ExitStack() as held:
        assert client.get("/orders", headers=headers).status_code == 200
        before = counter(gate, "stockade_accept_errors_total")
        open_now = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
        with bounded(pid, resource.RLIMIT_NOFILE, open_now + 10):
            port = int(gate.url.rsplit(":", 1)[1])
            for _ in range(60):
                held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            # Known connections need no new descriptor, and the admin's does not come through.
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                assert client.get("/orders", headers=headers).status_code == 200
        held.close()
        with gate.http() as other:
            until(lambda: other.get("/status").status_code == 200, 10, "service for all")
    assert counter(gate, "stockade_accept_errors_total") > before
    assert gate.gateway_pid() == pid


def test_a_full_event_sink_delays_no_answer_and_is_counted(gate: Stack) -> None:
    pid = gate.gateway_pid()
    before = counter(gate, "stockade_events_failed_total")
    with Honest(gate) as honest, gate.http() as client:
        with bounded(pid, resource.RLIMIT_FSIZE, 1):
            for _ in range(50):
                assert client.get("/nowhere").status_code == 404
            until(lambda: counter(gate, "stockade_events_failed_total") >= before + 1, 5, "the count")
        written = counter(gate, "stockade_events_written_total")

        def writes_again() -> bool:
            return client.get("/nowhere") is not None and counter(gate, "stockade_events_written_total") > written

        until(writes_again, 5, "writing")
        assert gate.event(client.get("/nowhere"))["reason"] == "operation_unknown"
    honest.was_served()
    assert gate.gateway_pid() == pid


# The upstream


class RawUpstream:
    """Reads a head, then does what it is told with the socket."""

    def __init__(self) -> None:
        self.say: Callable[[socket.socket], None] = answer_well
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                got = connection.recv(65536)
                if not got:
                    return
                data += got
            self.say(connection)

    def close(self) -> None:
        # Without the shutdown, the blocked accept would keep the port open.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def answer_well(connection: socket.socket) -> None:
    connection.sendall(HEAD + f"Content-Length: {len(ORDERS)}\r\nConnection: close\r\n\r\n".encode() + ORDERS)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, RawUpstream]]:
    upstream = RawUpstream()
    api = {"upstream": {"endpoints": [upstream.url], "response_timeout_ms": 700, "connect_timeout_ms": 500}}
    with Stack(tmp_path_factory.mktemp("raw"), shop(), upstream.url, api=api) as stack:
        yield stack, upstream
    with suppress(OSError):
        upstream.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NONSENSE = {
    "bytes": b"\x00\xff\xfe\x01" * 100 + b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "half a head": HEAD,
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 500\r\n\r\n[",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n500\r\n[",
    "a wrong chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n",
    "a wrong status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a head without end": HEAD + b"X-A: " + b"a" * 2_000_000,
    "an answer beyond its type": HEAD + b"Content-Length: 5\r\n\r\n[1,2]",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_an_upstream_that_talks_nonsense_is_502_and_nothing_of_it_passes(
    raw: tuple[Stack, RawUpstream], what: str
) -> None:
    stack, upstream = raw
    headers = bearer(stack.token(READ))
    upstream.say = lambda connection: connection.sendall(NONSENSE[what])
    try:
        with stack.http() as client:
            answer = client.get("/orders", headers=headers)
            assert answer.status_code == 502
            assert answer.headers["content-type"] == "application/problem+json"
            assert stack.event(answer)["layer"] in ("upstream", "validate_response")
            upstream.say = answer_well
            assert client.get("/orders", headers=headers).status_code == 200
    finally:
        upstream.say = answer_well
    assert counter(stack, 'stockade_upstream_failures_total{reason="protocol_error"}') >= 1


def test_a_slow_upstream_is_504_in_time(raw: tuple[Stack, RawUpstream]) -> None:
    stack, upstream = raw
    headers = bearer(stack.token(READ))
    upstream.say = lambda _: time.sleep(3)
    try:
        with stack.http() as client:
            started = time.monotonic()
            answer = client.get("/orders", headers=headers)
            assert answer.status_code == 504
            assert time.monotonic() - started < 2.5
            assert stack.event(answer)["reason"] == "upstream_timeout"
    finally:
        upstream.say = answer_well
    assert counter(stack, 'stockade_upstream_failures_total{reason="upstream_timeout"}') >= 1


def test_without_an_upstream_the_answer_is_502_at_once(raw: tuple[Stack, RawUpstream]) -> None:
    """The last of the module: its upstream does not come back."""
    stack, upstream = raw
    headers = bearer(stack.token(READ))
    upstream.close()
    with stack.http() as client:
        started = time.monotonic()
        answer = client.get("/orders", headers=headers)
        assert answer.status_code == 502
        assert time.monotonic() - started < 2
        assert stack.event(answer)["reason"] == "unreachable"
    assert counter(stack, 'stockade_upstream_failures_total{reason="unreachable"}') >= 1


# The clock

JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long long *jump;
__attribute__((constructor)) static void map_jump(void) {
    const char *path = getenv("CLOCK_JUMP");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) jump = at;
    if (fd >= 0) close(fd);
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = (int)syscall(SYS_clock_gettime, id, t);
    if (!result && jump && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += *jump;
    return result;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the wall clock of every process that is started from now on, by seconds off the true time."""
    compiler_path = shutil.which("cc")
    if compiler_path is None:
        pytest.skip("needs a C compiler to make the clock jump")
    source, library, offset = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "offset"
    source.write_text(JUMPING_CLOCK)
    subprocess.run([compiler_path, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)

    def jump(seconds: int) -> None:
        with offset.open("r+b" if offset.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))

    jump(0)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_JUMP", str(offset))
    return jump


def test_a_clock_jump_makes_no_token_live_longer_and_no_request_fail_that_needs_none(
    tmp_path: Path, clock: Callable[[int], None]
) -> None:
    upstream = Upstream()
    upstream.answer = lambda seen: Reply(body=b'{"ok":true}' if seen.target == "/status" else ORDERS)
    folder = tmp_path / "stack"
    folder.mkdir()
    limits = {"per_address": "1000/hour"}
    with Stack(folder, shop(), upstream.url, limits=limits) as stack, stack.http() as client:
        old = bearer(stack.token(READ))
        assert client.get("/orders", headers=old).status_code == 200
        # Ahead, beyond every lifetime: what was cached is as expired as everything else.
        clock(3_600)
        assert client.get("/orders", headers=old).status_code == 401
        assert client.get("/status").status_code == 200
        new = bearer(stack.token(READ))
        assert client.get("/orders", headers=new).status_code == 200
        # Rates run on a clock that does not jump: an hour ahead gave nothing back.
        before = remaining(client.get("/status"))
        clock(7_200)
        assert remaining(client.get("/status")) <= before
        # Back: a revocation is learnt as ever, and what it killed stays dead.
        clock(3_600 - 120)
        back = bearer(stack.token(READ))
        until(lambda: client.get("/orders", headers=back).status_code == 200, 15, "service")
        made = stack.client(READ)
        done = httpx.post(
            stack.ready["issuer_url"] + "/oauth2/revoke", data={"token": back["Authorization"].removeprefix("Bearer ")},
            auth=(made["client_id"], made["client_secret"]), verify=stack.tls, trust_env=False,
        )  # fmt: skip
        assert done.status_code == 200
        assert until(lambda: client.get("/orders", headers=back).status_code == 401, 5, "the revocation") < 2
        clock(0)
        assert client.get("/orders", headers=back).status_code == 401
        assert client.get("/status").status_code == 200
    upstream.close()


def remaining(answer: httpx.Response) -> int:
    assert answer.status_code == 200
    found = re.search(r"\br=(\d+)", answer.headers["ratelimit"])
    assert found
    return int(found[1])


# The supervisor and its folder


def test_when_the_supervisor_is_killed_its_parts_end_and_the_next_start_succeeds(tmp_path: Path) -> None:
    """Nothing serves on unwatched, and nothing holds the ports: a service manager can start it again."""
    upstream = Upstream()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    stack = Stack(tmp_path, shop(), upstream.url, listen={"address": f"127.0.0.1:{port}"})
    with stack:
        parts = children(stack.pid)
        assert len(parts) >= 2
        assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not any(alive(pid) for pid in parts), 15, "the end of the parts")
        stack.start()
        with stack.http() as client:
            assert client.get("/status").status_code == 200
    upstream.close()


def test_a_state_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stack = Stack(tmp_path, shop(), "http://127.0.0.1:9", state="file/state")
    done = stack.cli("up", "--json")
    assert done.returncode != 0
    assert "state folder" in done.stderr
    assert "hint" in done.stderr


def test_a_port_that_is_taken_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = Stack(tmp_path, shop(), "http://127.0.0.1:9", listen={"address": address}).cli("up", "--json")
    assert done.returncode != 0
    assert address in done.stderr
    assert "hint" in done.stderr


def test_a_state_folder_that_becomes_full_keeps_the_bundle_in_force(gate: Stack) -> None:
    before = gate.cli_json("status", "--json")["bundle"]
    good = gate.description.read_text()
    changed = shop()
    changed["paths"]["/fresh"] = changed["paths"]["/status"]
    with Honest(gate) as honest:
        with bounded(gate.pid, resource.RLIMIT_FSIZE, 1):
            gate.description.write_text(json.dumps(changed))
            until(lambda: "the change is not in force" in gate.errors, 5, "the report")
            assert gate.cli_json("status", "--json")["bundle"] == before
        gate.description.write_text(good)
        time.sleep(0.5)
    honest.was_served()
