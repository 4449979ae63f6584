"""What every step of reading a description shares: references, warnings, a budget, and typed access to fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from stockade.errors import Location
from stockade.spec.faults import Fault
from stockade.spec.limits import MAX_PIECES, MAX_WARNINGS, LimitError
from stockade.spec.pointer import child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stockade.spec.library import Library
    from stockade.spec.model import Node

T = TypeVar("T")

_REFERENCE_FIELDS = frozenset(["$ref", "summary", "description"])


class Context:
    """`is_31`: the description is OpenAPI 3.1, else 3.0."""

    def __init__(self, library: Library, *, is_31: bool) -> None:
        self.library = library
        self.is_31 = is_31
        self.warnings: list[tuple[str, Node]] = []
        self._warned: set[tuple[str, str, str]] = set()
        self._pieces = MAX_PIECES
        self._parsed: dict[tuple[Any, str, str], Any] = {}

    def warn(self, message: str, node: Node) -> None:
        """Note what is wrong and harmless, once for each node."""
        key = (message, node.document, node.pointer)
        if key in self._warned or len(self.warnings) > MAX_WARNINGS:
            return
        self._warned.add(key)
        full = len(self.warnings) == MAX_WARNINGS
        self.warnings.append(("more warnings than are kept; correct these first" if full else message, node))

    def spend(self, pieces: int) -> None:
        """Charge for parts of operations. Raises LimitError: a small file can share one part a million times."""
        self._pieces -= pieces
        if self._pieces < 0:
            what = f"more than {MAX_PIECES} parameters, bodies and responses, references expanded"
            where = Location(self.library.root.file, 1, 1, "")
            raise LimitError(what, location=where, hint="split the description")

    def once(self, parse: Callable[[Node], T], node: Node) -> T:
        """`parse(node)`, remembered with its fault for all operations that share the node."""
        key = (parse, node.document, node.pointer)
        if key not in self._parsed:
            try:
                self._parsed[key] = parse(node)
            except Fault as fault:
                self._parsed[key] = fault
        result = self._parsed[key]
        if isinstance(result, Fault):
            raise Fault(result.message, result.node, hint=result.hint)
        return result  # type: ignore[no-any-return]

    def follow(self, node: Node) -> Node:
        """The object behind a Reference Object, or the node itself. Raises Fault."""
        if not isinstance(node.value, dict) or "$ref" not in node.value:
            return node
        reference = node.value["$ref"]
        if not isinstance(reference, str):
            raise Fault("`$ref` must be a string", node, hint="name what it refers to, as in `#/components/…`")
        if self.is_31 and not node.value.keys() <= _REFERENCE_FIELDS:
            self.warn("fields beside `$ref` are ignored", node)
        target = self.library.resolve(node, reference)
        while isinstance(target.value, dict) and isinstance(target.value.get("$ref"), str):
            target = self.library.resolve(target, target.value["$ref"])
        return target

    def unknown_fields(self, node: Node, known: frozenset[str], what: str) -> None:
        """OpenAPI forbids fields that it does not define, unless they begin with `x-`."""
        if node.value.keys() <= known:
            return
        for name in node.value.keys() - known:
            if not name.startswith("x-"):
                self.warn(f"the unknown field `{name[:80]}` of {what}", child(node, name))


def require_object(node: Node, what: str) -> dict[str, Any]:
    """The members of an object node. Raises Fault."""
    if not isinstance(node.value, dict):
        raise Fault(f"{what} must be an object", node, hint=f"it is {kind(node.value)}")
    return node.value


def field_node(node: Node, name: str, what: type, *, article: str) -> Node | None:
    """The node of an optional field of one type; None where it is absent. Raises Fault."""
    if name not in node.value:
        return None
    found = child(node, name)
    if not isinstance(found.value, what):
        raise Fault(f"`{name}` must be {article}", found, hint=f"it is {kind(found.value)}")
    return found


def object_field(node: Node, name: str) -> Node | None:
    """An optional field that is an object. Raises Fault."""
    return field_node(node, name, dict, article="an object")


def list_field(node: Node, name: str) -> Node | None:
    """An optional field that is a list. Raises Fault."""
    return field_node(node, name, list, article="a list")


def text_field(node: Node, name: str) -> str | None:
    """An optional field that is a string. Raises Fault."""
    found = field_node(node, name, str, article="a string")
    return None if found is None else found.value


def required_text(node: Node, name: str, what: str) -> str:
    """A field that must be a string and not empty. Raises Fault."""
    value = text_field(node, name)
    if not value:
        raise Fault(f"{what} without `{name}`", node, hint=f"add `{name}`")
    return value


def flag_field(node: Node, name: str, *, default: bool) -> bool:
    """An optional field that is a boolean. Raises Fault."""
    found = field_node(node, name, bool, article="true or false")
    return default if found is None else bool(found.value)


def extensions(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that begin with `x-`."""
    return {name: member for name, member in value.items() if name.startswith("x-")}


def kind(value: Any) -> str:
    """What a value is, for a message that does not show it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
