"""Legitimate clients that go on calling while something happens: every failure and the slowest answer are kept."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from stack import Stack


class Honest:
    """An HTTP/1 client with a kept connection, one with fresh connections, and an HTTP/2 client; all with a token."""

    def __init__(self, stack: Stack, path: str = "/orders") -> None:
        self._stack = stack
        self._path = path
        self._token = stack.token("orders:read")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._clients = [(False, True), (False, False), (True, True)]
        self._threads = [threading.Thread(target=self._call, args=each) for each in self._clients]
        self.failures: list[str] = []
        self.seconds: list[float] = []

    def _call(self, http2: bool, keep: bool) -> None:
        client = self._client(http2)
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                status = client.get(self._path).status_code
                failure = None if status == 200 else str(status)
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
            with self._lock:
                self.seconds.append(time.monotonic() - started)
                if failure:
                    self.failures.append(f"http2={http2} keep={keep}: {failure}")
            if not keep:
                client.close()
                client = self._client(http2)
            time.sleep(0.01)
        client.close()

    def _client(self, http2: bool) -> httpx.Client:
        return self._stack.http(http2=http2, headers={"Authorization": f"Bearer {self._token}"})

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def was_served(self, slowest: float = 3.0, at_least: int = 3) -> None:
        """Assert that no request failed and none took longer than `slowest` seconds."""
        assert not self.failures, self.failures[:5]
        assert len(self.seconds) >= at_least
        assert max(self.seconds) < slowest, f"the slowest answer took {max(self.seconds):.2f} s"
