"""Closing, against a slow evaluator that is written from its definition and knows no schemas but the original ones."""

from __future__ import annotations

from typing import Any

import pytest
from compiler_workshop import Workshop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
COMPONENTS = ("P", "Q", "R")
KEYWORDS = ("allOf", "anyOf", "oneOf")


class Evaluator:
    """JSON Schema's object keywords, plus: an object is refused when it has a property that no branch declares."""

    def __init__(self, components: dict[str, Any]) -> None:
        self.components = components

    def valid(self, schema: Any, value: Any, *, closes: bool = True) -> bool:  # noqa: PLR0911 (a line a keyword)
        if "$ref" in schema:
            return self.valid(self.resolve(schema), value, closes=closes)
        if not self._own(schema, value):
            return False
        if not all(self.valid(part, value, closes=False) for part in schema.get("allOf", ())):
            return False
        if "anyOf" in schema and not any(self.valid(part, value, closes=False) for part in schema["anyOf"]):
            return False
        if "oneOf" in schema and sum(self.valid(part, value, closes=False) for part in schema["oneOf"]) != 1:
            return False
        if not closes or not isinstance(value, dict) or "additionalProperties" in schema:
            return True
        declared = self.declared(schema)
        return declared is None or self.is_free(schema) or set(value) <= declared

    def resolve(self, schema: Any) -> Any:
        while "$ref" in schema:
            schema = self.components[schema["$ref"].rpartition("/")[2]]
        return schema

    def _own(self, schema: Any, value: Any) -> bool:
        kind = schema.get("type")
        if kind == "object" and not isinstance(value, dict):
            return False
        if kind == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
            return False
        if not isinstance(value, dict):
            return True
        if any(name not in value for name in schema.get("required", ())):
            return False
        properties = schema.get("properties", {})
        if any(name in value and not self.valid(part, value[name]) for name, part in properties.items()):
            return False
        return schema.get("additionalProperties") is not False or set(value) <= set(properties)

    def declared(self, schema: Any) -> set[str] | None:
        """The names that a schema and its branches declare; None where nothing is said."""
        schema = self.resolve(schema)
        names: set[str] | None = set(schema["properties"]) if "properties" in schema else None
        if schema.get("additionalProperties") is False:
            names = names or set()
        parts = [*schema.get("allOf", ())]
        parts += [part for key in ("anyOf", "oneOf") for part in schema.get(key, ()) if self.takes_objects(part)]
        for part in parts:
            found = self.declared(part)
            names = found if names is None else names | (found or set())
        return names

    def is_free(self, schema: Any) -> bool:
        """Whether an alternative is an object of which nothing is said, and nothing else in the schema says more."""
        schema = self.resolve(schema)
        settled, free = self._free(schema)
        return free and not settled

    def _free(self, schema: Any) -> tuple[bool, bool]:
        """Whether some conjunct declares properties without a free alternative; whether there is a free one at all."""
        schema = self.resolve(schema)
        parts = [self._alone(schema)]
        parts += [self._free(part) for part in schema.get("allOf", ())]
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                taking = [part for part in schema[keyword] if self.takes_objects(part)]
                frees = [self._is_free_branch(part) for part in taking]
                says = any(self.declared(part) is not None for part in taking)
                parts.append((says and not any(frees), any(frees)))
        settled = any(part[0] for part in parts)
        return settled, not settled and any(part[1] for part in parts)

    def _is_free_branch(self, part: Any) -> bool:
        settled, free = self._free(part)
        return free and not settled

    def _alone(self, schema: Any) -> tuple[bool, bool]:
        says = "properties" in schema or schema.get("additionalProperties") is False
        composed = any(keyword in schema for keyword in ("allOf", "anyOf", "oneOf"))
        free = (
            not says
            and not composed
            and "additionalProperties" not in schema
            and schema.get("type") in (None, "object")
        )
        return says, free

    def takes_objects(self, schema: Any) -> bool:
        schema = self.resolve(schema)
        if schema.get("type") not in (None, "object"):
            return False
        if not all(self.takes_objects(part) for part in schema.get("allOf", ())):
            return False
        return all(
            any(self.takes_objects(part) for part in schema[keyword])
            for keyword in ("anyOf", "oneOf")
            if keyword in schema
        )


leaves = st.just({"type": "integer"})
references = st.sampled_from([{"$ref": f"#/components/schemas/{name}"} for name in COMPONENTS])


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "required": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
            "additionalProperties": st.just(False),
        },
    )


def compositions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    branches = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        *(st.fixed_dictionaries({keyword: branches}) for keyword in KEYWORDS),
        st.builds(lambda own, name, parts: {**own, name: parts}, objects(leaves), st.sampled_from(KEYWORDS), branches),
    )  # fmt: skip


plain = st.recursive(leaves | objects(leaves), lambda inner: objects(inner) | compositions(inner), max_leaves=6)
schemas = st.recursive(
    leaves | objects(leaves | references) | references, lambda inner: objects(inner) | compositions(inner), max_leaves=8
)
values = st.recursive(
    st.integers(0, 1), lambda inner: st.dictionaries(st.sampled_from((*NAMES, "x")), inner, max_size=4), max_leaves=6
)


@pytest.mark.parametrize("openapi", ["3.0.3", "3.1.0"])
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    schema=schemas,
    components=st.fixed_dictionaries(dict.fromkeys(COMPONENTS, plain)),
    instances=st.lists(values, min_size=8, max_size=8),
)
def test_compiled_schemas_accept_what_the_definition_accepts(
    workshop: Workshop, openapi: str, schema: Any, components: Any, instances: Any
) -> None:
    built = workshop.schema(schema, components, openapi=openapi)
    assert built.operation()["deny"] is None
    accepts, evaluator = built.request_body(), Evaluator(components)
    for instance in instances:
        assert accepts(instance) == evaluator.valid(schema, instance), (schema, components, instance)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    schema=schemas,
    components=st.fixed_dictionaries(dict.fromkeys(COMPONENTS, plain)),
    instances=st.lists(values, min_size=8, max_size=8),
)
def test_open_schemas_accept_exactly_what_the_original_accepts(
    workshop: Workshop, schema: Any, components: Any, instances: Any
) -> None:
    policy = workshop.policy(validation={"unknown_properties": "allow"})
    accepts = workshop.schema(schema, components, policy=policy).request_body()
    evaluator = Evaluator(components)
    evaluator.valid = original(evaluator)  # type: ignore[method-assign]
    for instance in instances:
        assert accepts(instance) == evaluator.valid(schema, instance), (schema, components, instance)


def original(evaluator: Evaluator) -> Any:
    """The evaluator without closing: plain JSON Schema."""
    plain_valid = Evaluator.valid
    return lambda schema, value, **_closes: plain_valid(evaluator, schema, value, closes=False)
