"""How text becomes JSON: parameters, headers and form fields carry text, and their schemas say what it stands for.

The tree names the types to try, in order, the most particular first; `string` reads everything, so it comes last. Where
a schema says nothing about types, text is text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stockade.compiler.references import Place, References

_ORDER = ("integer", "number", "boolean", "null", "array", "object", "string")
_MAX_DEPTH = 3  # a form's object, a field, its items or members, and one for good measure
_MAX_NODES = 5000
_MAX_IN_PLACE = 32
_HINTS = {
    "minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
    "multipleOf": "number", "items": "array", "prefixItems": "array", "minItems": "array", "maxItems": "array",
    "properties": "object", "patternProperties": "object", "additionalProperties": "object", "required": "object",
}  # fmt: skip


Identity = tuple[str, str]
Places = dict[Identity, Place]


@dataclass(slots=True)
class _View:
    """What all in-place parts of a schema say together. `types` None: any. Members are by where they stand."""

    types: frozenset[str] | None = None
    items: Places = field(default_factory=dict)
    properties: dict[str, Places] = field(default_factory=dict)
    additional: Places = field(default_factory=dict)

    def take_in(self, other: _View) -> None:
        """Add what another part says about members; types are the caller's to combine."""
        self.items.update(other.items)
        self.additional.update(other.additional)
        for name, places in other.properties.items():
            self.properties.setdefault(name, {}).update(places)


class Decoder:
    """Decode trees of one description; what a referenced schema says is found out once."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._known: dict[Identity, _View] = {}
        self._left = 0

    def tree(self, place: Place) -> dict[str, Any]:
        """The bundle's `decode` of a schema. Raises UnsupportedError for a broken reference.

        Deeper than text can nest, and beyond `_MAX_NODES`, everything is read as a string: where the schema wants
        something else, that fails.
        """
        self._left = _MAX_NODES
        return self._tree(_at([place]), 0)

    def types(self, place: Place) -> list[str]:
        """The types to try for the schema itself."""
        types = self._view(place, 0).types
        return [kind for kind in _ORDER if kind in types] if types else ["string"]

    def _tree(self, places: Places, depth: int) -> dict[str, Any]:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return {"types": ["string"]}
        view = _View()
        types: frozenset[str] = frozenset()
        for place in places.values():
            part = self._view(place, 0)
            types |= part.types if part.types is not None else frozenset(["string"])
            view.take_in(part)
        if "number" in types:
            types -= {"integer"}
        tree: dict[str, Any] = {"types": [kind for kind in _ORDER if kind in types] or ["string"]}
        if "array" in types and view.items:
            tree["items"] = self._tree(view.items, depth + 1)
        if "object" in types and view.properties:
            tree["properties"] = {
                name: self._tree(schemas, depth + 1) for name, schemas in sorted(view.properties.items())
            }
        if "object" in types and view.additional:
            tree["additional"] = self._tree(view.additional, depth + 1)
        return tree

    def _target(self, place: Place, reference: str, depth: int) -> _View:
        target = self._references.target(place, reference)
        if target[:2] not in self._known:
            self._known[target[:2]] = _View()  # a schema that refers to itself in place says nothing more by that
            self._known[target[:2]] = self._view(target, depth + 1)
        return self._known[target[:2]]

    def _view(self, place: Place, depth: int) -> _View:
        value = place.value
        if not isinstance(value, dict) or depth > _MAX_IN_PLACE:
            return _View()
        reference = self._references.reference(value)
        if reference is not None and self._references.is_alias(value):
            return self._target(place, reference, depth)
        view = _own(place, draft4=self._references.is_draft4)
        if reference is not None:
            _and(view, self._target(place, reference, depth))
        if isinstance(value.get("allOf"), list):
            for index in range(len(value["allOf"])):
                _and(view, self._view(place.child("allOf", index), depth + 1))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(value.get(keyword), list):
                branches = [place.child(keyword, index) for index in range(len(value[keyword]))]
                _and(view, _any([self._view(branch, depth + 1) for branch in branches]))
        if view.types is None:
            view.types = _hinted(value)
        if self._references.is_draft4 and value.get("nullable") is True and view.types is not None:
            view.types |= {"null"}
        return view


def _at(places: list[Place]) -> Places:
    return {place[:2]: place for place in places}


def _own(place: Place, *, draft4: bool) -> _View:
    value = place.value
    view = _View(_types(value, draft4=draft4))
    if isinstance(value.get("items"), dict):
        view.items.update(_at([place.child("items")]))
    prefix = value.get("prefixItems")
    if isinstance(prefix, list) and not draft4:
        view.items.update(_at([place.child("prefixItems", index) for index in range(len(prefix))]))
    if isinstance(value.get("properties"), dict):
        view.properties = {name: _at([place.child("properties", name)]) for name in value["properties"]}
    if isinstance(value.get("additionalProperties"), dict):
        view.additional.update(_at([place.child("additionalProperties")]))
    if isinstance(value.get("patternProperties"), dict):
        view.additional.update(_at([place.child("patternProperties", name) for name in value["patternProperties"]]))
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
