"""The process: start, refusal to start, reload, drain, and what it costs."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import ask, eventually, token_for

from stockade.identity.certificates import make_development_ca

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Server


def _refusal(server: Server) -> tuple[int, dict[str, Any]]:
    status = server.spawn().wait(20)
    server.stop()
    return status, server.log_lines()[-1]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"issuer": "http://localhost:1"}, "/issuer"),
        ({"issuer": "https://localhost/"}, "/issuer"),
        ({"audiences": []}, "/audiences"),
        ({"scopes": ["a b"]}, "/scopes/0"),
        ({"surprise": 1}, "/surprise"),
        ({"key_encryption_key": {}}, "/key_encryption_key"),
        ({"public": {"address": "nowhere"}}, "/public"),
        ({"external": {"issuer": "https://idp.example", "audience": "a", "algorithms": ["HS256"]}}, "/external"),
        ({"external": {"issuer": "https://idp.example", "audience": "a", "algorithms": []}}, "/external"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(
    make_server: Callable[..., Server], changes: dict[str, Any], pointer: str
) -> None:
    status, line = _refusal(make_server(**changes))
    assert (status, pointer in line["reason"]) == (2, True), line


def test_a_taken_port_is_named(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with socket.create_server(("127.0.0.1", server.public_port)):
        status, line = _refusal(server)
    assert (status, str(server.public_port) in line["reason"]) == (4, True)


def test_a_missing_certificate_is_named(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    server.write_config(public={**server.config["public"], "certificate": str(tmp_path / "none.pem")})
    status, line = _refusal(server)
    assert (status, "none.pem" in line["reason"]) == (4, True)


def test_an_unusable_database_is_named(make_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 1000)
    status, line = _refusal(make_server(database_url=f"sqlite:///{tmp_path}/broken.db"))
    assert (status, "not a database" in line["reason"]) == (4, True)
    status, line = _refusal(make_server(database_url=f"sqlite:///{tmp_path}/no/folder.db"))
    assert (status, "folder.db" in line["reason"]) == (4, True)


def test_it_starts_fast_and_small(make_server: Callable[..., Server]) -> None:
    """The floor of the budget is 110 MB; start-up is given a wide margin for a busy machine."""
    server = make_server()
    started = time.monotonic()
    server.start()
    seconds = time.monotonic() - started
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    megabytes = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(f"\nready after {seconds:.2f} s, resident {megabytes:.0f} MB")
    assert megabytes < 110
    assert seconds < 8


def test_reload_takes_up_scopes_and_certificates(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    client = server.client("c", ("orders:read", "orders:delete"))
    server.start()
    with server.outside() as http:
        assert ask(http, client, scope="orders:delete").status_code == 400
        other = make_development_ca(tmp_path / "other", ["localhost"])
        server.write_config(
            scopes=["orders:read", "orders:delete"],
            public={**server.config["public"], "certificate": str(other.certificate), "key": str(other.key)},
        )
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        # The open connection goes on through the reload.
        eventually(lambda: ask(http, client, scope="orders:delete").status_code == 200)
    server.public = other
    with server.outside() as http:
        assert ask(http, client).status_code == 200


def test_a_bad_reload_changes_nothing(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    with server.start().outside() as http:
        assert server.process is not None
        for broken in ({"scopes": ["a b"]}, {"scopes": [], "issuer": "https://other.example"}, {"external": {}}):
            before = dict(server.changes)
            server.write_config(**broken)
            refused = len(_events(server, "reload_refused"))
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda refused=refused: len(_events(server, "reload_refused")) == refused + 1)
            server.changes = before
            assert ask(http, client, scope="orders:read").status_code == 200


def test_sigterm_answers_who_waits_and_ends_cleanly(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.start()
    answers: list[int] = []

    def wait() -> None:
        with server.gateway() as gateway:
            start = gateway.get("/internal/revocations").json()
            query = {"after": start["sequence"], "epoch": start["epoch"], "wait": 30}
            answers.append(gateway.get("/internal/revocations", params=query).status_code)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: "revocation_waiters 1" in _metrics(server))
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 5
    waiting.join(5)
    assert answers == [200]


def test_sigterm_loses_no_request_in_flight(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    server.start()
    outcomes: list[int] = []

    def work() -> None:
        import httpx

        with server.outside() as http:
            for _ in range(200):
                try:
                    outcomes.append(ask(http, client).status_code)
                except httpx.ConnectError:
                    return  # the listener is closed: nothing was taken on
                except httpx.HTTPError:
                    outcomes.append(0)
                    return

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    eventually(lambda: len(outcomes) > 20)
    assert server.stop() == 0
    for worker in workers:
        worker.join(10)
    # A kept-alive connection may be closed under an idle client, which then sees a disconnect before any answer.
    assert outcomes.count(200) + outcomes.count(0) == len(outcomes)
    assert outcomes.count(0) <= len(workers)


def test_a_restart_keeps_everything(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.client("c")
    with server.start().outside() as http:
        token = token_for(http, client)
        keys = http.get("/oauth2/jwks").json()
    server.stop()
    with server.start().outside() as http, server.gateway() as gateway:
        from identity_support import introspect

        assert introspect(gateway, token)["active"] is True
        assert http.get("/oauth2/jwks").json() == keys


def _events(server: Server, name: str) -> list[dict[str, Any]]:
    return [line for line in server.log_lines() if line["event"] == name]


def _metrics(server: Server) -> str:
    with server.gateway() as gateway:
        return gateway.get("/internal/metrics").text
