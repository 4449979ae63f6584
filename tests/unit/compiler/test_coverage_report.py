"""The coverage report."""

from __future__ import annotations

import json

from compiler_workshop import Workshop, api, document

OPEN = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "bounded": {"type": "string", "maxLength": 3},
        "many": {"type": "array", "items": {"type": "boolean"}},
        "count": {"type": "integer", "minimum": 0},
        "free": {"type": "object"},
        "any": {},
    },
}


def test_what_a_request_leaves_open_is_named_with_its_pointer(workshop: Workshop) -> None:
    notes = workshop.schema(OPEN).compiled.coverage.operations[0].notes
    found = {(note.kind, note.pointer.rpartition("/")[2]) for note in notes if "properties" in note.pointer}
    assert found == {
        ("unconstrained_string", "text"),
        ("unconstrained_array", "many"),
        ("unconstrained_number", "count"),
        ("free_form_object", "free"),
        ("any_value", "any"),
    }


def test_bodies_and_responses_without_a_schema_are_named(workshop: Workshop) -> None:
    content = {"application/json": {}}
    operation = {"requestBody": {"content": content}, "responses": {"200": {"description": "", "content": content}}}
    built = workshop.compile(document({"/a": {"post": operation}}))
    assert {"free_form_body", "response_without_schema", "undeclared_errors", "no_security"} <= built.note_kinds()


def test_the_report_is_the_same_for_people_and_programs(workshop: Workshop) -> None:
    described = api(OPEN)
    described["paths"]["/b"] = {"trace": {"responses": {}}}
    coverage = workshop.compile(described).compiled.coverage
    text, data = coverage.render_text(), json.loads(json.dumps(coverage.as_json()))
    assert data["totals"]["operations"] == 2
    assert data["totals"]["denied"] == 1
    assert "Things: 2 operations, 1 denied" in text
    assert "denied: the method `TRACE`" in text
    assert "all layers enforce" in text
    assert len(data["operations"]) == 2


def test_long_lists_are_cut_for_people_only(workshop: Workshop) -> None:
    coverage = workshop.schema(
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(30)}}
    ).compiled.coverage
    assert "more notes" in coverage.render_text()
    assert "more notes" not in coverage.render_text(notes_per_operation=None)
