"""`stockade check`: what the description and the policy leave open, each with its place and what to do about it."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stockade.errors import DescriptionError, PolicyError
from stockade.findings import Check, Finding
from stockade.policy.extensions import TO_COME, operation_extension
from stockade.policy.fields import is_loopback, split_address
from stockade.policy.gaps import gap
from stockade.spec.model import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.errors import InputError, Location
    from stockade.policy.extensions import OperationExtension
    from stockade.policy.model import Policy
    from stockade.spec.model import Description, Operation, SecurityScheme

CHECKS: tuple[Check, ...] = (
    Check("policy-invalid", "The policy cannot be used", "high", "correct it here"),
    Check("description-invalid", "The description cannot be used", "high", "correct it here"),
    Check(
        "layer-off",
        "A layer is switched off",
        "high",
        "set it to `enforce`, or to `observe` while you watch",
        ("API8:2023",),
    ),
    Check(
        "layer-observes",
        "A layer only observes",
        "medium",
        "set it to `enforce` when its report is clean",
        ("API8:2023",),
    ),
    Check(
        "clear-text-listener",
        "Clients come in without TLS",
        "high",
        "set `listen.tls.mode` to `auto` or `files`",
        ("CWE-319",),
    ),
    Check(
        "development-certificate",
        "A development certificate faces the network",
        "low",
        "set `listen.tls.certificate` and `key`",
    ),
    Check(
        "clear-text-upstream", "The upstream is reached without TLS", "medium", "use an `https` endpoint", ("CWE-319",)
    ),
    Check(
        "rate-limit-off",
        "A rate limit is switched off",
        "medium",
        "give it a quota, as `100/minute`",
        ("API4:2023", "CWE-770"),
    ),
    Check(
        "unknown-properties-allowed",
        "Properties that no schema declares pass",
        "medium",
        "set it to `deny`",
        ("API3:2023",),
    ),
    Check(
        "unknown-query-allowed",
        "Query parameters that nothing declares pass",
        "low",
        "set it to `deny`",
        ("API8:2023",),
    ),
    Check(
        "trusts-everyone",
        "Anyone may say what the client's address is",
        "high",
        "name your proxies' own networks",
        ("CWE-348",),
    ),
    Check("any-origin", "Every web page may call the API", "medium", "list the origins you know", ("CWE-942",)),
    Check("long-lived-tokens", "Access tokens live long", "low", "an hour or less limits what a stolen one is worth"),
    Check("no-effect-yet", "A setting of a layer to come", "info", "it does nothing so far"),
    Check(
        "security-missing",
        "No security requirement",
        "medium",
        "add `security`, or `security: []` for a public one",
        ("API2:2023",),
    ),
    Check(
        "public-write",
        "A public operation that changes something",
        "medium",
        "add `security` unless this is meant",
        ("API2:2023",),
    ),
    Check(
        "scheme-replaced",
        "A security scheme that a token replaces",
        "info",
        "clients send Stockade's access token in its place",
    ),
    Check(
        "scheme-unavailable",
        "A security scheme that cannot be met",
        "medium",
        "set `listen.tls.client_ca`, or drop the scheme",
    ),
    Check(
        "api-key-in-query",
        "An API key in the query string",
        "medium",
        "move it to a header: URLs end up in logs",
        ("CWE-598",),
    ),
    Check(
        "scope-undeclared",
        "A scope that its scheme does not declare",
        "high",
        "declare it, or correct its name",
        ("API5:2023",),
    ),
    Check(
        "scope-invalid",
        "A scope that no token can carry",
        "high",
        'use printable ASCII without space, `"` and `\\` (RFC 6749 §3.3)',
    ),
    Check(
        "acr-unknown",
        "An `acr` that no token will ever show",
        "high",
        "the embedded authorization server knows `pwd`, `mfa` and `phr`",
    ),
    Check(
        "acr-unmet",
        "An `acr` that some callers can never show",
        "medium",
        "API keys and certificates have no user who signs in: ask for a token alone",
    ),
    Check("clear-text-server", "A server URL without TLS", "low", "write `https`: clients read this", ("CWE-319",)),
    Check(
        "operation-unsupported",
        "An operation that is refused",
        "high",
        "write it with what can be enforced, or drop it",
    ),
    Check(
        "body-free-form", "A request body that may be anything", "medium", "give it a schema", ("API3:2023", "CWE-20")
    ),
    Check("parameter-untyped", "A parameter that may be anything", "low", "give it a schema", ("CWE-20",)),
    Check(
        "string-unconstrained",
        "A string of any length",
        "low",
        "add `maxLength`, `pattern`, `format` or `enum`",
        ("API4:2023",),
    ),
    Check("array-unconstrained", "An array of any length", "low", "add `maxItems`", ("API4:2023", "CWE-770")),
    Check("number-unconstrained", "A number of any size", "info", "add `minimum` and `maximum`", ("CWE-20",)),
    Check("object-free-form", "An object with any properties", "low", "name its `properties`", ("API3:2023",)),
    Check("value-unconstrained", "A schema that allows anything", "low", "say at least its `type`", ("CWE-20",)),
    Check("extension-not-enforced", "An extension of a layer to come", "info", "it does nothing so far"),
    Check(
        "description-doubtful", "Something in the description that the loader wonders about", "low", "see the message"
    ),
)

_BY_ID = {check.id: check for check in CHECKS}
_GAPS = {
    "unconstrained_string": "string-unconstrained",
    "unconstrained_array": "array-unconstrained",
    "unconstrained_number": "number-unconstrained",
    "free_form_object": "object-free-form",
    "any_value": "value-unconstrained",
}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")
_LONG_LIFETIME_SECONDS = 3600
_WIDE_PREFIX = {4: 8, 6: 16}
# Where a schema has others inside it: for one value, for a list, by name.
_ONE = ("items", "additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems", "then", "else")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "dependencies")


def lint(policy: Policy, description: Description) -> list[Finding]:
    """All findings, the severest first, then in the order of the files. Raises PolicyError for a wrong `x-stockade`."""
    found = list(dict.fromkeys([*_policy(policy), *_Description(policy, description).findings()]))
    order = {"high": 0, "medium": 1, "low": 2, "info": 3}
    return sorted(found, key=lambda finding: (order[finding.severity], _place(finding.location), finding.check))


def unusable(error: InputError) -> Finding:
    """The finding for a policy or a description that is wrong, in the error's own words."""
    check = _BY_ID["policy-invalid" if isinstance(error, PolicyError) else "description-invalid"]
    hint = error.hint or check.hint
    return Finding(check.id, check.severity, check.confidence, error.message, hint, error.location)


def _place(location: Location | None) -> tuple[str, int, int]:
    return (location.file, location.line or 0, location.column or 0) if location else ("", 0, 0)


def _finding(check_id: str, message: str, location: Location | None, operation: str | None = None) -> Finding:
    check = _BY_ID[check_id]
    return Finding(check.id, check.severity, check.confidence, message, check.hint, location, operation)


# The policy


def _policy(policy: Policy) -> Iterator[Finding]:
    yield from _layers(policy)
    yield from _exposure(policy)
    yield from _strictness(policy)
    if policy.identity.access_token_lifetime_seconds > _LONG_LIFETIME_SECONDS:
        message = f"access tokens live {policy.identity.access_token_lifetime_seconds} seconds"
        yield _finding("long-lived-tokens", message, policy.locate("identity", "access_token_lifetime_seconds"))
    for message, location in policy.warnings:
        yield _finding("no-effect-yet", message, location)


def _layers(policy: Policy) -> Iterator[Finding]:
    for layer in ("authenticate", "authorize", "limits", "validate_request", "validate_response"):
        mode = getattr(policy.layers, layer)
        if mode != "enforce":
            check = "layer-off" if mode == "off" else "layer-observes"
            yield _finding(check, f"layer `{layer}` is in mode `{mode}`", policy.locate("layers", layer))
    for name in ("per_address", "per_client"):
        if getattr(policy.limits, name) is None:
            yield _finding(
                "rate-limit-off", f"there is no limit {name.replace('_', ' ')}", policy.locate("limits", name)
            )


def _exposure(policy: Policy) -> Iterator[Finding]:
    listen = policy.listen
    exposed = not is_loopback(split_address(listen.address)[0])
    if listen.tls.mode == "off" and exposed:
        yield _finding(
            "clear-text-listener", f"`{listen.address}` speaks clear text", policy.locate("listen", "tls", "mode")
        )
    if listen.tls.mode == "auto" and exposed:
        message = f"`{listen.address}` shows a certificate that only this machine trusts"
        yield _finding("development-certificate", message, policy.locate("listen", "address"))
    for network in listen.trusted_proxies:
        parsed = ipaddress.ip_network(network, strict=False)
        if parsed.prefixlen < _WIDE_PREFIX[parsed.version]:
            yield _finding(
                "trusts-everyone", f"`{network}` holds most of the internet", policy.locate("listen", "trusted_proxies")
            )
    for endpoint in policy.api.upstream.endpoints:
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield _finding(
                "clear-text-upstream", f"`{endpoint}` is reached in clear text", policy.locate("api", "upstream")
            )
    if policy.cors is not None and "*" in policy.cors.origins:
        yield _finding("any-origin", "`cors.origins` holds `*`", policy.locate("cors", "origins"))


def _strictness(policy: Policy) -> Iterator[Finding]:
    validation = policy.validation
    place = policy.locate("validation", "unknown_properties")
    for direction in ("request", "response"):
        if getattr(validation.unknown_properties, direction) == "allow":
            yield _finding("unknown-properties-allowed", f"undeclared properties pass in a {direction}", place)
    if validation.unknown_query == "allow":
        place = policy.locate("validation", "unknown_query")
        yield _finding("unknown-query-allowed", "undeclared query parameters pass", place)


# The description


class _Description:
    """The checks of one description; schemas that several operations share are looked at once."""

    def __init__(self, policy: Policy, description: Description) -> None:
        self._policy = policy
        self._description = description
        self._seen: set[tuple[str, str]] = set()

    def findings(self) -> Iterator[Finding]:
        description = self._description
        for message, node in description.warnings:
            yield self._at("description-doubtful", message, node)
        yield from self._servers(description.root)
        for scheme in description.security_schemes.values():
            yield from self._scheme(scheme)
        for operation in description.operations:
            yield from self._operation(operation)

    def _at(self, check: str, message: str, node: Node, operation: Operation | None = None) -> Finding:
        name = _name(operation) if operation is not None else None
        return _finding(check, message, self._description.locate(node), name)

    def _servers(self, root: Node) -> Iterator[Finding]:
        servers = root.value.get("servers") if isinstance(root.value, dict) else None
        for index, server in enumerate(servers if isinstance(servers, list) else []):
            url = server.get("url") if isinstance(server, dict) else None
            if isinstance(url, str) and url.lower().startswith("http:"):
                node = Node(root.document, f"{root.pointer}/servers/{index}/url", url)
                yield self._at("clear-text-server", f"server `{url}` is clear text", node)

    def _scheme(self, scheme: SecurityScheme) -> Iterator[Finding]:
        if self._policy.identity.security_schemes.get(scheme.name) == "deny":
            return
        if scheme.kind == "apiKey" and scheme.place == "query":
            message = f"`{scheme.name}` carries a key in query parameter `{scheme.parameter_name}`"
            yield self._at("api-key-in-query", message, scheme.node)
        if scheme.kind == "http" and scheme.http_scheme != "bearer":
            yield self._at("scheme-replaced", f"an access token replaces http {scheme.http_scheme}", scheme.node)
        if scheme.kind == "mutualTLS" and self._policy.listen.tls.client_ca is None:
            message = f"`{scheme.name}` needs client certificates, and `listen.tls.client_ca` is not set"
            yield self._at("scheme-unavailable", message, scheme.node)

    def _operation(self, operation: Operation) -> Iterator[Finding]:
        for unsupported in operation.unsupported:
            yield self._at(
                "operation-unsupported", f"{unsupported.construct}: every call is refused", unsupported.node, operation
            )
        yield from self._security(operation)
        yield from self._extension(operation)
        for parameter in operation.parameters:
            schema = parameter.content.schema if parameter.content is not None else parameter.schema
            if schema is None:
                yield self._at("parameter-untyped", f"`{parameter.name}` has no schema", parameter.node, operation)
            else:
                yield from self._schema(schema, operation)
        for media_type in operation.request_body.content if operation.request_body is not None else ():
            if media_type.schema is None or gap_of(media_type.schema) in ("any_value", "free_form_object"):
                message = f"a body of `{media_type.media_type}` may be anything"
                yield self._at("body-free-form", message, media_type.node, operation)
            if media_type.schema is not None:
                yield from self._schema(media_type.schema, operation)

    def _extension(self, operation: Operation) -> Iterator[Finding]:
        extension = operation_extension(self._description, operation)
        for name in TO_COME:
            if getattr(extension, name, None):
                yield self._at("extension-not-enforced", f"`{name}` is not enforced yet", operation.node, operation)
        if operation.security is None or (operation.security and () not in operation.security):
            yield from self._sign_in(operation, extension)
        for layer, mode in extension.modes:
            if mode in ("off", "observe"):
                check = "layer-off" if mode == "off" else "layer-observes"
                yield self._at(check, f"layer `{layer}` is in mode `{mode}` here", operation.node, operation)

    def _sign_in(self, operation: Operation, extension: OperationExtension) -> Iterator[Finding]:
        known = self._policy.acr_order
        for acr in extension.acr if self._policy.identity.issuer == "embedded" else ():
            if acr not in known:
                yield self._at("acr-unknown", f"unknown acr `{acr}`", operation.node, operation)
        if not extension.acr and extension.max_age is None:
            return
        for alternative in operation.security or ():
            if not any(self._is_token(requirement.scheme) for requirement in alternative):
                names = " and ".join(f"`{requirement.scheme}`" for requirement in alternative)
                yield self._at("acr-unmet", f"{names} cannot show how a user signed in", operation.node, operation)

    def _is_token(self, name: str) -> bool:
        scheme = self._description.security_schemes.get(name)
        chosen = self._policy.identity.security_schemes.get(name)
        return scheme is not None and (chosen or ("" if scheme.kind in ("apiKey", "mutualTLS") else "token")) == "token"

    def _security(self, operation: Operation) -> Iterator[Finding]:
        if operation.security is None:
            yield self._at("security-missing", "a token without any scope is asked for", operation.node, operation)
            return
        if (not operation.security or () in operation.security) and operation.method.upper() not in _SAFE_METHODS:
            yield self._at(
                "public-write",
                f"anyone may call {operation.method.upper()} {operation.path_template}",
                operation.node,
                operation,
            )
        for requirement in (each for alternative in operation.security for each in alternative):
            scheme = self._description.security_schemes.get(requirement.scheme)
            if scheme is None:
                continue  # the operation is refused, and that is found above
            for scope in requirement.scopes:
                if not _SCOPE.match(scope):
                    yield self._at("scope-invalid", f"`{scope}` is no scope", operation.node, operation)
                elif scheme.kind == "oauth2" and scope not in scheme.scopes:
                    known = ", ".join(f"`{each}`" for each in scheme.scopes) or "none"
                    message = f"unknown scope `{scope}`: `{scheme.name}` declares {known}"
                    yield self._at("scope-undeclared", message, operation.node, operation)

    def _schema(self, root: Node, operation: Operation) -> Iterator[Finding]:
        """The gaps of a request's schema and of what it leads to."""
        waiting = [root]
        while waiting:
            node = waiting.pop()
            place = (node.document, node.pointer)
            if place in self._seen or not isinstance(node.value, dict):
                continue
            self._seen.add(place)
            if isinstance(node.value.get("$ref"), str):
                waiting.extend(self._resolved(node))
                if self._description.dialect == "draft4":
                    continue
            kind = gap(node.value)
            if kind is not None:
                check = _BY_ID[_GAPS[kind]]
                yield self._at(check.id, check.title[:1].lower() + check.title[1:], node, operation)
            waiting.extend(reversed(list(_inside(node))))

    def _resolved(self, node: Node) -> list[Node]:
        try:
            return [self._description.resolve(node, node.value["$ref"])]
        except DescriptionError:
            return []  # the operation is among those refused; that is its finding


def gap_of(node: Node) -> str | None:
    """What the schema at `node` leaves open by itself."""
    if node.value is True or node.value == {}:
        return "any_value"
    return gap(node.value) if isinstance(node.value, dict) else None


def _inside(node: Node) -> Iterator[Node]:
    value: dict[str, Any] = node.value
    for keyword in _ONE:
        if isinstance(value.get(keyword), dict):
            yield Node(node.document, f"{node.pointer}/{keyword}", value[keyword])
    for keyword in _MANY:
        for index, schema in enumerate(value[keyword] if isinstance(value.get(keyword), list) else ()):
            yield Node(node.document, f"{node.pointer}/{keyword}/{index}", schema)
    for keyword in _NAMED:
        for name, schema in (value[keyword] if isinstance(value.get(keyword), dict) else {}).items():
            token = name.replace("~", "~0").replace("/", "~1")
            yield Node(node.document, f"{node.pointer}/{keyword}/{token}", schema)


def _name(operation: Operation) -> str:
    return operation.operation_id or f"{operation.method.upper()} {operation.path_template}"
