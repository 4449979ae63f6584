"""Schemas of a description → the bundle's: plain JSON Schema that an engine can run without knowing OpenAPI.

A schema is compiled once for each variant that something needs:

- `request`, `response`: `readOnly` or `writeOnly` properties are then refused and not required; `plain`: neither
  (inside `not`, `if` and `contains`, where being stricter would mean being laxer).
- `closed`: properties that nothing declares are refused, here and below; `branch`: the same, but the composition that
  this schema is part of closes it as a whole, so that branches do not refuse each other's properties; `open`: nothing
  is closed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stockade.compiler.decode import Decoder
from stockade.compiler.discriminator import Discriminators
from stockade.compiler.errors import Construct, UnsupportedError
from stockade.compiler.references import Place, References
from stockade.compiler.shape import Shape, Shapes, is_explicit
from stockade.errors import BundleError
from stockade.policy.gaps import IN_PLACE, GapKind, gap
from stockade.spec.model import Description, Node

MAX_DEFINITIONS = 100_000
Direction = Literal["request", "response", "plain"]
Level = Literal["closed", "branch", "open"]

_TYPES = frozenset(["string", "integer", "number", "boolean", "null", "array", "object"])
_NOTHING: frozenset[str] = frozenset()
_COPIED = frozenset([
    "enum", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "format",
])  # fmt: skip
_COPIED_2020 = _COPIED | {"const", "maxContains", "minContains", "contentEncoding", "contentMediaType"}
# A subschema speaks about another value (`nested`), about the same one, or must not be made stricter (`plain`).
_SUBSCHEMAS = {"items": "nested", "additionalProperties": "nested", "additionalItems": "nested", "not": "plain"}
_SUBSCHEMAS_2020 = {
    "items": "nested", "additionalProperties": "nested", "unevaluatedProperties": "nested",
    "unevaluatedItems": "nested", "contentSchema": "nested", "then": "same", "else": "same", "not": "plain",
    "if": "plain", "contains": "plain", "propertyNames": "plain",
}  # fmt: skip
_IN_PLACE = frozenset(IN_PLACE)
_DIALECTS = ("https://json-schema.org/draft/2020-12/schema", "https://spec.openapis.org/oas/3.1/dialect/")
# Keywords that other drafts know and this dialect ignores: worth a word to the author.
_IGNORED_DRAFT4 = frozenset([
    "const", "if", "then", "else", "contains", "propertyNames", "dependentSchemas", "dependentRequired", "prefixItems",
    "unevaluatedProperties", "unevaluatedItems", "minContains", "maxContains", "contentEncoding", "$dynamicRef",
])  # fmt: skip
_IGNORED_2020 = frozenset(["nullable", "dependencies", "additionalItems"])


class Variant(NamedTuple):
    """`hidden`: names that the surrounding composition hides, and that must not be required here."""

    direction: Direction
    level: Level
    hidden: frozenset[str] = _NOTHING


class Gap(NamedTuple):
    """A place in the description that leaves more open than a gate would like."""

    kind: GapKind
    pointer: str


@dataclass(slots=True)
class Definition:
    """One schema of the bundle: `schema` None where `problem` says why there is none."""

    pointer: str
    schema: Any = None
    problem: Construct | None = None
    references: dict[str, None] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)


class SchemaCompiler:
    """Interns and compiles schemas of one description. Keys are numbered in the order of first need."""

    def __init__(self, description: Description) -> None:
        self._references = References(description)
        self._shapes = Shapes(self._references)
        self.decoder = Decoder(self._references)
        self._discriminators = Discriminators(description, self._references)
        self._draft4 = description.dialect == "draft4"
        self._copied = _COPIED if self._draft4 else _COPIED_2020
        self._subschemas = _SUBSCHEMAS if self._draft4 else _SUBSCHEMAS_2020
        self._keys: dict[tuple[str, str, Variant], str] = {}
        self._waiting: list[tuple[str, Place, Variant]] = []
        self._current = Definition("")
        self.definitions: dict[str, Definition] = {}
        self.extensions: dict[tuple[str, str], Node] = {}
        self.ignored: dict[tuple[str, str], None] = {}
        """Pointer and name of keywords that the dialect does not know."""

    @property
    def references(self) -> References:
        """Where references lead."""
        return self._references

    def intern(self, node: Node, direction: Direction, *, closed: bool) -> str:
        """The key of a schema, compiled with all it refers to. Raises UnsupportedError for a broken reference."""
        place = self._references.follow(Place(node.document, node.pointer, node.value))
        key = self._key(place, Variant(direction, "closed" if closed else "open"))
        self._drain()
        return key

    def union(self, keys: list[str]) -> str:
        """The key of a schema for which one of `keys` must hold."""
        key = f"s{len(self.definitions):04d}.any"
        schema = {"anyOf": [_ref(each) for each in keys]}
        self.definitions[key] = Definition(self.definitions[keys[0]].pointer, schema, None, dict.fromkeys(keys))
        return key

    def _drain(self) -> None:
        while self._waiting:
            key, place, variant = self._waiting.pop()
            definition = self._current = self.definitions[key]
            try:
                self._check_dialect(place)
                definition.schema = self._compile(place, variant)
            except UnsupportedError as error:
                definition.problem = error.construct
                definition.references.clear()

    def _key(self, place: Place, variant: Variant) -> str:
        variant, problem = self._canonical(place, variant)
        identity = (place.document, place.pointer, variant)
        key = self._keys.get(identity)
        if key is None:
            if len(self.definitions) >= MAX_DEFINITIONS:
                raise BundleError(
                    f"the schemas need more than {MAX_DEFINITIONS} definitions", hint="simplify their compositions"
                )
            key = self._keys[identity] = _name(len(self.definitions), place.pointer, variant)
            self.definitions[key] = Definition(place.pointer, problem=problem)
            if problem is None:
                self._waiting.append((key, place, variant))
        return key

    def _canonical(self, place: Place, variant: Variant) -> tuple[Variant, Construct | None]:
        """Variants that come to the same are one."""
        try:
            shape = self._shapes.of_target(place)
        except UnsupportedError as error:
            return variant, error.construct
        direction, level, hidden = variant
        if level == "branch" and not self._has_own_say(place.value, shape):
            level = "closed"
        if hidden:
            hidden = frozenset((hidden & shape.required) - shape.hidden(direction))
        return Variant(direction, level, hidden), None

    def _has_own_say(self, value: Any, shape: Shape) -> bool:
        """Whether closing this schema and leaving it open differ."""
        if not isinstance(value, dict) or not (shape.declares or "discriminator" in value):
            return False
        return "discriminator" in value or not is_explicit(value, draft4=self._draft4)

    def _check_dialect(self, place: Place) -> None:
        dialect = place.value.get("$schema") if isinstance(place.value, dict) else None
        if not self._draft4 and dialect is not None and not is_known_dialect(dialect):
            raise UnsupportedError(f"the JSON Schema dialect `{dialect}`", f"{place.pointer}/$schema")

    # One schema

    def _compile(self, place: Place, variant: Variant, *, extended: bool = True) -> Any:
        """The compiled schema; `extended`: with the schemas that extend this one by its `discriminator`."""
        value = place.value
        if isinstance(value, bool):
            return value if not self._draft4 else ({} if value else {"not": {}})
        if not isinstance(value, dict):
            raise UnsupportedError("a schema that is no object", place.pointer)
        if "x-stockade" in value:
            self.extensions[place.document, place.pointer] = Node(*place)
        if "$schema" in value:
            self._check_dialect(place)
        if self._references.is_alias(value):
            return self._reference(self._references.target(place, value["$ref"]), variant)
        if extended and variant.level == "closed" and isinstance(value.get("discriminator"), dict):
            alternatives = self._extensions_of(place, variant)
            if alternatives is not None:
                return alternatives
        return self._plain(place, variant)

    def _plain(self, place: Place, variant: Variant) -> dict[str, Any]:
        value = place.value
        shape = None if _IN_PLACE.isdisjoint(value) else self._shapes.of(place)
        inner = Variant(variant.direction, variant.level, self._hidden(place, shape, variant))
        plan = self._plan(place, shape, variant.level)
        out = self._keywords(place, inner, plan)
        if plan.close != "no":
            self._close(out, shape, plan)
        if variant.direction == "request":
            self._note_gap(place)
        if self._draft4 and value.get("nullable") is True:
            return _with_null(out, composed=shape is not None)
        return out

    def _reference(self, target: Place, variant: Variant) -> dict[str, Any]:
        key = self._key(target, variant)
        self._current.references[key] = None
        return _ref(key)

    def _hidden(self, place: Place, shape: Shape | None, variant: Variant) -> frozenset[str]:
        """The names that may not appear in an object, here or in the rest of its composition."""
        if shape is not None:
            names = shape.hidden(variant.direction)
        elif variant.direction != "plain" and isinstance(place.value.get("properties"), dict):
            read_only, write_only = self._shapes.one_way(place, place.value["properties"])
            names = read_only if variant.direction == "request" else write_only
        else:
            return variant.hidden
        return variant.hidden | names if names else variant.hidden

    def _keywords(self, place: Place, variant: Variant, plan: _Plan) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for keyword, operand in place.value.items():
            if keyword in self._copied:
                out[keyword] = operand
            elif keyword == "type":
                out["type"] = _checked_type(operand, place)
            elif keyword == "properties":
                out[keyword] = self._properties(place, variant)
            elif keyword == "required":
                self._required(place, variant.hidden, out)
            elif keyword in self._subschemas:
                out[keyword] = self._subschema(place, keyword, variant, plan)
            elif keyword in ("allOf", "anyOf", "oneOf"):
                out[keyword] = self._branches(place, keyword, variant, plan)
            else:
                self._rare_keyword(place, keyword, variant, plan, out)
        return out

    def _rare_keyword(self, place: Place, keyword: str, variant: Variant, plan: _Plan, out: dict[str, Any]) -> None:
        value = place.value
        if keyword == "patternProperties":
            out[keyword] = self._map(place, keyword, _nested(variant))
        elif keyword == ("dependencies" if self._draft4 else "dependentSchemas"):
            out[keyword] = self._map(place, keyword, _same(variant, plan.level))
        elif keyword in (_IGNORED_DRAFT4 if self._draft4 else _IGNORED_2020):
            self.ignored[place.pointer, keyword] = None
        elif keyword in ("$ref", "$dynamicRef", "$recursiveRef") and not self._draft4:
            out.update(self._reference_keyword(place, keyword, variant, plan))
        elif keyword == "prefixItems":
            out[keyword] = self._list(place, keyword, _nested(variant))
        elif keyword == "dependentRequired" and isinstance(value[keyword], dict):
            out[keyword] = {
                name: [each for each in names if each not in variant.hidden] if isinstance(names, list) else names
                for name, names in value[keyword].items()
            }

    def _reference_keyword(self, place: Place, keyword: str, variant: Variant, plan: _Plan) -> dict[str, Any]:
        """A reference with siblings (JSON Schema 2020-12), or one that is dynamic."""
        reference = place.value[keyword]
        if keyword == "$recursiveRef" or not isinstance(reference, str):
            raise UnsupportedError(f"`{keyword}`", f"{place.pointer}/{keyword}")
        if keyword == "$dynamicRef" and "$ref" in place.value:
            raise UnsupportedError("`$dynamicRef` beside `$ref`", f"{place.pointer}/$dynamicRef")
        find = self._references.target if keyword == "$ref" else self._references.dynamic_target
        return self._reference(find(place, reference), _same(variant, plan.level_of((keyword,))))

    def _properties(self, place: Place, variant: Variant) -> dict[str, Any]:
        properties = _mapping(place, "properties")
        nested = _nested(variant)
        refused: Any = {"not": {}} if self._draft4 else False
        return {
            name: refused if name in variant.hidden else self._compile(place.child("properties", name), nested)
            for name in properties
        }

    def _required(self, place: Place, hidden: frozenset[str], out: dict[str, Any]) -> None:
        names = place.value["required"]
        if not isinstance(names, list):
            raise UnsupportedError("`required` that is not a list of names", f"{place.pointer}/required")
        # INVARIANT: draft 4 §5.4.3.1 allows no empty list and no duplicates.
        kept = list(dict.fromkeys(name for name in names if name not in hidden))
        if kept:
            out["required"] = kept

    def _subschema(self, place: Place, keyword: str, variant: Variant, plan: _Plan) -> Any:
        operand = place.value[keyword]
        if isinstance(operand, list) and keyword == "items" and self._draft4:
            return self._list(place, keyword, _nested(variant))
        if isinstance(operand, bool) and keyword in ("additionalProperties", "additionalItems"):
            return operand
        how = self._subschemas[keyword]
        if how == "plain":
            inner = Variant("plain", "open")
        else:
            inner = _nested(variant) if how == "nested" else _same(variant, plan.level)
        return self._compile(place.child(keyword), inner)

    def _list(self, place: Place, keyword: str, variant: Variant) -> list[Any]:
        schemas = place.value[keyword]
        if not isinstance(schemas, list):
            raise UnsupportedError(f"`{keyword}` that is not a list of schemas", f"{place.pointer}/{keyword}")
        return [self._compile(place.child(keyword, index), variant) for index in range(len(schemas))]

    def _map(self, place: Place, keyword: str, variant: Variant) -> dict[str, Any]:
        schemas = _mapping(place, keyword)
        return {
            name: schema if isinstance(schema, list) else self._compile(place.child(keyword, name), variant)
            for name, schema in schemas.items()
        }

    # Compositions

    def _branches(self, place: Place, keyword: str, variant: Variant, plan: _Plan) -> list[Any]:
        schemas = place.value[keyword]
        if not isinstance(schemas, list):
            raise UnsupportedError(f"`{keyword}` that is not a list of schemas", f"{place.pointer}/{keyword}")
        chooser = self._discriminators.read(place) if keyword != "allOf" and "discriminator" in place.value else None
        branches = []
        for index, schema in enumerate(schemas):
            branch = place.child(keyword, index)
            compiled = self._compile(branch, _same(variant, plan.level_of((keyword, index))))
            reference = self._references.reference(schema)
            if chooser is not None and reference is not None and variant.direction != "plain":
                target = self._references.target(branch, reference)
                names = self._discriminators.names(chooser, target, reference)
                compiled = self._chosen_by(compiled, chooser.property_name, names, target, variant.direction)
            branches.append(compiled)
        return branches

    def _chosen_by(self, compiled: Any, name: str, values: list[str], target: Place, direction: Direction) -> Any:
        """`compiled`, valid only where property `name` has one of `values`."""
        if not values or name in self._shapes.of_target(target).hidden(direction):
            return compiled
        own = self._own_values(target, name)
        if own is not None:
            # A schema that pins the property itself, to values the discriminator does not name, knows better.
            values = [value for value in values if value in own]
        condition: dict[str, Any] = {"required": [name]}
        if values:
            condition["properties"] = {name: {"enum": values}}
        if not self._draft4 and compiled.keys() == {"$ref"}:
            return {**compiled, **condition}
        return {"allOf": [compiled, condition]}

    def _own_values(self, place: Place, name: str, depth: int = 0) -> set[Any] | None:
        """The texts to which a schema itself confines property `name`; None where it does not."""
        value = place.value
        if not isinstance(value, dict) or depth > _MAX_IN_PLACE:
            return None
        properties = value.get("properties")
        if isinstance(properties, dict) and name in properties:
            schema = place.child("properties", name)
            reference = self._references.reference(schema.value)
            if reference is not None:
                schema = self._references.target(schema, reference)
            texts = schema.value.get("enum") if isinstance(schema.value, dict) else None
            if isinstance(schema.value, dict) and "const" in schema.value and not self._draft4:
                texts = [schema.value["const"]]
            return {text for text in texts if isinstance(text, str)} if isinstance(texts, list) else None
        for index in range(len(value["allOf"]) if isinstance(value.get("allOf"), list) else 0):
            part = place.child("allOf", index)
            reference = self._references.reference(part.value)
            if reference is not None:
                part = self._references.target(part, reference)
            found = self._own_values(part, name, depth + 1)
            if found is not None:
                return found
        return None

    def _extensions_of(self, place: Place, variant: Variant) -> dict[str, Any] | None:
        """A base schema with a `discriminator`: itself or one of the schemas that extend it, as the property says."""
        chooser = self._discriminators.read(place)
        if chooser is None or "oneOf" in place.value or "anyOf" in place.value:
            return None
        children = self._discriminators.descendants(place)
        known = {place[:2], *(child[:2] for child in children)}
        others = [other for other in self._discriminators.mapped_places(place) if other[:2] not in known]
        if not children and not others:
            return None
        compiled = [(place, self._compile(place, variant, extended=False))]
        compiled += [(child, self._reference(child, variant)) for child in children]
        compiled += [(other, self._joined(place, other, variant)) for other in others]
        name, direction = chooser.property_name, variant.direction
        alternatives = [
            self._chosen_by(schema, name, self._discriminators.names(chooser, target, None), target, direction)
            for target, schema in compiled
        ]
        return {"anyOf": alternatives}

    def _joined(self, base: Place, other: Place, variant: Variant) -> dict[str, Any]:
        """Both schemas at once, closed as a whole: `mapping` names a schema that does not extend its base."""
        open_ = _same(variant, "branch")
        out: dict[str, Any] = {"allOf": [self._reference(base, open_), self._reference(other, open_)]}
        shapes = [self._shapes.of_target(base), self._shapes.of_target(other)]
        if all(shape.open == "no" and not shape.free for shape in shapes):
            for shape in shapes:
                self._close(out, shape, _Plan("branch", None, "union"))
        return out

    # Closing

    def _plan(self, place: Place, shape: Shape | None, level: Level) -> _Plan:
        if level != "closed":
            return _Plan(level)
        explicit = is_explicit(place.value, draft4=self._draft4)
        if shape is None:
            declares = "properties" in place.value or "patternProperties" in place.value
            return _Plan("closed", None, "union" if declares and not explicit else "no")
        if explicit or shape.free or shape.open == "always" or (shape.open == "sometimes" and self._draft4):
            # Draft 4 cannot tell which alternative holds, so one that allows more keeps the whole open.
            return _Plan("branch")
        if not shape.declares:
            return _Plan("closed")
        if (shape.conditional or shape.open == "sometimes") and not self._draft4:
            return _Plan("branch", None, "unevaluated")
        sole = self._sole_declarer(place)
        return _Plan("branch", sole, "no") if sole is not None else _Plan("branch", None, "union")

    def _sole_declarer(self, place: Place) -> tuple[str | int, ...] | None:
        """The only part of a composition that declares properties: closing it closes the whole."""
        if "properties" in place.value or "patternProperties" in place.value:
            return None
        parts = [where for where, shape in self._shapes.conjuncts(place) if shape.declares]
        if len(parts) != 1:
            return None
        where = parts[0]
        if where[0] in ("anyOf", "oneOf"):
            keyword = str(where[0])
            takers = [(index, shape) for index, shape in self._shapes.alternatives(place, keyword) if shape.objects]
            return (keyword, takers[0][0]) if len(takers) == 1 else None
        if where[0] not in ("allOf", "$ref", "$dynamicRef"):
            return None
        return None if self._extends_base(place, where) else where

    def _extends_base(self, place: Place, where: tuple[str | int, ...]) -> bool:
        """Whether the part is the base, with a discriminator, of this very schema: then it stands for itself only."""
        part = place.child(*where) if where[0] == "allOf" else place
        reference = self._references.reference(part.value)
        if reference is None:
            return False
        base = self._references.target(part, reference)
        if not isinstance(base.value, dict) or not isinstance(base.value.get("discriminator"), dict):
            return False
        return any(child[:2] == place[:2] for child in self._discriminators.descendants(base))

    def _close(self, out: dict[str, Any], shape: Shape | None, plan: _Plan) -> None:
        if plan.close == "unevaluated":
            out["unevaluatedProperties"] = False
            return
        if shape is not None:
            anything: Any = {} if self._draft4 else True
            for keyword, names in (("properties", shape.names), ("patternProperties", shape.patterns)):
                own = out.get(keyword, {})
                added = {name: anything for name in names if name not in own}
                if added:
                    out[keyword] = {**own, **added}
        out["additionalProperties"] = False

    def _note_gap(self, place: Place) -> None:
        kind = gap(place.value)
        if kind is not None:
            self._current.gaps.append(Gap(kind, place.pointer))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a composition is closed: its parts are compiled at `level`, but the one at `closed_part` is closed itself."""

    level: Level
    closed_part: tuple[str | int, ...] | None = None
    close: Literal["no", "union", "unevaluated"] = "no"

    def level_of(self, where: tuple[str | int, ...]) -> Level:
        return "closed" if where == self.closed_part else self.level


def is_known_dialect(dialect: Any) -> bool:
    """Whether `$schema` or `jsonSchemaDialect` names what OpenAPI 3.1 has by default."""
    return isinstance(dialect, str) and dialect.rstrip("#").startswith(_DIALECTS)


def _ref(key: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{key}"}


def _nested(variant: Variant) -> Variant:
    """For another value than this one."""
    return Variant(variant.direction, "open" if variant.level == "open" else "closed")


def _same(variant: Variant, level: Level) -> Variant:
    """For the same value."""
    return Variant(variant.direction, level, variant.hidden)


def _mapping(place: Place, keyword: str) -> Mapping[str, Any]:
    schemas = place.value[keyword]
    if not isinstance(schemas, dict):
        raise UnsupportedError(f"`{keyword}` that is not a mapping", f"{place.pointer}/{keyword}")
    return schemas


def _checked_type(operand: Any, place: Place) -> Any:
    for kind in operand if isinstance(operand, list) else [operand]:
        if not isinstance(kind, str) or kind not in _TYPES:
            raise UnsupportedError(f"the schema type `{kind}`", f"{place.pointer}/type")
    return operand


def _with_null(out: dict[str, Any], *, composed: bool) -> dict[str, Any]:
    """`nullable: true`: null as well, also beside `enum` and compositions, where authors mean it so."""
    if composed or "type" not in out:
        return {"anyOf": [{"type": "null"}, out]}
    kinds = out["type"] if isinstance(out["type"], list) else [out["type"]]
    out["type"] = kinds if "null" in kinds else [*kinds, "null"]
    if isinstance(out.get("enum"), list) and None not in out["enum"]:
        out["enum"] = [*out["enum"], None]
    return out


def _name(number: int, pointer: str, variant: Variant) -> str:
    """A key that is unique by its number and readable by the rest."""
    tokens = [token for token in pointer.split("/") if token not in _DULL]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", ".".join(tokens[-3:]).replace("~1", "/").replace("~0", "~")).strip("-")
    level = "" if variant.level == "closed" else f".{variant.level}"
    return f"s{number:04d}.{readable[:_READABLE_CHARACTERS] or 'schema'}.{variant.direction}{level}"


_DULL = frozenset(["", "components", "schemas", "schema", "content", "properties", "paths", "$defs", "definitions"])
_READABLE_CHARACTERS = 64
_MAX_IN_PLACE = 16
