"""Small descriptions on disk, loaded through the public entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from stockade import spec
from stockade.errors import DescriptionError

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.spec.model import Description, Operation

HEAD = 'openapi: "3.1.0"\ninfo: {title: T, version: "1"}\n'
HEAD_30 = 'openapi: "3.0.3"\ninfo: {title: T, version: "1"}\n'


class Describe(Protocol):
    def __call__(self, files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any) -> Description: ...


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


class Refusal(Protocol):
    def __call__(
        self, files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any
    ) -> DescriptionError: ...


@pytest.fixture
def refusal(describe: Describe) -> Refusal:
    """The error that loading raises."""

    def load_and_catch(files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any) -> DescriptionError:
        with pytest.raises(DescriptionError) as caught:
            describe(files, overlays, **options)
        return caught.value

    return load_and_catch


@pytest.fixture
def one(describe: Describe) -> Any:
    """The only operation of a description whose `paths` are given."""

    def load_one(paths: str, head: str = HEAD, **options: Any) -> Operation:
        (operation,) = describe(head + paths, **options).operations
        return operation

    return load_one


def constructs(operation: Operation) -> list[str]:
    return [unsupported.construct for unsupported in operation.unsupported]
