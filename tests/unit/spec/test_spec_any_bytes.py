"""Any bytes are a description or a DescriptionError, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockade import spec
from stockade.errors import DescriptionError
from stockade.spec.json_reader import JsonPositions, read_json
from stockade.spec.yaml_reader import read_yaml, yaml_marks

if TYPE_CHECKING:
    from pathlib import Path

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
WORDS = st.sampled_from(
    [
        "$ref",
        "$id",
        "$anchor",
        "openapi",
        "info",
        "paths",
        "components",
        "schemas",
        "securitySchemes",
        "security",
        "servers",
        "url",
        "variables",
        "enum",
        "default",
        "get",
        "post",
        "parameters",
        "name",
        "in",
        "required",
        "style",
        "explode",
        "schema",
        "content",
        "requestBody",
        "responses",
        "200",
        "headers",
        "type",
        "scheme",
        "flows",
        "scopes",
        "/a",
        "/a/{x}",
        "x-stockade",
        "tags",
        "operationId",
        "callbacks",
        "webhooks",
        "discriminator",
        "mapping",
        "encoding",
        "deprecated",
        "jsonSchemaDialect",
    ]
)
NAMES = WORDS | st.text(max_size=5)
TEXTS = st.sampled_from(
    [
        "#/paths",
        "#",
        "#/components/schemas/a",
        "b.yaml",
        "https://x/y",
        "../z",
        "/v1",
        "{a}",
        "https://{h}/p",
        "query",
        "path",
        "header",
        "cookie",
        "form",
        "simple",
        "http",
        "apiKey",
        "oauth2",
        "bearer",
        "a/b",
        "application/json",
        "string",
        "3.1.0",
        "3.0.3",
        "#x",
        "%2e%2e/%00",
        "//[",
        "http://[",
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=40,
)


def check_error(error: DescriptionError) -> None:
    assert error.location is not None
    assert error.message
    assert str(error)


def load(folder: Path, name: str, content: bytes, overlays: list[bytes] | None = None) -> spec.Description | None:
    (folder / name).write_bytes(content)
    paths = []
    for index, overlay in enumerate(overlays or []):
        paths.append(folder / f"overlay{index}.yaml")
        paths[-1].write_bytes(overlay)
    try:
        description = spec.load(folder / name, overlays=paths)
    except DescriptionError as error:
        check_error(error)
        return None
    for operation in description.operations:
        for unsupported in operation.unsupported:
            assert description.locate(unsupported.node).line is not None
    for _, node in description.warnings:
        assert description.locate(node).line is not None
    return description


@QUICK
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.json", "a.yaml", "a"]))
def test_any_bytes_are_a_description_or_an_error(tmp_path: Path, content: bytes, name: str) -> None:
    load(tmp_path, name, content)


@QUICK
@given(
    text=st.text(alphabet=st.sampled_from(list("{}[]:,-?&*!|>'\"%@`#~<= \t\nab01.$/\\u\x85\u2028\ufeff")), max_size=60),
    name=st.sampled_from(["a.json", "a.yaml"]),
)
def test_any_syntax_is_a_description_or_an_error(tmp_path: Path, text: str, name: str) -> None:
    load(tmp_path, name, text.encode())
    load(tmp_path, name, b'{"openapi": "3.1.0", "x": ' + text.encode() + b"}")
    load(tmp_path, name, b"openapi: 3.1.0\nx: " + text.encode())


@QUICK
@given(value=st.dictionaries(NAMES, VALUES, max_size=8), version=st.sampled_from(["3.0.3", "3.1.0"]))
def test_any_json_value_is_a_description_or_an_error(tmp_path: Path, value: dict[str, Any], version: str) -> None:
    load(tmp_path, "a.json", json.dumps({"openapi": version, **value}).encode())


@QUICK
@given(values=st.tuples(VALUES, VALUES, VALUES, VALUES, VALUES), version=st.sampled_from(["3.0.3", "3.1.0"]))
def test_any_value_in_any_place_denies_and_does_not_raise(
    tmp_path: Path, values: tuple[Any, ...], version: str
) -> None:
    item, operation, parameters, body, schemes = values
    root = {
        "openapi": version,
        "servers": item,
        "security": parameters,
        "paths": {
            "/a": item,
            "/b/{x}": {
                "get": operation,
                "post": {"parameters": parameters, "requestBody": body, "security": parameters},
            },
            "/c": {"put": {"parameters": [parameters], "requestBody": {"content": body}, "responses": {"200": body}}},
            "/d": {
                "put": {"parameters": [{"name": "a", "in": "query", "schema": body, "style": item}], "responses": body}
            },
        },
        "components": {"securitySchemes": {"k": schemes, "l": {"type": "oauth2", "flows": schemes}}, "schemas": body},
        "webhooks": item,
    }
    try:
        content = json.dumps(root).encode()
    except UnicodeEncodeError:
        return
    description = load(tmp_path, "a.json", content)
    if description is not None and "\\ud" not in content.decode():
        assert {(o.method, o.path_template) for o in description.operations} >= {("GET", "/b/{x}"), ("POST", "/b/{x}")}


@QUICK
@given(
    overlay=VALUES,
    update=VALUES,
    target=st.sampled_from(["$", "$.info", "$..*", "$.paths.*", "$.x[0]", "$..[?@.x]", "$.", "x"])
    | st.text(max_size=8),
)
def test_any_overlay_is_applied_or_an_error(tmp_path: Path, overlay: Any, update: Any, target: str) -> None:
    info, paths = {"title": "t", "version": "1"}, {"/a": {"get": {"x": 1}}}
    api = json.dumps({"openapi": "3.1.0", "info": info, "x": [1, {"x": []}], "paths": paths}).encode()
    actions = [{"target": target, "update": update}, {"target": target, "update": update, "remove": True}, overlay]
    for value in (overlay, {"overlay": "1.0.0", "actions": actions}, {"overlay": "1.0.0", "actions": actions[:1]}):
        load(tmp_path, "a.json", api, [json.dumps(value).encode()])


@QUICK
@given(value=VALUES)
def test_json_is_read_alike_by_both_readers(value: Any) -> None:
    """JSON is YAML, but for escaped surrogate pairs and for keys of more than 1,024 characters.

    YAML 1.1, which libyaml reads, folds three more characters as line breaks; they are written as escapes.
    """
    text = json.dumps(value, ensure_ascii=False)
    for line_break in "\x85\u2028\u2029":
        text = text.replace(line_break, f"\\u{ord(line_break):04x}")
    try:
        expected = read_json(text, "f")
        found = read_yaml(text, "f")
    except DescriptionError:
        return
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


def pointers(value: Any, tokens: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [tokens, *(p for key, child in members for p in pointers(child, (*tokens, str(key))))]


@QUICK
@given(value=VALUES, indent=st.sampled_from([None, 1]))
def test_both_readers_place_every_node_alike(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        read_json(text, "f")
        marks = yaml_marks(text, "f")
    except DescriptionError:
        return
    if any(separator in text for separator in "\x85\u2028\u2029\r"):
        # YAML counts more characters as line breaks than editors do.
        return
    positions = JsonPositions(text)
    for tokens in pointers(value):
        mark = marks
        for token in tokens:
            mark = mark.children[token]
        assert (mark.line, mark.column) == positions.line_and_column(list(tokens))


@pytest.mark.parametrize("size", [64 * 1024 * 1024 + 1, 70 * 1024 * 1024])
def test_file_over_the_limit_is_refused_without_being_parsed(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as stream:
        stream.truncate(size)
    with pytest.raises(DescriptionError, match="larger than"):
        spec.load(path)
