"""Two running products: one by the defaults, one that keeps FAPI 2.0's security profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "integration"))
sys.path.insert(0, str(HERE))

from judge_stand import running  # noqa: E402 - the helpers stand in the folders above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judge_stand import Stand


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with running(tmp_path_factory.mktemp("judges")) as found:
        yield found


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with running(tmp_path_factory.mktemp("bank"), profile="fapi2", code_seconds=6, par={"seconds": 10}) as found:
        yield found
