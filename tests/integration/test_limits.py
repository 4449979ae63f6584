"""Rates through the real gate on two threads: exact under parallel requests, told to clients, kept apart."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from shop import shop
from stack import Reply, Stack, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ = "orders:read"
LIMIT = 50
PARALLEL = 16
REQUESTS = 240


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    running.answer = lambda seen: Reply(body=b'{"ok":true}' if seen.target == "/status" else b"[]")
    yield running
    running.close()


def gate(folder: Path, upstream: Upstream, **limits: Any) -> Stack:
    return Stack(folder, shop(), upstream.url, limits=limits, listen={"threads": 2})


def rush(stack: Stack, path: str, headers: dict[str, str], *, http2: bool = False) -> list[httpx.Response]:
    """REQUESTS calls on PARALLEL connections at once."""

    def some(_: int) -> list[httpx.Response]:
        with stack.http(http2=http2) as client:
            return [client.get(path, headers=headers) for _ in range(REQUESTS // PARALLEL)]

    with ThreadPoolExecutor(PARALLEL) as pool:
        return [answer for answers in pool.map(some, range(PARALLEL)) for answer in answers]


def told(answer: httpx.Response) -> tuple[int, int]:
    """Remaining requests and seconds until more, of the first policy (draft-ietf-httpapi-ratelimit-headers)."""
    found = re.search(r'^"[^"]+";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert found, answer.headers["ratelimit"]
    return int(found[1]), int(found[2])


def check_refusals(answers: list[httpx.Response]) -> None:
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    for answer in refused:
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert told(answer)[0] == 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert "ratelimit-policy" in answer.headers


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_parallel_requests_of_one_client_never_exceed_its_limit(
    tmp_path: Path, upstream: Upstream, http2: bool
) -> None:
    with gate(tmp_path, upstream, per_address=None, per_client=f"{LIMIT}/day") as stack:
        headers = {"Authorization": f"Bearer {stack.token(READ)}"}
        answers = rush(stack, "/orders", headers, http2=http2)
        assert Counter(answer.status_code for answer in answers) == {200: LIMIT, 429: REQUESTS - LIMIT}
        assert len(upstream.seen) == LIMIT
        check_refusals(answers)
        # Another token of the same client is the same client; another client is not.
        with stack.http() as client:
            again = {"Authorization": f"Bearer {stack.token(READ)}"}
            assert client.get("/orders", headers=again).status_code == 429
            other = {"Authorization": f"Bearer {stack.token(READ, 'orders:write')}"}
            assert client.get("/orders", headers=other).status_code == 200


def test_parallel_requests_of_one_address_never_exceed_its_limit(tmp_path: Path, upstream: Upstream) -> None:
    with gate(tmp_path, upstream, per_address=f"{LIMIT}/day", per_client=None) as stack:
        answers = rush(stack, "/status", {})
        assert Counter(answer.status_code for answer in answers) == {200: LIMIT, 429: REQUESTS - LIMIT}
        assert len(upstream.seen) == LIMIT
        check_refusals(answers)


def test_what_is_left_is_told_truly(tmp_path: Path, upstream: Upstream) -> None:
    with gate(tmp_path, upstream, per_address=None, per_client="10/day") as stack, stack.http() as client:
        headers = {"Authorization": f"Bearer {stack.token(READ)}"}
        left = [told(client.get("/orders", headers=headers))[0] for _ in range(10)]
        assert left == list(range(9, -1, -1))
        assert client.get("/orders", headers=headers).status_code == 429


def test_a_client_that_waits_as_long_as_it_is_told_passes(tmp_path: Path, upstream: Upstream) -> None:
    import time

    with gate(tmp_path, upstream, per_address=None, per_client="30/minute burst 2") as stack, stack.http() as client:
        headers = {"Authorization": f"Bearer {stack.token(READ)}"}
        while (answer := client.get("/orders", headers=headers)).status_code == 200:
            assert len(upstream.seen) < 10
        assert answer.status_code == 429
        time.sleep(int(answer.headers["retry-after"]))
        assert client.get("/orders", headers=headers).status_code == 200


def test_who_is_refused_for_a_missing_token_pays_by_address(tmp_path: Path, upstream: Upstream) -> None:
    with gate(tmp_path, upstream, per_address="20/day", per_client=None) as stack, stack.http() as client:
        statuses = Counter(client.get("/orders").status_code for _ in range(30))
        assert statuses == {401: 20, 429: 10}
