"""What a schema, taken as a whole, says about the properties of an object.

In-place applicators (`allOf`, `anyOf`, `oneOf`, `$ref`, `if`, `dependentSchemas`) speak about the same object, so the
properties that it declares are the union over all of them. Closing an object, hiding `readOnly` properties and finding
schemas that refer to themselves without end all start from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

from stockade.compiler.errors import UnsupportedError
from stockade.compiler.references import Place, References

Openness = Literal["no", "sometimes", "always"]
_NOTHING: frozenset[str] = frozenset()
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
_CONDITIONAL = ("if", "then", "else")


@dataclass(slots=True)
class Shape:
    """The properties of the objects that a schema describes.

    `declares`: some branch has `properties` or `patternProperties`. `open`: a branch allows others by name of
    `additionalProperties` or `unevaluatedProperties`; "sometimes" when that branch is one of several alternatives.
    `free`: one alternative is an object about whose properties nothing is said. `conditional`: which names are declared
    depends on the instance (`if`, `dependentSchemas`). `objects`: an object may be valid at all.
    """

    names: AbstractSet[str] = _NOTHING
    patterns: AbstractSet[str] = _NOTHING
    required: AbstractSet[str] = _NOTHING
    read_only: AbstractSet[str] = _NOTHING
    write_only: AbstractSet[str] = _NOTHING
    declares: bool = False
    open: Openness = "no"
    free: bool = False
    conditional: bool = False
    objects: bool = True

    def hidden(self, direction: str) -> AbstractSet[str]:
        """The names that must not appear in this direction."""
        if direction == "request":
            return self.read_only
        return self.write_only if direction == "response" else _NOTHING


@dataclass(slots=True)
class Shapes:
    """Shapes of one description's schemas, each found once."""

    references: References
    _known: dict[tuple[str, str], Shape] = field(default_factory=dict)
    _open: set[tuple[str, str]] = field(default_factory=set)

    def of_target(self, place: Place) -> Shape:
        """The shape of a schema that a `$ref` names. Raises UnsupportedError for one that contains itself in place."""
        key = place[:2]
        if key in self._known:
            return self._known[key]
        if key in self._open:
            raise UnsupportedError("a schema that refers to itself without end", place.pointer)
        self._open.add(key)
        try:
            shape = self.of(place)
        finally:
            self._open.discard(key)
        self._known[key] = shape
        return shape

    def of(self, place: Place) -> Shape:
        """The shape of a schema. Raises UnsupportedError."""
        value = place.value
        if not isinstance(value, dict):
            return Shape(free=value is True, objects=value is not False)
        if self.references.is_alias(value):
            return self.of_target(self.references.target(place, value["$ref"]))
        own = self._own(place)
        parts = list(self.conjuncts(place))
        self._check_not(place)
        return _all_of([own, *(shape for _, shape in parts)]) if parts else own

    def conjuncts(self, place: Place) -> Iterator[tuple[tuple[str | int, ...], Shape]]:
        """What must hold besides the schema's own keywords: where each part stands, and its shape."""
        value = place.value
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(value.get(keyword), str):
                yield (keyword,), self.of_target(self._target(place, keyword))
        all_of = value.get("allOf")
        if isinstance(all_of, list):
            for index in range(len(all_of)):
                yield ("allOf", index), self.of(place.child("allOf", index))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(value.get(keyword), list):
                yield (keyword,), _any_of([shape for _, shape in self.alternatives(place, keyword)])
        yield from self._conditional(place)

    def alternatives(self, place: Place, keyword: str) -> Iterator[tuple[int, Shape]]:
        """The branches of `anyOf` or `oneOf`."""
        for index in range(len(place.value[keyword])):
            yield index, self.of(place.child(keyword, index))

    def _target(self, place: Place, keyword: str) -> Place:
        reference = place.value[keyword]
        if keyword == "$dynamicRef":
            return self.references.dynamic_target(place, reference)
        return self.references.target(place, reference)

    def _conditional(self, place: Place) -> Iterator[tuple[tuple[str | int, ...], Shape]]:
        value = place.value
        for keyword in _CONDITIONAL:
            if keyword in value and not self.references.is_draft4:
                yield (keyword,), _maybe(self.of(place.child(keyword)))
        for keyword in ("dependentSchemas", "dependencies"):
            schemas = value.get(keyword)
            if isinstance(schemas, dict) and (keyword == "dependencies") == self.references.is_draft4:
                for name, schema in schemas.items():
                    if isinstance(schema, (dict, bool)):
                        yield (keyword, name), _maybe(self.of(place.child(keyword, name)))

    def _check_not(self, place: Place) -> None:
        """`not` declares nothing, but can make a schema contain itself."""
        if isinstance(place.value.get("not"), dict):
            self.of(place.child("not"))

    def _own(self, place: Place) -> Shape:
        value = place.value
        properties = value.get("properties")
        patterns = value.get("patternProperties")
        shape = Shape(objects=_accepts_objects(value))
        if isinstance(properties, dict):
            shape.names = properties.keys()
            shape.declares = True
            shape.read_only, shape.write_only = self.one_way(place, properties)
        if isinstance(patterns, dict):
            shape.patterns = patterns.keys()
            shape.declares = True
        if isinstance(value.get("required"), list):
            shape.required = frozenset(name for name in value["required"] if isinstance(name, str))
        if is_explicit(value, draft4=self.references.is_draft4):
            shape.open = "always" if _allows_more(value) else "no"
            shape.declares = shape.declares or not _allows_more(value)
        shape.free = (
            shape.objects
            and not shape.declares
            and shape.open == "no"
            and not any(keyword in value for keyword in ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef"))
        )
        return shape

    def one_way(self, place: Place, properties: dict[str, Any]) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """The names whose schema, or what it refers to, says `readOnly` or `writeOnly`."""
        read_only: set[str] = set()
        write_only: set[str] = set()
        for name, schema in properties.items():
            if not isinstance(schema, dict):
                continue
            target = schema
            if "$ref" in schema and isinstance(schema["$ref"], str):
                target = self.references.target(place.child("properties", name), schema["$ref"]).value
                if not self.references.is_draft4:
                    target = {**target, **schema} if isinstance(target, dict) else schema
            if isinstance(target, dict):
                if target.get("readOnly") is True:
                    read_only.add(name)
                if target.get("writeOnly") is True:
                    write_only.add(name)
        return read_only or _NOTHING, write_only or _NOTHING


def is_explicit(value: dict[str, Any], *, draft4: bool) -> bool:
    """Whether a schema says itself what becomes of properties that it does not name."""
    return "additionalProperties" in value or (not draft4 and "unevaluatedProperties" in value)


def _allows_more(value: dict[str, Any]) -> bool:
    """INVARIANT: both keywords, where given, must allow a property for it to pass."""
    return (
        value.get("additionalProperties", True) is not False and value.get("unevaluatedProperties", True) is not False
    )


def _accepts_objects(value: dict[str, Any]) -> bool:
    kinds = value.get("type")
    if kinds is not None and kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        return False
    if "const" in value:
        return isinstance(value["const"], dict)
    choices = value.get("enum")
    return not isinstance(choices, list) or any(isinstance(choice, dict) for choice in choices)


def _all_of(shapes: list[Shape]) -> Shape:
    openness: Openness = "no"
    if any(shape.open == "always" for shape in shapes):
        openness = "always"
    elif any(shape.open == "sometimes" for shape in shapes):
        openness = "sometimes"
    settled = any(shape.declares and not shape.free for shape in shapes)
    return Shape(
        names=_union([shape.names for shape in shapes]),
        patterns=_union([shape.patterns for shape in shapes]),
        required=_union([shape.required for shape in shapes]),
        read_only=_union([shape.read_only for shape in shapes]),
        write_only=_union([shape.write_only for shape in shapes]),
        declares=any(shape.declares for shape in shapes),
        open=openness,
        free=not settled and all(shape.free or not shape.declares for shape in shapes) and any(s.free for s in shapes),
        conditional=any(shape.conditional for shape in shapes),
        objects=all(shape.objects for shape in shapes),
    )


def _any_of(shapes: list[Shape]) -> Shape:
    """Alternatives: one that takes no objects has no say; what is hidden in one alternative is not hidden in all."""
    shapes = [shape for shape in shapes if shape.objects]
    openness: Openness = "sometimes" if any(shape.open != "no" for shape in shapes) else "no"
    if shapes and all(shape.open == "always" for shape in shapes):
        openness = "always"
    return Shape(
        names=_union([shape.names for shape in shapes]),
        patterns=_union([shape.patterns for shape in shapes]),
        required=_union([shape.required for shape in shapes]),
        declares=any(shape.declares for shape in shapes),
        open=openness,
        free=any(shape.free for shape in shapes),
        conditional=any(shape.conditional for shape in shapes),
        objects=bool(shapes),
    )


def _maybe(shape: Shape) -> Shape:
    """A part that holds under a condition."""
    return Shape(
        names=shape.names,
        patterns=shape.patterns,
        required=shape.required,
        declares=shape.declares,
        open="sometimes" if shape.open != "no" else "no",
        conditional=shape.declares,
    )


def _union(sets: list[AbstractSet[str]]) -> AbstractSet[str]:
    filled = [names for names in sets if names]
    if not filled:
        return _NOTHING
    return filled[0] if len(filled) == 1 else frozenset().union(*filled)
