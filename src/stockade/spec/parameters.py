"""Parameters, with the defaults and the styles of their place (OpenAPI §4.8.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stockade.spec.bodies import HEADER_FIELDS, HEADER_NAME
from stockade.spec.context import extensions, flag_field, list_field, require_object, required_text, text_field
from stockade.spec.faults import Fault
from stockade.spec.model import Parameter
from stockade.spec.pointer import child

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.spec.bodies import Bodies
    from stockade.spec.context import Context
    from stockade.spec.model import Node

# OpenAPI 3.1 §4.8.21: a header is a parameter without `name` and `in`.
_FIELDS = HEADER_FIELDS | {"name", "in"}
_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# OpenAPI §4.8.12.2.1: other fields describe these headers, so a parameter of this name is ignored.
_IGNORED_HEADERS = frozenset(["accept", "content-type", "authorization"])

Key = tuple[str, str]


class Parameters:
    """Parses and remembers parameters, since many operations share them by reference."""

    def __init__(self, context: Context, bodies: Bodies) -> None:
        self._context = context
        self._bodies = bodies
        self._parse = self._parameter

    def listed(self, holder: Node, report: Callable[[Fault], None]) -> dict[Key, Parameter]:
        """The parameters of one path item or operation by name and place; each fault is reported by itself."""
        found: dict[Key, Parameter] = {}
        try:
            parameters = list_field(holder, "parameters")
        except Fault as fault:
            report(fault)
            return found
        if parameters is None:
            return found
        self._context.spend(len(parameters.value))
        for index in range(len(parameters.value)):
            node = child(parameters, index)
            try:
                self._take(node, found)
            except Fault as fault:
                report(fault)
        return found

    def _take(self, node: Node, found: dict[Key, Parameter]) -> None:
        parameter = self._context.once(self._parse, self._context.follow(node))
        key = key_of(parameter)
        if key in found:
            message = f"the {parameter.place} parameter `{parameter.name}` twice"
            raise Fault(message, node, hint="keep one of the two")
        if parameter.place == "header" and key[0] in _IGNORED_HEADERS:
            self._context.warn(f"the header parameter `{parameter.name}` is ignored, as OpenAPI says", node)
            return
        found[key] = parameter

    def _parameter(self, node: Node) -> Parameter:
        require_object(node, "a parameter")
        name = required_text(node, "name", "a parameter")
        place = _place(node, name)
        self._context.unknown_fields(node, _FIELDS, "a parameter")
        if place in ("header", "cookie") and not HEADER_NAME.match(name):
            raise Fault(f"the {place} parameter name `{name[:80]}`", node, hint="use a token of RFC 9110")
        style = text_field(node, "style") or _STYLES[place][0]
        if style not in _STYLES[place]:
            hint = f"use {' or '.join(f'`{s}`' for s in _STYLES[place])}"
            raise Fault(f"the style `{style[:40]}` of a {place} parameter", node, hint=hint)
        schema, content = self._bodies.value_of(node, "a parameter")
        return Parameter(
            name=name,
            place=cast("Any", place),
            required=self._required(node, name, place),
            style=cast("Any", style),
            explode=flag_field(node, "explode", default=style == "form"),
            allow_reserved=self._query_flag(node, "allowReserved", place),
            allow_empty_value=self._query_flag(node, "allowEmptyValue", place),
            schema=schema,
            content=content,
            node=node,
            extensions=extensions(node.value),
        )

    def _required(self, node: Node, name: str, place: str) -> bool:
        required = flag_field(node, "required", default=False)
        if place == "path" and not required:
            self._context.warn(f"the path parameter `{name}` is required, whatever `required` says", node)
        return required or place == "path"

    def _query_flag(self, node: Node, name: str, place: str) -> bool:
        value = flag_field(node, name, default=False)
        if value and place != "query":
            self._context.warn(f"`{name}` has no meaning for a {place} parameter", node)
        return value and place == "query"


def key_of(parameter: Parameter) -> Key:
    """What makes a parameter unique: its name, without case in headers, and its place."""
    name = parameter.name.lower() if parameter.place == "header" else parameter.name
    return name, parameter.place


def _place(node: Node, name: str) -> str:
    place = required_text(node, "in", f"the parameter `{name[:80]}`")
    if place in ("body", "formData"):
        raise Fault(f"a parameter in `{place}`", node, hint="that is Swagger 2.0; use `requestBody`")
    if place not in _STYLES:
        raise Fault(f"a parameter in `{place[:40]}`", node, hint="use `path`, `query`, `header` or `cookie`")
    return place
