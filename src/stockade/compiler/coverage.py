"""The coverage report: for each operation, which layers hold and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Kinds of notes, and what each means to the operator.
KINDS: Mapping[str, str] = {
    "no_security": "no security requirement in the description",
    "public": "public by the description",
    "scheme_replaced": "security scheme replaced by Stockade's access token",
    "scheme_denied": "security alternative not offered",
    "free_form_body": "request body without a schema, or with one that allows anything",
    "free_form_object": "object about whose properties nothing is said",
    "any_value": "schema that allows any value",
    "unconstrained_string": "string without length, pattern, format or enum",
    "unconstrained_array": "array without a largest number of items",
    "unconstrained_number": "number without minimum and maximum",
    "unchecked_body": "body of which only the size is checked",
    "unchecked_header": "header whose content is not checked",
    "media_type_refused": "media type with a schema that nothing can check: refused",
    "response_without_schema": "response body without a schema",
    "no_response": "no response is declared for success",
    "undeclared_errors": "no client error or no server error is declared: undeclared errors lose their body",
    "keyword_ignored": "schema keyword that this dialect does not know",
    "not_enforced_yet": "extension of a layer to come",
    "layer_open": "layer not in mode `enforce`",
}


@dataclass(frozen=True, slots=True)
class Note:
    """`kind` is one of KINDS; `pointer` leads into the description."""

    kind: str
    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class OperationCoverage:
    """`denied` says which construct keeps the operation from being served, and where it stands."""

    id: str
    method: str
    path: str
    pointer: str
    denied: str | None
    denied_pointer: str | None
    modes: Mapping[str, str]
    security: str
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Operations in the bundle's order."""

    title: str
    operations: tuple[OperationCoverage, ...]

    @property
    def denied(self) -> int:
        """How many operations are refused as a whole."""
        return sum(operation.denied is not None for operation in self.operations)

    def totals(self) -> dict[str, int]:
        """Operations, those denied, those fully held, and for each kind of note the operations that have it."""
        served = [operation for operation in self.operations if operation.denied is None]
        kinds = Counter(kind for operation in served for kind in {note.kind for note in operation.notes})
        enforced = sum(all(mode == "enforce" for mode in operation.modes.values()) for operation in served)
        counts = {"operations": len(self.operations), "denied": self.denied, "all_layers_enforced": enforced}
        return counts | {kind: kinds[kind] for kind in KINDS if kinds[kind]}

    def as_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "title": self.title,
            "totals": self.totals(),
            "operations": [asdict(operation) for operation in self.operations],
        }

    def render_text(self, *, notes_per_operation: int | None = 8) -> str:
        """The report for people: an operation's first notes in full, the rest counted."""
        lines = [f"{self.title}: {_count(len(self.operations), 'operation')}, {self.denied} denied", ""]
        for operation in self.operations:
            lines += _operation_lines(operation, notes_per_operation)
        lines += ["", "totals (operations)"]
        lines += [f"  {count:6}  {KINDS.get(name, name.replace('_', ' '))}" for name, count in self.totals().items()]
        return "\n".join(lines) + "\n"


def _operation_lines(operation: OperationCoverage, limit: int | None) -> Iterator[str]:
    name = "" if operation.id == f"{operation.method} {operation.path}" else f"  ({operation.id})"
    yield f"{operation.method} {operation.path}{name}"
    if operation.denied is not None:
        yield f"  denied: {operation.denied} at {operation.denied_pointer}"
        return
    modes = [f"{layer} {mode}" for layer, mode in operation.modes.items() if mode != "enforce"]
    yield f"  {operation.security}; {', '.join(modes) if modes else 'all layers enforce'}"
    shown = operation.notes if limit is None else operation.notes[:limit]
    for note in shown:
        yield f"  - {note.message}: {note.pointer}"
    if len(shown) < len(operation.notes):
        yield f"  - and {_count(len(operation.notes) - len(shown), 'more note')} (all of them with --all)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
