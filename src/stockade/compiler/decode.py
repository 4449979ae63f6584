"""How text becomes JSON: parameters, headers and form fields carry text, and their schemas say what it stands for.

The tree names the types to try, in order, the most particular first; `string` reads everything, so it comes last. Where
a schema says nothing about types, text is text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stockade.compiler.references import Place, References

_ORDER = ("integer", "number", "boolean", "null", "array", "object", "string")
_MAX_DEPTH = 6
_MAX_IN_PLACE = 32
_HINTS = {
    "minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
    "multipleOf": "number", "items": "array", "prefixItems": "array", "minItems": "array", "maxItems": "array",
    "properties": "object", "patternProperties": "object", "additionalProperties": "object", "required": "object",
}  # fmt: skip


@dataclass(slots=True)
class _View:
    """What all in-place parts of a schema say together. `types` None: any."""

    types: frozenset[str] | None = None
    items: list[Place] = field(default_factory=list)
    properties: dict[str, list[Place]] = field(default_factory=dict)
    additional: list[Place] = field(default_factory=list)

    def take_in(self, other: _View) -> None:
        """Add what another part says about members; types are the caller's to combine."""
        self.items += other.items
        self.additional += other.additional
        for name, places in other.properties.items():
            self.properties.setdefault(name, []).extend(places)


def decode_tree(references: References, place: Place) -> dict[str, Any]:
    """The bundle's `decode` of a schema. Raises UnsupportedError for a broken reference."""
    return _tree(references, [place], 0)


def _tree(references: References, places: list[Place], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        return {"types": ["string"]}
    view = _View()
    types: frozenset[str] = frozenset()
    for place in places:
        part = _view(references, place, 0)
        types |= part.types if part.types is not None else frozenset(["string"])
        view.take_in(part)
    if "number" in types:
        types -= {"integer"}
    tree: dict[str, Any] = {"types": [kind for kind in _ORDER if kind in types] or ["string"]}
    if "array" in types and view.items:
        tree["items"] = _tree(references, view.items, depth + 1)
    if "object" in types:
        if view.properties:
            tree["properties"] = {
                name: _tree(references, schemas, depth + 1) for name, schemas in sorted(view.properties.items())
            }
        if view.additional:
            tree["additional"] = _tree(references, view.additional, depth + 1)
    return tree


def _view(references: References, place: Place, depth: int) -> _View:
    value = place.value
    if not isinstance(value, dict) or depth > _MAX_IN_PLACE:
        return _View()
    if references.is_alias(value):
        return _view(references, references.target(place, value["$ref"]), depth + 1)
    view = _own(place, draft4=references.is_draft4)
    reference = references.reference(value)
    parts = [references.target(place, reference)] if reference is not None else []
    if isinstance(value.get("allOf"), list):
        parts += [place.child("allOf", index) for index in range(len(value["allOf"]))]
    for part in parts:
        _and(view, _view(references, part, depth + 1))
    for keyword in ("anyOf", "oneOf"):
        if isinstance(value.get(keyword), list):
            branches = [place.child(keyword, index) for index in range(len(value[keyword]))]
            _and(view, _any([_view(references, branch, depth + 1) for branch in branches]))
    if view.types is None:
        view.types = _hinted(value)
    if references.is_draft4 and value.get("nullable") is True and view.types is not None:
        view.types |= {"null"}
    return view


def _own(place: Place, *, draft4: bool) -> _View:
    value = place.value
    view = _View(_types(value, draft4=draft4))
    if isinstance(value.get("items"), dict):
        view.items.append(place.child("items"))
    prefix = value.get("prefixItems")
    if isinstance(prefix, list) and not draft4:
        view.items += [place.child("prefixItems", index) for index in range(len(prefix))]
    if isinstance(value.get("properties"), dict):
        view.properties = {name: [place.child("properties", name)] for name in value["properties"]}
    if isinstance(value.get("additionalProperties"), dict):
        view.additional.append(place.child("additionalProperties"))
    if isinstance(value.get("patternProperties"), dict):
        view.additional += [place.child("patternProperties", name) for name in value["patternProperties"]]
    return view


def _types(value: dict[str, Any], *, draft4: bool) -> frozenset[str] | None:
    kinds = value.get("type")
    types = None
    if isinstance(kinds, str):
        types = frozenset([kinds])
    elif isinstance(kinds, list):
        types = frozenset(kind for kind in kinds if isinstance(kind, str))
    choices = value.get("enum")
    if "const" in value and not draft4:
        choices = [value["const"]]
    if not isinstance(choices, list):
        return types
    listed = frozenset(_type_of(choice) for choice in choices)
    if types is None:
        return listed
    if "number" in types:
        types |= {"integer"}
    return (listed & types) or types


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _hinted(value: dict[str, Any]) -> frozenset[str] | None:
    """Keywords that speak about one type suggest it; text stays possible, as the schema itself allows it."""
    hints = frozenset(_HINTS[keyword] for keyword in value if keyword in _HINTS)
    return hints | {"string"} if hints else None


def _and(view: _View, other: _View) -> None:
    if other.types is not None:
        if view.types is None:
            view.types = other.types
        else:
            view.types = frozenset(
                kind for kind in view.types | other.types if _allows(view.types, kind) and _allows(other.types, kind)
            )
    view.take_in(other)


def _allows(types: frozenset[str], kind: str) -> bool:
    return kind in types or (kind == "integer" and "number" in types)


def _any(views: list[_View]) -> _View:
    result = _View()
    for view in views:
        result.take_in(view)
    if views and all(view.types is not None for view in views):
        result.types = frozenset().union(*(view.types for view in views if view.types is not None))
    elif any(view.types is not None for view in views):
        known = frozenset().union(*(view.types for view in views if view.types is not None))
        result.types = known | {"string"}
    return result
