"""The exception tree.

::

    StockadeError                    something the operator can act on; `hint` says how
    ├── InputError                   a file the operator wrote is wrong; carries file, line, column and JSON pointer
    │   ├── DescriptionError         the API description or an overlay
    │   └── PolicyError              stockade.yaml or x-stockade
    ├── BundleError                  a bundle cannot be built, read or trusted
    ├── StateError                   the state folder (keys, certificates, database) is missing, broken or full
    └── SupervisionError             a part did not start, or did not stay up

Parsers let nothing else escape. Expected refusals of requests are values, never exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file the operator wrote: `line` and `column` from 1, `pointer` a JSON pointer (RFC 6901)."""

    file: str
    line: int | None = None
    column: int | None = None
    pointer: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return f"{place} at {self.pointer or '/'}" if self.pointer is not None else place


class StockadeError(Exception):
    """Base of everything Stockade raises on purpose. `message` is lower case without a final period."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(StockadeError):
    """A file the operator wrote is wrong."""

    exit_status = 2

    def __init__(self, message: str, *, location: Location | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.location = location

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class DescriptionError(InputError):
    """The API description or an overlay is wrong, or asks for what may not be had."""


class PolicyError(InputError):
    """`stockade.yaml` or an `x-stockade` extension is wrong."""


class BundleError(StockadeError):
    """A bundle cannot be built, read or trusted."""

    exit_status = 3


class StateError(StockadeError):
    """The state folder is missing, broken or full."""

    exit_status = 4


class SupervisionError(StockadeError):
    """A part did not start, or did not stay up."""

    exit_status = 5
