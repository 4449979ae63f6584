"""Schemas: what the compiled ones accept and refuse."""

from __future__ import annotations

from typing import Any

import pytest
from compiler_workshop import A, B, Workshop, ref

BOTH = pytest.mark.parametrize("openapi", ["3.0.3", "3.1.0"])


@BOTH
def test_undeclared_properties_are_refused(workshop: Workshop, openapi: str) -> None:
    accepts = workshop.schema(A, openapi=openapi).request_body()
    assert accepts({"a": 1})
    assert not accepts({"a": 1, "x": 1})


@BOTH
def test_undeclared_properties_pass_where_the_policy_says_so(workshop: Workshop, openapi: str) -> None:
    built = workshop.schema(
        A, openapi=openapi, policy=workshop.policy(validation={"unknown_properties": {"request": "allow"}})
    )
    assert built.request_body()({"a": 1, "x": 1})
    assert not built.response_body()({"a": 1, "x": 1})


@BOTH
def test_nested_and_referenced_objects_are_closed_too(workshop: Workshop, openapi: str) -> None:
    schema = {"type": "object", "properties": {"one": A, "many": {"type": "array", "items": ref("B")}}}
    accepts = workshop.schema(schema, {"B": B}, openapi=openapi).request_body()
    assert accepts({"one": {"a": 1}, "many": [{"b": 1}]})
    assert not accepts({"one": {"a": 1, "x": 1}})
    assert not accepts({"many": [{"b": 1, "x": 1}]})


@BOTH
def test_all_of_is_closed_as_a_whole(workshop: Workshop, openapi: str) -> None:
    accepts = workshop.schema({"allOf": [ref("A"), ref("B")]}, {"A": A, "B": B}, openapi=openapi).request_body()
    assert accepts({"a": 1, "b": 2})
    assert not accepts({"a": 1})
    assert not accepts({"a": 1, "b": 2, "x": 3})


@BOTH
def test_own_properties_and_branches_together_are_declared(workshop: Workshop, openapi: str) -> None:
    schema = {"type": "object", "properties": {"c": {}}, "oneOf": [ref("A"), ref("B")]}
    accepts = workshop.schema(schema, {"A": {**A, "required": ["a"]}, "B": B}, openapi=openapi).request_body()
    assert accepts({"a": 1, "c": 2})
    assert accepts({"b": 1, "c": 2})
    assert not accepts({"b": 1, "x": 2})
    assert not accepts({"c": 1})


@BOTH
def test_required_in_alternatives_does_not_open_an_object(workshop: Workshop, openapi: str) -> None:
    schema = {**A, "anyOf": [{"required": ["a"]}, {"required": ["x"]}]}
    accepts = workshop.schema(schema, openapi=openapi).request_body()
    assert accepts({"a": 1})
    assert not accepts({"a": 1, "x": 1})


@BOTH
def test_nested_objects_in_branches_are_closed(workshop: Workshop, openapi: str) -> None:
    outer = {"type": "object", "properties": {"inner": A}}
    accepts = workshop.schema({"allOf": [outer, B]}, openapi=openapi).request_body()
    assert accepts({"inner": {"a": 1}, "b": 1})
    assert not accepts({"inner": {"a": 1, "x": 1}, "b": 1})


@BOTH
@pytest.mark.parametrize("additional", [True, {"type": "string"}])
def test_explicit_additional_properties_are_respected(workshop: Workshop, openapi: str, additional: Any) -> None:
    accepts = workshop.schema({**A, "additionalProperties": additional}, openapi=openapi).request_body()
    assert accepts({"a": 1, "x": "text"})


@BOTH
def test_a_branch_that_allows_more_keeps_the_composition_open(workshop: Workshop, openapi: str) -> None:
    schema = {"allOf": [ref("A"), {"type": "object", "additionalProperties": True}]}
    assert workshop.schema(schema, {"A": A}, openapi=openapi).request_body()({"a": 1, "x": 1})


@BOTH
def test_pattern_properties_are_declared_properties(workshop: Workshop, openapi: str) -> None:
    accepts = workshop.schema({**A, "patternProperties": {"^x-": {"type": "string"}}}, openapi=openapi).request_body()
    assert accepts({"a": 1, "x-more": "text"})
    assert not accepts({"a": 1, "y-more": "text"})
    assert not accepts({"x-more": 1})


@BOTH
@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"anyOf": [A, {"type": "object"}]}])
def test_objects_without_properties_stay_free(workshop: Workshop, openapi: str, schema: Any) -> None:
    built = workshop.schema({"type": "object", "properties": {"free": schema}}, openapi=openapi)
    assert built.request_body()({"free": {"x": {"y": 1}}})


@BOTH
def test_recursive_schemas_are_closed_at_every_depth(workshop: Workshop, openapi: str) -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": ref("Tree")}}}
    accepts = workshop.schema(ref("Tree"), {"Tree": tree}, openapi=openapi).request_body()
    assert accepts({"children": [{"children": []}]})
    assert not accepts({"children": [{"children": [{"x": 1}]}]})


def test_conditional_properties_are_known_when_the_condition_holds(workshop: Workshop) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"type": "string"}},
        "if": {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
        "then": {"properties": {"b": {"type": "integer"}}},
        "dependentSchemas": {"extra": {"properties": {"extra": {}, "more": {}}}},
    }
    accepts = workshop.schema(schema).request_body()
    assert accepts({"kind": "b", "b": 1})
    assert not accepts({"kind": "a", "b": 1})
    assert accepts({"kind": "a", "extra": 1, "more": 1})
    assert not accepts({"kind": "a", "more": 1})


def test_alternatives_of_which_one_is_open_are_closed_for_the_others(workshop: Workshop) -> None:
    schema = {"anyOf": [{**A, "required": ["a"]}, {**B, "additionalProperties": True}]}
    accepts = workshop.schema(schema).request_body()
    assert accepts({"b": 1, "x": 1})
    assert not accepts({"a": 1, "x": 1})


def test_what_stands_inside_not_is_not_closed(workshop: Workshop) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "not": {"properties": {"a": {"const": 1}}, "required": ["a"]},
    }
    accepts = workshop.schema(schema).request_body()
    assert not accepts({"a": 1, "b": 2})
    assert accepts({"a": 2, "b": 2})


@BOTH
def test_read_only_properties_may_not_be_sent_and_are_not_required(workshop: Workshop, openapi: str) -> None:
    user = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {"id": {"type": "integer", "readOnly": True}, "name": {}},
    }
    built = workshop.schema(ref("User"), {"User": user}, openapi=openapi)
    assert built.request_body()({"name": "n"})
    assert not built.request_body()({"name": "n", "id": 1})
    assert built.response_body()({"name": "n", "id": 1})
    assert not built.response_body()({"name": "n"})


@BOTH
def test_write_only_properties_may_not_be_answered(workshop: Workshop, openapi: str) -> None:
    user = {
        "type": "object",
        "required": ["password"],
        "properties": {"password": {"type": "string", "writeOnly": True}},
    }
    built = workshop.schema(ref("User"), {"User": user}, openapi=openapi)
    assert built.request_body()({"password": "p"})
    assert not built.request_body()({})
    assert built.response_body()({})
    assert not built.response_body()({"password": "p"})


@BOTH
def test_read_only_holds_across_a_composition(workshop: Workshop, openapi: str) -> None:
    """`required` may stand in another branch than the property, and in another schema."""
    identified = {"type": "object", "properties": {"id": {"$ref": "#/components/schemas/Id"}}}
    schema = {"allOf": [ref("Identified"), ref("Strict")], "required": ["id", "b"]}
    components = {
        "Identified": identified,
        "Id": {"type": "integer", "readOnly": True},
        "Strict": {**B, "required": ["id", "b"]},
    }
    built = workshop.schema(schema, components, openapi=openapi)
    assert built.request_body()({"b": 1})
    assert not built.request_body()({"b": 1, "id": 1})
    assert not built.response_body()({"b": 1})
    assert built.response_body()({"b": 1, "id": 1})


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "string", "nullable": True}, [None, "a"], [1]),
        ({"type": "string", "nullable": True, "enum": ["a"]}, [None, "a"], ["b"]),
        ({"nullable": True, "allOf": [ref("A")]}, [None, {"a": 1}], [{"x": 1}, 1]),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
        ({"$ref": "#/components/schemas/A", "nullable": True}, [{"a": 1}], [None]),
    ],
)
def test_openapi_3_0_has_its_own_dialect(workshop: Workshop, schema: Any, valid: Any, invalid: Any) -> None:
    built = workshop.schema({"type": "object", "properties": {"v": schema}}, {"A": A}, openapi="3.0.3")
    assert built.payload["dialect"] == "draft4"
    assert all(built.request_body()({"v": value}) for value in valid)
    assert not any(built.request_body()({"v": value}) for value in invalid)


def test_openapi_3_1_reads_siblings_of_ref(workshop: Workshop) -> None:
    accepts = workshop.schema({**ref("A"), "required": ["a"], "minProperties": 1}, {"A": A}).request_body()
    assert accepts({"a": 1})
    assert not accepts({})
    assert not accepts({"a": 1, "x": 1})


def test_ids_anchors_and_dynamic_references_are_resolved(workshop: Workshop) -> None:
    schemas = {
        "Node": {
            "$id": "https://example.com/node", "$dynamicAnchor": "node",
            "type": "object", "properties": {"next": {"$dynamicRef": "#node"}},
        },
        "Named": {"$anchor": "named", "type": "string", "maxLength": 2},
    }  # fmt: skip
    schema = {
        "type": "object",
        "properties": {"node": {"$ref": "https://example.com/node"}, "name": {"$ref": "#named"}},
    }
    built = workshop.schema(schema, schemas)
    accepts = built.request_body()
    assert accepts({"node": {"next": {"next": {}}}, "name": "ab"})
    assert not accepts({"node": {"next": {"x": 1}}})
    assert not accepts({"name": "abc"})
    assert "$id" not in built.compiled.payload.decode()
    assert "$dynamicRef" not in built.compiled.payload.decode()


PETS = {
    "Cat": {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"type": "string"}, "lives": {"type": "integer"}},
    },
    "Dog": {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"type": "string"}, "lives": {"type": "integer"}},
    },
}


@BOTH
@pytest.mark.parametrize("keyword", ["oneOf", "anyOf"])
def test_a_discriminator_chooses_by_name_and_by_mapping(workshop: Workshop, openapi: str, keyword: str) -> None:
    mapping = {"feline": "#/components/schemas/Cat", "d": "Dog"}
    schema = {keyword: [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind", "mapping": mapping}}
    accepts = workshop.schema(schema, PETS, openapi=openapi).request_body()
    for name in ("Cat", "feline", "Dog", "d"):
        assert accepts({"kind": name, "lives": 9}), name
    assert not accepts({"kind": "Cow", "lives": 9})
    assert not accepts({"lives": 9})
    assert not accepts({"kind": "Cat", "x": 1})


@BOTH
def test_a_schema_that_pins_its_own_discriminator_value_is_believed(workshop: Workshop, openapi: str) -> None:
    card = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "enum": ["card"]}}}
    bank = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "enum": ["bank"]}}}
    schema = {"oneOf": [ref("CardPayment"), ref("BankPayment")], "discriminator": {"propertyName": "type"}}
    accepts = workshop.schema(schema, {"CardPayment": card, "BankPayment": bank}, openapi=openapi).request_body()
    assert accepts({"type": "card"})
    assert not accepts({"type": "CardPayment"})


@BOTH
def test_a_base_with_a_discriminator_stands_for_its_extensions(workshop: Workshop, openapi: str) -> None:
    pet = {
        "type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}},
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat"}},
    }  # fmt: skip
    cat = {"allOf": [ref("Pet"), {"type": "object", "properties": {"lives": {"type": "integer"}}}]}
    dog = {"allOf": [ref("Pet")]}
    schema = {"type": "object", "properties": {"pet": ref("Pet"), "cat": ref("Cat")}}
    accepts = workshop.schema(schema, {"Pet": pet, "Cat": cat, "Dog": dog}, openapi=openapi).request_body()
    assert accepts({"pet": {"kind": "cat", "lives": 9}})
    assert accepts({"pet": {"kind": "Cat", "lives": 9}})
    assert accepts({"pet": {"kind": "Dog"}})
    assert accepts({"pet": {"kind": "Pet"}})
    assert not accepts({"pet": {"kind": "Dog", "lives": 9}})
    assert not accepts({"pet": {"kind": "Cow"}})
    assert not accepts({"pet": {"kind": "cat", "lives": 9, "x": 1}})
    assert accepts({"cat": {"kind": "Cat", "lives": 9}})
    assert not accepts({"cat": {"kind": "Cat", "barks": 9}})


@pytest.mark.parametrize(
    ("schema", "construct", "pointer"),
    [
        ({"type": "file"}, "the schema type `file`", "/type"),
        ({"$recursiveRef": "#"}, "`$recursiveRef`", "/$recursiveRef"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "http://json-schema.org/draft-07/schema#", "/$schema"),
        ({"$ref": "https://elsewhere.example/schema.json"}, "elsewhere.example", ""),
        ({"$ref": "#/components/schemas/Nowhere"}, "does not exist", ""),
        ({"$ref": "#/components/schemas/Loop"}, "without end", ""),
        ({"allOf": {"type": "string"}}, "`allOf` that is not a list of schemas", "/allOf"),
        ({"properties": ["a"]}, "`properties` that is not a mapping", "/properties"),
        ({"required": True}, "`required` that is not a list of names", "/required"),
        ({"items": "string"}, "a schema that is no object", "/items"),
    ],
)  # fmt: skip
def test_an_operation_whose_schema_nothing_can_enforce_is_denied(
    workshop: Workshop, schema: Any, construct: str, pointer: str
) -> None:
    loop = {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Loop"}]}
    built = workshop.schema({"type": "object", "properties": {"v": schema}}, {"Loop": loop})
    denied = built.operation()["deny"]
    assert construct in denied["construct"]
    assert denied["pointer"].endswith(pointer)
    assert built.operation()["body"] is None
    assert built.payload["schemas"] == {}
    assert built.compiled.coverage.operations[0].denied == denied["construct"]


def test_dynamic_references_with_several_targets_are_denied(workshop: Workshop) -> None:
    schemas = {
        name: {"$id": f"https://example.com/{name}", "$dynamicAnchor": "node", "type": "object"} for name in "XY"
    }
    built = workshop.schema({"$id": "https://example.com/z", "$dynamicRef": "X#node"}, schemas)
    assert "several targets" in built.operation()["deny"]["construct"]


def test_only_schemas_that_operations_need_are_emitted(workshop: Workshop) -> None:
    built = workshop.schema(ref("A"), {"A": A, "Unused": B})
    assert len(built.payload["schemas"]) == 2
    assert set(built.payload["schema_pointers"].values()) == {"/components/schemas/A"}


def test_annotations_do_not_reach_the_bundle(workshop: Workshop) -> None:
    schema: dict[str, Any] = {
        **A,
        "title": "T",
        "description": "D",
        "example": {"a": 1},
        "xml": {"name": "x"},
        "deprecated": True,
    }
    schemas = workshop.schema(schema, openapi="3.0.3").payload["schemas"].values()
    assert all(set(each) == {"type", "properties", "additionalProperties"} for each in schemas)
