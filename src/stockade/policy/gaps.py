"""What a schema leaves open: the places where a description says less than a gate would like to hold."""

from __future__ import annotations

from typing import Any, Literal

GapKind = Literal[
    "unconstrained_string", "unconstrained_array", "unconstrained_number", "free_form_object", "any_value"
]

IN_PLACE = ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "then", "else", "dependentSchemas", "dependencies")
"""Keywords that bring in other schemas for the same value."""

_SETTLED = frozenset(["enum", "const", *IN_PLACE])
_STRING = frozenset(["maxLength", "pattern", "format"])
_OBJECT = frozenset(["properties", "patternProperties", "additionalProperties"])
_CONSTRAINING = (
    _STRING
    | _OBJECT
    | {"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "minLength", "maxItems", "minItems"}
    | {"uniqueItems", "maxProperties", "minProperties", "items", "prefixItems", "contains", "required", "not"}
)


def gap(schema: dict[str, Any]) -> GapKind | None:
    """What a schema leaves open by itself; what it refers to is judged where it stands."""
    if not _SETTLED.isdisjoint(schema):
        return None
    kinds = schema.get("type")
    if kinds is None:
        return "any_value" if _CONSTRAINING.isdisjoint(schema) else None
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        found = _gap_of(kind, schema)
        if found is not None:
            return found
    return None


def _gap_of(kind: Any, schema: dict[str, Any]) -> GapKind | None:
    if kind == "string":
        return "unconstrained_string" if _STRING.isdisjoint(schema) else None
    if kind == "array":
        return None if "maxItems" in schema else "unconstrained_array"
    if kind in ("number", "integer"):
        return None if _is_bounded(schema) else "unconstrained_number"
    if kind == "object":
        return "free_form_object" if _OBJECT.isdisjoint(schema) else None
    return None


def _is_bounded(schema: dict[str, Any]) -> bool:
    lower = "minimum" in schema or "exclusiveMinimum" in schema
    return lower and ("maximum" in schema or "exclusiveMaximum" in schema)
