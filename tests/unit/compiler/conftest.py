"""The fixture that writes and compiles descriptions."""

from __future__ import annotations

import pytest
from compiler_workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("descriptions"))
