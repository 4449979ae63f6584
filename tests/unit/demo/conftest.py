"""A weak API that really runs, and a place to send calls to."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from stockade.demo.calls import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.demo.calls import Credentials


class FixedCredentials:
    """Tokens that look right. The API alone does not look at them, so any will do."""

    def access_token(self, _scopes: tuple[str, ...], _client: str) -> str:
        return "stk_at_" + "x" * 49

    def api_key(self) -> str:
        return "stk_ak_" + "x" * 49

    def revoked_token(self, _scopes: tuple[str, ...]) -> str | None:
        return "stk_at_" + "r" * 49

    def expired_token(self, _scopes: tuple[str, ...]) -> str | None:
        return "stk_at_" + "e" * 49

    def foreign_token(self, _scopes: tuple[str, ...]) -> str | None:
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def shop_url() -> Iterator[str]:
    """Start the weak API as its users do; one for all tests, as the demo has it."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "stockade.demo.weak_api", "--port", str(port)])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def credentials() -> Credentials:
    return FixedCredentials()


@pytest.fixture
def shop(shop_url: str, credentials: Credentials) -> Iterator[Place]:
    place = Place(shop_url, credentials, gate=False)
    place.memory["api"] = shop_url
    yield place
    place.close()
