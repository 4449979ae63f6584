"""One walk over a parsed document: its bounds, and the names of what it refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockade.spec.limits import MAX_DEPTH, MAX_NODES, MAX_POINTER_CHARS
from stockade.spec.pointer import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPONENT_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
# Below these a value is data, and what looks like a keyword in it is none.
_DATA = frozenset(["example", "examples", "default", "enum", "const", "value"])
# Below these the keys are names that somebody chose, `default` and `$id` among them.
_NAME_MAPS = frozenset(
    [
        "properties",
        "patternProperties",
        "$defs",
        "definitions",
        "dependentSchemas",
        "schemas",
        "responses",
        "parameters",
    ]
)


class TooBigError(Exception):
    """One document has more levels, more values or longer keys than it may."""

    def __init__(self, what: str, *, deep: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.deep = deep


@dataclass(frozen=True, slots=True)
class Survey:
    """`nodes` counts values; `references` may name other documents; `has_ids`: some schema renames itself."""

    nodes: int
    references: frozenset[str]
    has_ids: bool


def survey(root: Any) -> Survey:
    """Walk level by level; aliases are counted as often as they are used. Raises TooBigError."""
    references: set[str] = set()
    has_ids = False
    nodes = 1
    level = [root] if isinstance(root, (dict, list)) else []
    depth = pointer = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise TooBigError(f"nested deeper than {MAX_DEPTH} levels", deep=True)
        following: list[Any] = []
        longest = 0
        for container in level:
            nodes += len(container)
            if nodes > MAX_NODES:
                raise TooBigError(f"more than {MAX_NODES} values")
            if type(container) is dict:
                if "$ref" in container or "$dynamicRef" in container or "discriminator" in container:
                    references.update(_external(container))
                if "$id" in container or "$anchor" in container or "$dynamicAnchor" in container:
                    has_ids = True
                if container:
                    longest = max(longest, *map(len, container))
                values: Any = container.values()
            else:
                values = container
            following += [value for value in values if type(value) is dict or type(value) is list]
        pointer += longest + 1
        if pointer > MAX_POINTER_CHARS:
            raise TooBigError(f"JSON pointers longer than {MAX_POINTER_CHARS} characters")
        level = following
    return Survey(nodes, frozenset(references), has_ids)


def _external(container: dict[str, Any]) -> Iterator[str]:
    for keyword in ("$ref", "$dynamicRef"):
        reference = container.get(keyword)
        if isinstance(reference, str) and not reference.startswith("#"):
            yield reference
    discriminator = container.get("discriminator")
    mapping = discriminator.get("mapping") if isinstance(discriminator, dict) else None
    if isinstance(mapping, dict):
        for target in mapping.values():
            # A bare name means a component (OpenAPI §4.8.25.4); anything else is a URI reference.
            if isinstance(target, str) and not target.startswith("#") and not _COMPONENT_NAME.match(target):
                yield target


_Trail = tuple[Any, str] | None
"""The way to a node: the trail of its parent, and its key. Most trails are never written out as pointers."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The schema resources in a document (JSON Schema 2020-12 §8.2).

    `ids`: pointer of a schema with `$id` → the `$id`, in document order, parents first. `anchors`: pointer of a
    schema → its plain name. `references`: pointer of a schema → what it refers to.
    """

    ids: dict[str, str]
    anchors: list[tuple[str, str]]
    references: list[tuple[str, str]]


def resources(root: Any) -> Resources:
    """Find what `survey` only noticed. Costs more, so only documents with `$id`s pay."""
    found = Resources({}, [], [])
    stack: list[tuple[_Trail, Any, bool]] = [(None, root, False)]
    while stack:
        trail, value, names = stack.pop()
        if isinstance(value, list):
            stack += [((trail, str(i)), item, False) for i, item in reversed(list(enumerate(value)))]
        if not isinstance(value, dict):
            continue
        if not names:
            _note(found, trail, value)
        for key, member in reversed(value.items()):
            if names or key not in _DATA:
                inner = not names and key in _NAME_MAPS
                stack.append(((trail, key), member, inner))
    return found


def _pointer(trail: _Trail) -> str:
    tokens = []
    while trail is not None:
        trail, token = trail
        tokens.append(escape(token))
    return "".join(f"/{token}" for token in reversed(tokens))


def _note(found: Resources, trail: _Trail, value: dict[str, Any]) -> None:
    identifier = value.get("$id")
    if isinstance(identifier, str):
        found.ids[_pointer(trail)] = identifier
    for keyword in ("$anchor", "$dynamicAnchor"):
        anchor = value.get(keyword)
        if isinstance(anchor, str):
            found.anchors.append((_pointer(trail), anchor))
    found.references.extend((_pointer(trail), reference) for reference in _external(value))
