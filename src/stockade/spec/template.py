"""Path templates (OpenAPI §4.8.8): their variables, and when two of them are one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stockade.spec.faults import Fault
from stockade.spec.limits import MAX_PATH_VARIABLES
from stockade.spec.servers import check_literal

if TYPE_CHECKING:
    from stockade.spec.model import Node

_VARIABLE = re.compile(r"\{([^{}]+)\}")
_BRACES = re.compile(r"[{}]")


def variables(template: str, node: Node) -> tuple[str, ...]:
    """The names of a template's variables in order. Raises Fault where the template can match nothing for certain."""
    if not template.startswith("/"):
        raise Fault(f"the path `{template[:80]}`", node, hint="a path begins with `/`")
    if "?" in template or "#" in template:
        hint = "declare what is in the query as parameters"
        raise Fault(f"the path `{template[:80]}` with a query or fragment", node, hint=hint)
    literal = _VARIABLE.sub("x", template)
    if _BRACES.search(literal):
        raise Fault(f"the path `{template[:80]}` with unmatched braces", node, hint="write each variable as `{name}`")
    if "}{" in template:
        hint = "put text between the variables"
        raise Fault(f"the path `{template[:80]}` with variables that touch", node, hint=hint)
    check_literal(literal, node)
    names = tuple(_VARIABLE.findall(template))
    if len(names) > MAX_PATH_VARIABLES:
        raise Fault(f"a path of more than {MAX_PATH_VARIABLES} variables", node, hint="use fewer")
    for name in names:
        if names.count(name) > 1:
            raise Fault(f"the path variable `{name[:80]}` twice", node, hint="give each variable its own name")
    return names


def shape(path: str) -> str:
    """The path with its variables' names left out: paths of one shape match the same requests."""
    return unquote(_VARIABLE.sub("{}", path))
