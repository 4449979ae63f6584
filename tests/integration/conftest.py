"""One Stockade for all tests that do not change it; others start their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from shop import shop
from stack import Stack, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory, shared_upstream: Upstream) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), shop(), shared_upstream.url) as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Iterator[Upstream]:
    """The shared upstream, forgetful: nothing seen, plain answers."""
    before = shared_upstream.answer
    shared_upstream.seen.clear()
    yield shared_upstream
    shared_upstream.answer = before


@pytest.fixture
def stack(shared_stack: Stack, upstream: Upstream) -> Stack:
    """The shared gate, in front of the forgetful upstream."""
    return shared_stack
