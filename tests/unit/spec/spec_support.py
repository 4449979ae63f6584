"""What the tests of `stockade.spec` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stockade.errors import DescriptionError
    from stockade.spec.model import Description, Operation

HEAD = 'openapi: "3.1.0"\ninfo: {title: T, version: "1"}\n'
HEAD_30 = 'openapi: "3.0.3"\ninfo: {title: T, version: "1"}\n'


class Describe(Protocol):
    def __call__(self, files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any) -> Description: ...


class Refusal(Protocol):
    def __call__(
        self, files: str | dict[str, str], overlays: tuple[str, ...] = (), **options: Any
    ) -> DescriptionError: ...


class One(Protocol):
    def __call__(self, paths: str, head: str = HEAD, **options: Any) -> Operation: ...


def constructs(operation: Operation) -> list[str]:
    return [unsupported.construct for unsupported in operation.unsupported]
