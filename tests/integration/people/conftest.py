"""People on PostgreSQL: the support of two other folders, and a cluster of our own where its programs are installed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

TESTS = Path(__file__).parents[2]
for folder in ("unit/identity", "integration/identity"):
    sys.path.insert(0, str(TESTS / folder))

from identity_support import Cluster, program_of_postgresql  # noqa: E402 - needs the path

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg")
    try:
        program_of_postgresql("initdb")
    except FileNotFoundError:
        pytest.skip("PostgreSQL's programs are not installed")
    # pytest's own folders are closed to the account that PostgreSQL needs.
    with tempfile.TemporaryDirectory(prefix="stockade-pg") as folder:
        Path(folder).chmod(0o755)
        running = Cluster(Path(folder) / "cluster")
        running.start()
        yield running
        running.stop()
