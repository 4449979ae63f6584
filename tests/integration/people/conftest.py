"""People on PostgreSQL: the support of two other folders, and a cluster of our own where its programs are installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

TESTS = Path(__file__).parents[2]
for folder in ("unit/identity", "integration/identity"):
    sys.path.insert(0, str(TESTS / folder))

from identity_support import Cluster, running_cluster  # noqa: E402 - needs the path

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running
