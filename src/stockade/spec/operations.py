"""`paths` in, operations out.

A fault in an operation denies that operation: it stays in the list, with the reason in `unsupported`. Nothing that is
declared here is dropped for being wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from stockade.spec.bodies import Bodies
from stockade.spec.context import extensions, flag_field, list_field, object_field, require_object, text_field
from stockade.spec.faults import Fault
from stockade.spec.model import Node, Operation, Unsupported
from stockade.spec.parameters import Key, Parameters
from stockade.spec.pointer import child
from stockade.spec.servers import base_paths
from stockade.spec.template import shape, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stockade.spec.context import Context
    from stockade.spec.model import Parameter, RequestBody, Requirement, Response
    from stockade.spec.security import Security

T = TypeVar("T")

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PATH_ITEM_FIELDS = frozenset([*_METHODS, "$ref", "summary", "description", "servers", "parameters"])
_OPERATION_FIELDS = frozenset(
    [
        "tags",
        "summary",
        "description",
        "externalDocs",
        "operationId",
        "parameters",
        "requestBody",
        "responses",
        "callbacks",
        "deprecated",
        "security",
        "servers",
    ]
)
_POLICY = "x-stockade"


@dataclass(slots=True)
class _PathItem:
    """One path: the objects that describe it (itself, and what it refers to), and what its operations share."""

    template: str
    node: Node
    sources: list[Node]
    variables: tuple[str, ...] = ()
    parameters: dict[Key, Parameter] = field(default_factory=dict)
    base_paths: tuple[str, ...] | None = None
    faults: list[Fault] = field(default_factory=list)


class Operations:
    """Reads the operations of one description."""

    def __init__(self, context: Context, root: Node, security: Security, *, everywhere: list[Fault]) -> None:
        """`everywhere`: faults that every operation has."""
        self._context = context
        self._everywhere = everywhere
        self._root = root
        self._security = security
        self._bodies = Bodies(context)
        self._parameters = Parameters(context, self._bodies)
        self._faults: list[Fault] = []
        own = _try(self._faults, lambda: base_paths(context, root))
        self._base_paths = own if own is not None else ("",)
        self._requirements = _try(self._faults, lambda: security.requirements(root))

    def read(self) -> tuple[Operation, ...]:
        """All operations in the order of the description. Raises Fault where `paths` is no object."""
        paths = object_field(self._root, "paths")
        if paths is None:
            self._context.warn("a description without `paths`: nothing is served", self._root)
            return ()
        operations: list[Operation] = []
        for template in paths.value:
            if not template.startswith("x-"):
                operations.extend(self._path(template, child(paths, template)))
        return _without_conflicts(_without_duplicate_ids(operations))

    def _path(self, template: str, node: Node) -> Iterator[Operation]:
        try:
            item = self._path_item(template, node)
        except Fault as fault:
            # Nobody can say which methods it would have had; an undeclared path is denied.
            self._context.warn(f"the path `{template}` is not served: {fault.message}", fault.node)
            return
        for method in _METHODS:
            found = [child(source, method) for source in item.sources if method in source.value]
            twice = Fault(f"`{method}` both beside and behind `$ref`", node, hint="keep one of the two")
            if found:
                yield self._operation(item, method, found[0], [twice] if len(found) > 1 else [])

    def _path_item(self, template: str, node: Node) -> _PathItem:
        require_object(node, "a path item")
        item = _PathItem(template, node, [node])
        if "$ref" in node.value:
            target = self._context.follow(Node(node.document, node.pointer, {"$ref": node.value["$ref"]}))
            require_object(target, "a path item")
            item.sources.append(target)
        item.variables = _try(item.faults, lambda: variables(template, node)) or ()
        for source in item.sources:
            self._context.unknown_fields(source, _PATH_ITEM_FIELDS, "a path item")
            item.parameters |= self._parameters.listed(source, item.faults.append)
            item.base_paths = item.base_paths or _try(item.faults, lambda s=source: base_paths(self._context, s))  # type: ignore[misc]
        if len(item.sources) > 1 and _POLICY in node.value:
            # Operations behind the reference know their own path item only, so this word would be overheard.
            hint = "put it on the operations, or beside them"
            item.faults.append(Fault(f"`{_POLICY}` beside `$ref`", child(node, _POLICY), hint=hint))
        return item

    def _operation(self, item: _PathItem, method: str, node: Node, own: list[Fault]) -> Operation:
        faults = [*self._everywhere, *item.faults, *own]
        value = node.value if isinstance(node.value, dict) else {}
        if isinstance(node.value, dict):
            self._context.unknown_fields(node, _OPERATION_FIELDS, "an operation")
        else:
            faults.append(Fault("an operation must be an object", node))
        if method == "trace":
            faults.append(Fault("the method TRACE", node, hint="the gate refuses it on every path"))
        safe = Node(node.document, node.pointer, value)
        parameters = self._all_parameters(item, safe, faults)
        self._note_callbacks(safe)
        body = _try(faults, lambda: self._body(safe, method))
        responses = self._responses(safe, faults)
        paths = self._served_under(item, safe, faults)
        self._context.spend(1 + len(parameters) + len(responses) + len(paths))
        return Operation(
            operation_id=_try(faults, lambda: text_field(safe, "operationId")),
            method=method.upper(),
            path_template=item.template,
            base_paths=paths,
            parameters=parameters,
            request_body=body,
            responses=responses,
            security=self._requirements_of(safe, faults),
            extensions=extensions(value),
            deprecated=_try(faults, lambda: flag_field(safe, "deprecated", default=False)) or False,
            tags=self._tags(safe),
            node=node,
            unsupported=tuple(Unsupported(_construct(fault), fault.node) for fault in faults),
        )

    def _all_parameters(self, item: _PathItem, node: Node, faults: list[Fault]) -> tuple[Parameter, ...]:
        """The operation's own parameters replace those of the path with the same name and place (§4.8.9.1)."""
        failed = len(faults)
        own = self._parameters.listed(node, faults.append)
        merged = {**item.parameters, **own}
        named = {name for name, place in merged if place == "path"}
        for name in item.variables:
            # A parameter that could not be read may be the one that is missing: its own fault says more.
            if name not in named and len(faults) == failed and not item.faults:
                hint = "declare it with `in: path`"
                faults.append(Fault(f"the path variable `{name}` without a parameter", node, hint=hint))
        for (name, place), parameter in merged.items():
            if place == "path" and name not in item.variables and not item.faults:
                hint = f"write `{{{name}}}` in the path, or drop the parameter"
                faults.append(Fault(f"the path parameter `{name}`, which the path lacks", parameter.node, hint=hint))
        return tuple(merged.values())

    def _body(self, node: Node, method: str) -> RequestBody | None:
        if "requestBody" not in node.value:
            return None
        body = child(node, "requestBody")
        if method in ("get", "head", "delete"):
            self._context.warn(f"a body of {method.upper()} has no defined meaning; it is checked as declared", body)
        return self._bodies.request_body(body)

    def _responses(self, node: Node, faults: list[Fault]) -> tuple[Response, ...]:
        responses = _try(faults, lambda: object_field(node, "responses"))
        if responses is None or not responses.value:
            self._context.warn("an operation that declares no response", node)
            return ()
        found: dict[str, Response] = {}
        for status in responses.value:
            if status.startswith("x-"):
                continue
            response = _try(faults, lambda s=status: self._bodies.response(s, child(responses, s)))  # type: ignore[misc]
            if response is None:
                continue
            if response.status in found:
                faults.append(Fault(f"the response status `{response.status}` twice", child(responses, status)))
            found[response.status] = response
        return tuple(found.values())

    def _served_under(self, item: _PathItem, node: Node, faults: list[Fault]) -> tuple[str, ...]:
        """The innermost `servers` holds: of the operation, of the path, of the description."""
        own = _try(faults, lambda: base_paths(self._context, node))
        if own is not None:
            return own
        if item.base_paths is not None:
            return item.base_paths
        faults.extend(fault for fault in self._faults if _is_in(fault, "servers"))
        return self._base_paths

    def _requirements_of(self, node: Node, faults: list[Fault]) -> tuple[tuple[Requirement, ...], ...] | None:
        own = _try(faults, lambda: self._security.requirements(node))
        if own is not None or "security" in node.value:
            return own
        faults.extend(fault for fault in self._faults if _is_in(fault, "security"))
        return self._requirements

    def _tags(self, node: Node) -> tuple[str, ...]:
        try:
            tags = list_field(node, "tags")
        except Fault as fault:
            self._context.warn(fault.message, fault.node)
            return ()
        return tuple(tag for tag in tags.value if isinstance(tag, str)) if tags is not None else ()

    def _note_callbacks(self, node: Node) -> None:
        if "callbacks" in node.value:
            self._context.warn("callbacks go out from the API and do not pass the gate", child(node, "callbacks"))


def _try(faults: list[Fault], read: Callable[[], T]) -> T | None:
    """`read()`, or None with its fault noted."""
    try:
        return read()
    except Fault as fault:
        faults.append(fault)
        return None


def _is_in(fault: Fault, name: str) -> bool:
    return fault.node.pointer == f"/{name}" or fault.node.pointer.startswith(f"/{name}/")


def _construct(fault: Fault) -> str:
    return f"{fault.message} ({fault.hint})" if fault.hint else fault.message


def _without_duplicate_ids(operations: list[Operation]) -> list[Operation]:
    """The first of several operations of one id keeps it; the others lose it and are denied."""
    taken: dict[str, Operation] = {}
    result = []
    for operation in operations:
        name = operation.operation_id
        if name is None:
            result.append(operation)
        elif name not in taken:
            taken[name] = operation
            result.append(operation)
        else:
            first = taken[name]
            construct = f"the operationId `{name}`, which {first.method} {first.path_template} has (make it unique)"
            result.append(_denied(replace(operation, operation_id=None), construct))
    return result


def _without_conflicts(operations: list[Operation]) -> tuple[Operation, ...]:
    """Operations that match the same requests are all denied, since nobody can say which one is meant."""
    claims: dict[tuple[str, str], int] = {}
    conflicts: dict[int, int] = {}
    for index, operation in enumerate(operations):
        for base in operation.base_paths:
            first = claims.setdefault((operation.method, shape(base + operation.path_template)), index)
            if first != index:
                conflicts.setdefault(first, index)
                conflicts.setdefault(index, first)
    result = list(operations)
    for index, other in conflicts.items():
        rival = operations[other]
        construct = (
            f"the path {rival.path_template} of {rival.method} matches the same requests (remove one of the two)"
        )
        result[index] = _denied(result[index], construct)
    return tuple(result)


def _denied(operation: Operation, construct: str) -> Operation:
    return replace(operation, unsupported=(*operation.unsupported, Unsupported(construct, operation.node)))
