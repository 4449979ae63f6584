"""`servers`: the base paths under which an operation is served (OpenAPI §4.8.5, §4.8.6)."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from stockade.spec.context import list_field, object_field, require_object, text_field
from stockade.spec.faults import Fault
from stockade.spec.limits import MAX_BASE_PATHS
from stockade.spec.pointer import child

if TYPE_CHECKING:
    from stockade.spec.context import Context
    from stockade.spec.model import Node

_SERVER_FIELDS = frozenset(["url", "description", "variables"])
_VARIABLE_FIELDS = frozenset(["enum", "default", "description"])
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def base_paths(context: Context, holder: Node) -> tuple[str, ...] | None:
    """The base paths that the `servers` of one object give; None where it has none.

    Each is empty or begins with `/`, ends without `/`, and is literal text as written. A server with a fault is left
    out with a warning as long as another one remains. Raises Fault.
    """
    servers = list_field(holder, "servers")
    if servers is None or not servers.value:
        return None
    found: dict[str, None] = {}
    last: Fault | None = None
    for index in range(len(servers.value)):
        try:
            found.update(dict.fromkeys(_paths(context, child(servers, index))))
        except Fault as fault:
            context.warn(f"a server that is left out: {fault.message}", fault.node)
            last = fault
    if not found and last is not None:
        raise last
    if len(found) > MAX_BASE_PATHS:
        raise Fault(f"more than {MAX_BASE_PATHS} base paths", servers, hint="name fewer servers or values")
    return tuple(found)


def _paths(context: Context, server: Node) -> list[str]:
    require_object(server, "a server")
    context.unknown_fields(server, _SERVER_FIELDS, "a server")
    url = text_field(server, "url")
    if url is None:
        raise Fault("a server without `url`", server, hint="add `url`")
    if not _VARIABLE.match(url):
        # Variables of the scheme, host and port do not change the path.
        authority = _AUTHORITY.match(url)
        url = url[authority.end() :] if authority else url
        if not authority and _SCHEME.match(url):
            raise Fault(f"the server URL `{url}`", server, hint="write an absolute URL or a path")
    return [_base_path(context, server, expanded) for expanded in _expand(context, server, url)]


def _expand(context: Context, server: Node, url: str) -> list[str]:
    """Every URL that the values of the variables in `url` make."""
    names = list(dict.fromkeys(_VARIABLE.findall(url)))
    choices = [_values(context, server, name) for name in names]
    count = 1
    for values in choices:
        count *= len(values)
        if count > MAX_BASE_PATHS:
            raise Fault(f"a server of more than {MAX_BASE_PATHS} URLs", server, hint="give its variables fewer values")
    combinations = [dict(zip(names, values, strict=True)) for values in product(*choices)]
    return [_VARIABLE.sub(lambda match, chosen=chosen: chosen[match.group(1)], url) for chosen in combinations]  # type: ignore[misc]


def _values(context: Context, server: Node, name: str) -> list[str]:
    variables = object_field(server, "variables")
    if variables is None or name not in variables.value:
        raise Fault(f"the server variable `{name}` without a definition", server, hint="define it under `variables`")
    variable = child(variables, name)
    require_object(variable, "a server variable")
    context.unknown_fields(variable, _VARIABLE_FIELDS, "a server variable")
    default = text_field(variable, "default")
    listed = list_field(variable, "enum")
    if listed is None:
        if default is None:
            raise Fault(f"the server variable `{name}` without `default`", variable, hint="add `default`")
        context.warn(f"the server variable `{name}` has no `enum`: only its default is served", variable)
        return [default]
    if not all(isinstance(value, str) for value in listed.value) or not listed.value:
        raise Fault(f"the server variable `{name}`: `enum` must be a list of strings", listed, hint="quote the values")
    if default is not None and default not in listed.value:
        context.warn(f"the default of the server variable `{name}` is not in its `enum`", variable)
    return list(listed.value)


def _base_path(context: Context, server: Node, url: str) -> str:
    authority = _AUTHORITY.match(url)
    path = url[authority.end() :] if authority else url
    if "?" in path or "#" in path or "{" in path or "}" in path:
        raise Fault(f"the server path `{path}`", server, hint="write a path without query, fragment or braces")
    if path.startswith("./"):
        path = path[1:]
    if path and not path.startswith("/"):
        context.warn(f"the server path `{path}` is read as `/{path}`", server)
        path = f"/{path}"
    check_literal(path.rstrip("/"), server)
    return path.rstrip("/")


def check_literal(path: str, node: Node) -> None:
    """Refuse text that no request can match, since the gate refuses such requests as ambiguous. Raises Fault."""
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(f"the path `{path}`, whose escapes are no UTF-8", node, hint="correct the escapes") from None
    segments = text.split("/")[1:]
    if any(
        segment in (".", "..") or (not segment and index < len(segments) - 1) for index, segment in enumerate(segments)
    ):
        raise Fault(f"the path `{path}` with an empty or dot segment", node, hint="no request can match it")
