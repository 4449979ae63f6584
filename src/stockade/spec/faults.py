"""Faults: what is wrong with a node, before anyone has asked for its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.spec.model import Node


_MAX_MESSAGE_CHARS = 400


class Fault(Exception):  # noqa: N818  (never leaves the package: it becomes `Unsupported` or a DescriptionError)
    """`message` names the construct in the operator's words; `node` is where it stands; `hint` says what to do."""

    def __init__(self, message: str, node: Node, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message if len(message) <= _MAX_MESSAGE_CHARS else f"{message[:_MAX_MESSAGE_CHARS]}…"
        self.node = node
        self.hint = hint
