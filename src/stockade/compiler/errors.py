"""What a part of a description asks for and nothing can enforce: the reason for which an operation is denied."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Construct:
    """`name` in the operator's words; `pointer` is where it stands in the description."""

    name: str
    pointer: str


class UnsupportedError(Exception):
    """Stays inside the compiler: it becomes `deny` of the operations that need the construct."""

    def __init__(self, name: str, pointer: str) -> None:
        super().__init__(name)
        self.construct = Construct(name, pointer)
