"""Small descriptions on disk, loaded through the public entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from spec_support import HEAD

from stockade import spec
from stockade.errors import DescriptionError

if TYPE_CHECKING:
    from pathlib import Path

    from spec_support import Describe, One, Refusal

    from stockade.spec.model import Description, Operation


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Write files (the first is the description) and overlays, and load them."""

    def write_and_load(files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any) -> Description:
        named = {"openapi.yaml": files} if isinstance(files, str) else files
        for name, text in named.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        paths = []
        for index, text in enumerate(overlays):
            path = tmp_path / f"overlay{index}.yaml"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        return spec.load(tmp_path / next(iter(named)), overlays=paths, **options)

    return write_and_load


@pytest.fixture
def refusal(describe: Describe) -> Refusal:
    """The error that loading raises."""

    def load_and_catch(files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any) -> DescriptionError:
        with pytest.raises(DescriptionError) as caught:
            describe(files, overlays, **options)
        return caught.value

    return load_and_catch


@pytest.fixture
def one(describe: Describe) -> One:
    """The only operation of a description whose `paths` are given."""

    def load_one(paths: str, head: str = HEAD, **options: Any) -> Operation:
        (operation,) = describe(head + paths, **options).operations
        return operation

    return load_one
