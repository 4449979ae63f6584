"""Security schemes and requirements (OpenAPI §4.8.27, §4.8.30)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from stockade.spec.context import list_field, object_field, require_object, required_text
from stockade.spec.faults import Fault
from stockade.spec.model import Requirement, SecurityScheme
from stockade.spec.pointer import child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockade.spec.context import Context
    from stockade.spec.model import Node

_Place = Literal["query", "header", "cookie"]
_KINDS = frozenset(["apiKey", "http", "oauth2", "openIdConnect", "mutualTLS"])
_SCHEME_FIELDS = frozenset(["type", "description", "name", "in", "scheme", "bearerFormat", "flows", "openIdConnectUrl"])
_FLOW_NAMES = frozenset(["implicit", "password", "clientCredentials", "authorizationCode"])


class Security:
    """The schemes of a description by name, and the faults of those that cannot be used."""

    def __init__(self, context: Context, root: Node) -> None:
        self._context = context
        self.schemes: dict[str, SecurityScheme] = {}
        self._faults: dict[str, Fault] = {}
        for name, node in _declared(context, root):
            try:
                self.schemes[name] = self._scheme(name, node)
            except Fault as fault:
                self._faults[name] = fault
                context.warn(f"the security scheme `{name}`: {fault.message}", fault.node)

    def requirements(self, holder: Node) -> tuple[tuple[Requirement, ...], ...] | None:
        """The alternatives that one object's `security` lists; None where it says nothing. Raises Fault."""
        alternatives = list_field(holder, "security")
        if alternatives is None:
            return None
        return tuple(self._alternative(child(alternatives, index)) for index in range(len(alternatives.value)))

    def _alternative(self, node: Node) -> tuple[Requirement, ...]:
        require_object(node, "a security requirement")
        return tuple(self._requirement(node, name) for name in node.value)

    def _requirement(self, node: Node, name: str) -> Requirement:
        if name in self._faults:
            fault = self._faults[name]
            raise Fault(f"the security scheme `{name}`: {fault.message}", child(node, name), hint=fault.hint)
        if name not in self.schemes:
            hint = "declare it under `components.securitySchemes`"
            raise Fault(f"the unknown security scheme `{name}`", child(node, name), hint=hint)
        scopes = child(node, name)
        if not isinstance(scopes.value, list) or not all(isinstance(scope, str) for scope in scopes.value):
            raise Fault(f"the scopes of `{name}` must be a list of strings", scopes, hint="write `[]` for none")
        self._check_scopes(self.schemes[name], scopes)
        return Requirement(name, tuple(scopes.value))

    def _check_scopes(self, scheme: SecurityScheme, scopes: Node) -> None:
        if scheme.kind == "oauth2":
            for scope in scopes.value:
                if scope not in scheme.scopes:
                    self._context.warn(f"the scope `{scope}`, which `{scheme.name}` does not declare", scopes)

    def _scheme(self, name: str, node: Node) -> SecurityScheme:
        node = self._context.follow(node)
        require_object(node, "a security scheme")
        self._context.unknown_fields(node, _SCHEME_FIELDS, "a security scheme")
        kind = required_text(node, "type", "a security scheme")
        if kind not in _KINDS:
            hint = "use `apiKey`, `http`, `oauth2`, `openIdConnect` or `mutualTLS`"
            raise Fault(f"the unknown type `{kind}`", node, hint=hint)
        place = parameter_name = http_scheme = None
        scopes: dict[str, str] = {}
        if kind == "apiKey":
            place, parameter_name = _api_key(node)
        elif kind == "http":
            http_scheme = required_text(node, "scheme", "an `http` scheme").lower()
        elif kind == "oauth2":
            scopes = self._scopes(node)
        elif kind == "openIdConnect":
            required_text(node, "openIdConnectUrl", "an `openIdConnect` scheme")
        return SecurityScheme(name, cast("Any", kind), http_scheme, place, parameter_name, scopes, node)

    def _scopes(self, node: Node) -> dict[str, str]:
        """The scopes of all flows together."""
        flows = object_field(node, "flows")
        if flows is None:
            raise Fault("an `oauth2` scheme without `flows`", node, hint="declare the flows and their scopes")
        self._context.unknown_fields(flows, _FLOW_NAMES, "`flows`")
        found: dict[str, str] = {}
        for name in sorted(flows.value.keys() & _FLOW_NAMES):
            flow = child(flows, name)
            require_object(flow, "a flow")
            scopes = object_field(flow, "scopes")
            members: Mapping[str, Any] = scopes.value if scopes is not None else {}
            found.update({scope: text if isinstance(text, str) else "" for scope, text in members.items()})
        return found


def _declared(context: Context, root: Node) -> list[tuple[str, Node]]:
    try:
        components = object_field(root, "components")
        schemes = object_field(components, "securitySchemes") if components is not None else None
    except Fault as fault:
        context.warn(fault.message, fault.node)
        return []
    return [(name, child(schemes, name)) for name in schemes.value] if schemes is not None else []


def _api_key(node: Node) -> tuple[_Place, str]:
    name = required_text(node, "name", "an `apiKey` scheme")
    place = required_text(node, "in", "an `apiKey` scheme")
    if place not in ("query", "header", "cookie"):
        raise Fault(f"an API key in `{place}`", node, hint="use `query`, `header` or `cookie`")
    return cast("_Place", place), name
