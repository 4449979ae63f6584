"""What breaks, and in which direction: nothing half-issued, nothing lost, nothing revealed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from identity_support import (
    ask,
    assert_with,
    assertion,
    credentials,
    eventually,
    introspect,
    jwks_of,
    signing_key,
    token_for,
)

from stockade.identity import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from identity_support import Server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json() == {"error": "temporarily_unavailable"}


def test_a_full_disk_stops_issuing_and_loses_nothing(make_server: Callable[..., Server], small_disk: Path) -> None:
    server = make_server(database_url=f"sqlite:///{small_disk}/identity.db")
    client = server.client("c", api_key=True)
    with server.start().outside() as http, server.gateway() as gateway:
        tokens = [token_for(http, client) for _ in range(5)]
        (small_disk / "filler").write_bytes(b"")
        _fill(small_disk / "filler")
        answer = _ask_until_refused(http, client, tokens)
        assert_unavailable(answer)
        assert_unavailable(http.post("/oauth2/revoke", data={"token": tokens[0]}, headers=credentials(client)))
        # What was issued goes on being good, and the refused revocation did not half happen.
        assert all(introspect(gateway, token)["active"] for token in tokens)
        assert _rows(server, "access_tokens") == len(tokens)
        (small_disk / "filler").unlink()
        tokens.append(token_for(http, client))
        assert all(introspect(gateway, token)["active"] for token in tokens)
    reasons = [line["reason"] for line in server.log_lines() if line["event"] == "dependency_unavailable"]
    assert any("full" in reason or "disk I/O" in reason for reason in reasons)


def test_a_full_disk_leaves_an_assertion_unused(make_server: Callable[..., Server], small_disk: Path) -> None:
    key = signing_key(kid="k")
    server = make_server(database_url=f"sqlite:///{small_disk}/identity.db")
    client = server.client("c", auth_method="private_key_jwt", jwks=jwks_of(key))
    with server.start().outside() as http:
        (small_disk / "filler").write_bytes(b"")
        _fill(small_disk / "filler")
        for _ in range(500):
            text = assertion(server, client.client_id, key)
            answer = assert_with(http, text)
            if answer.status_code != 200:
                break
        assert_unavailable(answer)
        (small_disk / "filler").unlink()
        assert assert_with(http, text).status_code in (200, 401)
        assert assert_with(http, text).status_code == 401


def test_a_lost_database_answers_503_to_both_sides(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        with contextlib.closing(sqlite3.connect(server.folder / "identity.db", isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout=5000")
            for table in ("access_tokens", "clients"):
                other.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
            assert_unavailable(ask(http, client))
            assert_unavailable(
                gateway.post("/internal/introspect", data={"token": token, "resource": server.config["audiences"][0]})
            )
            for table in ("access_tokens", "clients"):
                other.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
        assert introspect(gateway, token)["active"] is True
        assert 'unavailable_total{dependency="storage"}' in gateway.get("/internal/metrics").text


def test_a_locked_database_answers_503_in_time(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        with contextlib.closing(sqlite3.connect(server.folder / "identity.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            assert_unavailable(ask(http, client))
            assert time.monotonic() - started < 10
            # Readers do not wait for writers.
            assert introspect(gateway, token)["active"] is True
            other.execute("ROLLBACK")
        assert ask(http, client).status_code == 200


def test_a_crash_under_load_loses_no_token_that_was_given_out(make_server: Callable[..., Server]) -> None:
    server = make_server(connections={"max_per_address": 64})
    client = server.client("c")
    issued: list[str] = []
    server.start()
    stop = threading.Event()

    def load() -> None:
        with server.outside() as http, contextlib.suppress(httpx.HTTPError):
            while not stop.is_set():
                issued.append(token_for(http, client))

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(load)
        eventually(lambda: len(issued) > 200)
        server.kill()
        stop.set()
    with server.start().gateway() as gateway:
        assert all(introspect(gateway, token)["active"] for token in issued)
    assert len(set(issued)) == len(issued)
    assert _rows(server, "access_tokens") >= len(issued)


def test_parallel_requests_get_tokens_of_their_own(server: Server) -> None:
    client = server.client("parallel")

    def some(_: int) -> list[str]:
        with server.outside() as http:
            return [token_for(http, client) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        tokens = [token for part in pool.map(some, range(8)) for token in part]
    assert len(set(tokens)) == 160
    with server.storage() as storage:
        standings = {token: admin.introspect(storage, token) for token in tokens}
    assert all(found is not None and found.standing == "active" for found in standings.values())


def test_a_stolen_database_holds_no_usable_credential(make_server: Callable[..., Server]) -> None:
    server = make_server()
    key = signing_key(kid="k")
    client = server.client("c", api_key=True)
    server.client("j", auth_method="private_key_jwt", jwks=jwks_of(key))
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        introspect(gateway, token)
        kid = http.get("/oauth2/jwks").json()["keys"][0]["kid"]
        server.kill()
    stolen = b"".join(path.read_bytes() for path in server.folder.glob("identity.db*"))
    assert client.api_key is not None
    assert client.client_secret is not None
    for secret in (token, client.client_secret, client.api_key.api_key):
        assert secret.encode() not in stolen
        assert secret[7:50].encode() not in stolen
    # The digests are there (so the search finds what is there), and what is there cannot be presented.
    assert hashlib.sha256(token.encode()).digest() in stolen
    assert kid.encode() in stolen
    assert not re.search(rb'"d"\s*:', stolen)
    assert b"PRIVATE KEY" not in stolen


def test_logs_hold_no_secret(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c", api_key=True)
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        assert client.api_key is not None
        introspect(gateway, token)
        introspect(gateway, client.api_key.api_key)
        http.post("/oauth2/revoke", data={"token": token}, headers=credentials(client))
        http.post("/oauth2/token", data={"grant_type": "x", "y": "stk_cs_canary"}, headers=credentials(client))
        http.get(f"/oauth2/{token}")
    text = server.log_path.read_text()
    assert client.client_id in text
    for secret in (token, client.client_secret, client.api_key.api_key, "stk_cs_canary"):
        assert secret is not None
        assert secret not in text
    assert server.internal.server_key.read_text() not in text


def test_files_are_closed_to_others(server: Server) -> None:
    for name in ("identity.db", "identity.db-wal", "identity.db-shm", "kek"):
        assert (server.folder / name).stat().st_mode & 0o077 == 0


def test_an_unexpected_failure_reveals_nothing(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    with server.start().outside() as http, server.gateway() as gateway:
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql("UPDATE clients SET auth_method = 'from-the-future'")
        answer = ask(http, client)
        assert (answer.status_code, answer.json()) == (500, {"error": "server_error"})
        assert "internal_errors_total 1" in gateway.get("/internal/metrics").text
    (line,) = [line for line in server.log_lines() if line["event"] == "internal_error"]
    assert line["exception"] == "ValueError"
    assert "from-the-future" not in str(line)


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 4096)


def _ask_until_refused(http: httpx.Client, client: admin.CreatedClient, tokens: list[str]) -> httpx.Response:
    """The write-ahead log may have room left in its last page; each token given out is counted."""
    for _ in range(500):
        answer = ask(http, client)
        if answer.status_code != 200:
            return answer
        tokens.append(answer.json()["access_token"])
    raise AssertionError("the disk never filled")


def _rows(server: Server, table: str) -> int:
    with server.storage() as storage, storage.read() as connection:
        count: int = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608
        return count
