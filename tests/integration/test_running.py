"""Changes, crashes, handovers and ends of a running installation, with a client that goes on calling."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Self

import httpx
import pytest
from shop import shop
from stack import Reply, Stack, Upstream, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A Stockade of the test's own."""
    upstream = Upstream()
    try:
        with Stack(tmp_path, shop(), upstream.url) as stack:
            stack.upstream = upstream
            yield stack
    finally:
        upstream.close()


class Caller:
    """Clients that call `/status` without a pause, some on kept connections, some on new ones; failures are kept."""

    def __init__(self, stack: Stack, kept: int = 2, fresh: int = 1) -> None:
        self.stack = stack
        self.done = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(index < kept,)) for index in range(kept + fresh)]

    def _call(self, keep: bool) -> None:
        client = self.stack.http()
        while not self._stop.is_set():
            try:
                status = client.get("/status").status_code
                if status != 200:
                    self.failures.append(str(status))
            except httpx.HTTPError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.done += 1
            if not keep:
                client.close()
                client = self.stack.http()
            time.sleep(0.002)
        client.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_good_change_is_in_force_within_a_second_and_no_request_fails(own: Stack) -> None:
    changed = shop()
    changed["paths"]["/fresh"] = {
        "get": {
            "operationId": "fresh",
            "security": [],
            "responses": {"200": {"description": "ok", "content": {"application/json": {}}}},
        }
    }
    with Caller(own) as caller, own.http() as client:
        assert client.get("/fresh").status_code == 404
        own.write_description(changed)
        took = until(lambda: client.get("/fresh").status_code == 200, 5, "the change")
        time.sleep(0.3)
    assert took < 1.0
    assert not caller.failures
    assert caller.done > 20


@pytest.mark.parametrize("text", ["openapi: 3.1.0\npaths: [", "", "openapi: 2.0\n", "a: &a [*a]\n"])
def test_a_bad_change_is_reported_and_changes_nothing(own: Stack, text: str) -> None:
    before = own.cli_json("status", "--json")["bundle"]
    good = own.description.read_text()
    with Caller(own) as caller:
        own.description.write_text(text)
        until(lambda: "the change is not in force" in own.errors, 5, "the report")
        time.sleep(0.3)
        assert own.cli_json("status", "--json")["bundle"] == before
        own.description.write_text(good)
        time.sleep(0.5)
    assert not caller.failures
    assert "openapi.yaml" in own.errors


def test_a_change_of_the_policy_is_in_force_as_well(own: Stack) -> None:
    with own.http() as client:
        assert client.get("/status?x=1").status_code == 400
        own.write_policy(validation={"unknown_query": "allow"})
        until(lambda: client.get("/status?x=1").status_code == 200, 5, "the change")


@pytest.mark.parametrize("part", ["gateway", "identity"])
def test_a_killed_part_is_started_again(own: Stack, part: str) -> None:
    victim = own.gateway_pid() if part == "gateway" else child_named(own.pid, "stockade.identity")
    os.kill(victim, signal.SIGKILL)
    until(lambda: "starting it again" in own.errors, 5, "the report")

    def works() -> bool:
        try:
            with own.http() as client:
                token = own.token("orders:read")
                return client.get("/limited", headers={"Authorization": f"Bearer {token}"}).status_code in (200, 429)
        except (httpx.HTTPError, AssertionError):
            return False

    until(works, 20, "the restart")


def test_a_new_gateway_takes_the_port_over_without_a_failed_request(own: Stack) -> None:
    before = own.gateway_pid()
    with Caller(own) as caller:
        time.sleep(0.3)
        assert own.cli("reload").returncode == 0
        until(lambda: own.gateway_pid() != before, 15, "the handover")
        time.sleep(2.0)
    assert not caller.failures
    until(lambda: not alive(before), 10, "the end of the old gateway")


def test_a_drain_loses_no_request_in_flight(own: Stack) -> None:
    statuses: list[int] = []
    own.upstream.answer = lambda _: Reply(delay=1.5)
    with own.http() as client:
        thread = threading.Thread(target=lambda: statuses.append(client.get("/status").status_code))
        thread.start()
        time.sleep(0.5)
        assert own.stop() == 0
        thread.join()
    assert statuses == [200]


def test_a_second_instance_on_the_same_state_is_refused_with_a_hint(own: Stack) -> None:
    done = own.cli("up", "--json")
    assert done.returncode != 0
    assert "already runs" in done.stderr
    assert "hint" in done.stderr


def test_nothing_is_left_running_after_the_end(own: Stack) -> None:
    pids = children(own.pid)
    assert len(pids) >= 2
    own.stop()
    until(lambda: not any(alive(pid) for pid in pids), 10, "the end of all parts")


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as handle:  # noqa: PTH123
        return [int(child) for child in handle.read().split()]


def child_named(pid: int, needle: str) -> int:
    for child in children(pid):
        with open(f"/proc/{child}/cmdline", "rb") as handle:  # noqa: PTH123
            if needle.encode() in handle.read():
                return child
    raise AssertionError(f"no child {needle}")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as handle:  # noqa: PTH123
            return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_supervisor_takes_its_parts_along(own: Stack) -> None:
    pids = children(own.pid)
    os.kill(own.pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), 15, "the end of all parts")
    own.stop()


def test_a_signal_while_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    upstream = Upstream()
    stack = Stack(tmp_path, shop(), upstream.url)
    process = stack.popen("up", "--json")
    until(lambda: len(children(process.pid)) > 0, 20, "the first part")
    pids = children(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    until(lambda: not any(alive(pid) for pid in pids), 10, "the end of all parts")
    upstream.close()
