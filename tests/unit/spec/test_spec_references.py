"""`$ref`: what it names, what it may not reach, and circles."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from spec_support import HEAD, HEAD_30, constructs

from stockade.errors import DescriptionError
from stockade.spec.model import Node

if TYPE_CHECKING:
    from pathlib import Path

    from spec_support import Describe, One, Refusal

GET = "paths:\n  /a:\n    get:\n      parameters: [{%s}]\n      responses: {'200': {description: ok}}\n"


def resolve(description: Any, reference: str, at: str = "") -> Node:
    found: Node = description.resolve(Node(description.root.document, at, None), reference)
    return found


def test_every_object_that_may_be_a_reference_is_followed_across_files(describe: Describe) -> None:
    root = HEAD + (
        "paths:\n  /a/{id}:\n    $ref: 'paths/a.yaml'\n"
        "components:\n  securitySchemes:\n    key: {$ref: 'shared.json#/scheme'}\n"
    )
    item = (
        "parameters: [{$ref: '../shared.json#/id'}]\n"
        "post:\n"
        "  security: [{key: []}]\n"
        "  requestBody: {$ref: '../shared.json#/body'}\n"
        "  responses:\n"
        "    '200': {$ref: '#/x-answers/ok'}\n"
        "x-answers:\n"
        "  ok: {description: ok, headers: {X-A: {$ref: '../shared.json#/header'}}}\n"
    )
    shared = (
        '{"id": {"name": "id", "in": "path", "required": true, "schema": {"$ref": "#/text"}},'
        '"text": {"type": "string"},'
        '"body": {"content": {"application/json": {"schema": true}}}, "header": {"schema": {"type": "integer"}},'
        '"scheme": {"type": "apiKey", "in": "header", "name": "X-Key"}}'
    )
    description = describe({"api/openapi.yaml": root, "api/paths/a.yaml": item, "api/shared.json": shared})
    (operation,) = description.operations
    assert operation.unsupported == ()
    assert [p.name for p in operation.parameters] == ["id"]
    assert operation.parameters[0].schema is not None
    assert description.resolve(operation.parameters[0].schema, "#/text").value == {"type": "string"}
    assert operation.request_body is not None
    assert operation.request_body.node.document == "shared.json"
    assert operation.responses[0].node == Node("paths/a.yaml", "/x-answers/ok", None)
    assert operation.responses[0].headers[0].name == "X-A"
    assert description.security_schemes["key"].parameter_name == "X-Key"
    assert set(description.documents) == {"openapi.yaml", "paths/a.yaml", "shared.json"}
    assert len(description.inputs) == 3
    assert str(description.locate(operation.node)).endswith("api/paths/a.yaml:2:1 at /post")


def test_schemas_may_refer_to_each_other_in_a_circle(describe: Describe) -> None:
    schemas = "components:\n  schemas:\n    A: {properties: {b: {$ref: '#/components/schemas/B'}}}\n"
    schemas += "    B: {items: {$ref: 'other.yaml#/A'}}\n"
    description = describe(
        {"openapi.yaml": HEAD + schemas, "other.yaml": "A: {$ref: 'openapi.yaml#/components/schemas/A'}\n"}
    )
    there = resolve(description, "other.yaml#/A")
    assert description.resolve(there, there.value["$ref"]).pointer == "/components/schemas/A"


@pytest.mark.parametrize(
    ("reference", "pointer"),
    [
        ("#/x-a/a~1b", "/x-a/a~1b"),
        ("#/x-a/c~0d", "/x-a/c~0d"),
        ("#/x-a/e%20f", "/x-a/e f"),
        ("#/x-a/%C3%A9", "/x-a/é"),
        ("#/x-a/list/1", "/x-a/list/1"),
        ("#/x-a/", "/x-a/"),
        ("#", ""),
        ("openapi.yaml#/x-a", "/x-a"),
        ("./openapi.yaml#/x-a", "/x-a"),
        ("%6Fpenapi.yaml#/x-a", "/x-a"),
    ],
)
def test_pointers_are_unescaped(describe: Describe, reference: str, pointer: str) -> None:
    text = HEAD + "x-a: {a/b: 1, c~d: 2, e f: 3, é: 4, list: [5, 6], '': 7}\n"
    assert resolve(describe(text), reference).pointer == pointer


@pytest.mark.parametrize(
    "reference",
    [
        "#/x-b",
        "#/x-a/list/2",
        "#/x-a/list/01",
        "#/x-a/list/-",
        "#/x-a/list/٣",
        "#/x-a/~2",
        "#/x-a/%FF",
        "#name",
        "#/openapi/x",
    ],
)
def test_pointer_to_nothing_is_an_error_with_a_place(describe: Describe, reference: str) -> None:
    description = describe(HEAD + "x-a: {list: [1, 2]}\n")
    with pytest.raises(DescriptionError) as caught:
        resolve(description, reference, "/x-a")
    assert caught.value.location is not None
    assert caught.value.location.line == 3


def test_circle_of_pure_references_denies_the_operation(one: One) -> None:
    circle = (
        "components: {parameters: {A: {$ref: '#/components/parameters/B'}, B: {$ref: '#/components/parameters/A'}}}\n"
    )
    operation = one(GET % "$ref: '#/components/parameters/A'" + circle)
    assert "circle" in constructs(operation)[0]


def test_circle_of_pure_schema_references_is_an_error(describe: Describe) -> None:
    description = describe(HEAD + "components: {schemas: {A: {$ref: '#/components/schemas/A'}}}\n")
    with pytest.raises(DescriptionError, match="circle"):
        resolve(description, "#/components/schemas/A")


def test_long_chain_of_references_is_refused_quickly(describe: Describe) -> None:
    chain = "".join(f"    p{i}: {{$ref: '#/components/parameters/p{i + 1}'}}\n" for i in range(20_000))
    started = time.process_time()
    description = describe(HEAD + GET % "$ref: '#/components/parameters/p0'" + "components:\n  parameters:\n" + chain)
    assert time.process_time() - started < 4
    assert "chain of more than" in constructs(description.operations[0])[0]


@pytest.mark.parametrize(
    "name", ["../secret.yaml", "/etc/passwd", "file:///etc/passwd", "%2e%2e/secret.yaml", "a/../../secret.yaml"]
)
def test_files_outside_the_folder_are_refused(tmp_path: Path, describe: Describe, name: str) -> None:
    (tmp_path / "secret.yaml").write_text("name: s\nin: query\n")
    description = describe({"api/openapi.yaml": HEAD + GET % f"$ref: '{name}'"})
    assert "outside the description's folder" in constructs(description.operations[0])[0]
    assert set(description.documents) == {"openapi.yaml"}


def test_folder_allowed_by_name_may_be_referred_to(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "p.yaml").write_text("name: s\nin: query\nschema: {}\n")
    text = HEAD + GET % "$ref: '../shared/p.yaml'"
    description = describe({"api/openapi.yaml": text}, allow_folders=[tmp_path / "shared"])
    assert description.operations[0].parameters[0].name == "s"
    assert set(description.documents) == {"openapi.yaml", "../shared/p.yaml"}


def test_symbolic_link_out_of_the_folder_is_refused(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "secret.yaml").write_text("name: s\nin: query\n")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (tmp_path / "api" / "folder").symlink_to(tmp_path)
    for name in ("link.yaml", "folder/secret.yaml"):
        description = describe({"api/openapi.yaml": HEAD + GET % f"$ref: '{name}'"})
        assert "outside the description's folder" in constructs(description.operations[0])[0]


def test_symbolic_link_within_the_folder_is_followed(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "real.yaml").write_text("name: s\nin: query\nschema: {}\n")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert describe(HEAD + GET % "$ref: link.yaml").operations[0].parameters[0].name == "s"


def test_named_pipe_is_refused_without_waiting(tmp_path: Path, describe: Describe) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "not a regular file" in constructs(describe(HEAD + GET % "$ref: pipe.yaml").operations[0])[0]


@pytest.mark.parametrize(
    "url", ["https://example.com/p.yaml", "http://example.com/p.yaml#/x", "//example.com/p.yaml", "ftp://e/p"]
)
def test_remote_reference_is_refused_unless_allowed_by_name(one: One, url: str) -> None:
    operation = one(GET % f"$ref: '{url}'")
    assert "remote and not allowed" in constructs(operation)[0]


def test_remote_reference_allowed_by_name_is_read_from_its_copy(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "copy.yaml").write_text("p: {$ref: 'lib/q.yaml'}\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "q.yaml").write_text("name: s\nin: query\nschema: {}\n")
    text = HEAD + GET % "$ref: 'https://example.com/x/p.yaml#/p'"
    allowed = {"https://example.com/x/p.yaml": tmp_path / "copy.yaml", "https://example.com/x/lib/": tmp_path / "lib"}
    description = describe(text, allow_remote=allowed)
    assert description.operations[0].parameters[0].name == "s"
    assert set(description.documents) == {
        "openapi.yaml",
        "https://example.com/x/p.yaml",
        "https://example.com/x/lib/q.yaml",
    }


def test_folder_of_remote_copies_cannot_be_left(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "q.yaml").write_text("name: s\nin: query\n")
    text = HEAD + GET % "$ref: 'https://example.com/lib/%2e%2e/q.yaml'"
    description = describe(text, allow_remote={"https://example.com/lib/": tmp_path / "lib"})
    assert "not allowed" in constructs(description.operations[0])[0]


def test_broken_file_denies_only_the_operations_that_need_it(describe: Describe) -> None:
    text = (
        HEAD
        + "paths:\n  /a:\n    get: {parameters: [{$ref: bad.yaml}]}\n"
        + "  /b:\n    get: {responses: {'200': {description: x}}}\n"
    )
    first, second = describe({"openapi.yaml": text, "bad.yaml": "a: b: c"}).operations
    assert "bad.yaml:1:5" in constructs(first)[0]
    assert second.unsupported == ()


def test_bomb_in_a_referenced_file_ends_the_load(refusal: Refusal) -> None:
    error = refusal({"openapi.yaml": HEAD + GET % "$ref: bomb.json", "bomb.json": "[" * 100_000})
    assert "nested deeper" in error.message
    assert error.location is not None
    assert error.location.file.endswith("bomb.json")


def test_reference_in_an_example_may_lead_nowhere(one: One) -> None:
    operation = one(GET % "name: a, in: query, schema: {}, example: {$ref: 'https://example.com/none'}")
    assert operation.unsupported == ()


def test_ids_and_anchors_name_schemas_in_31(describe: Describe) -> None:
    text = HEAD + (
        "components:\n  schemas:\n"
        "    Tree:\n      $id: 'https://example.com/tree'\n"
        "      $defs: {leaf: {$anchor: leaf}}\n      properties: {x: {$ref: '#leaf'}}\n"
        "    Other: {$ref: 'https://example.com/tree#/$defs/leaf'}\n"
        "    Plain: {$anchor: plain}\n"
        "    Data: {example: {$id: 'https://example.com/data', $anchor: data}}\n"
    )
    description = describe(text)
    leaf = "/components/schemas/Tree/$defs/leaf"
    assert resolve(description, "https://example.com/tree#leaf").pointer == leaf
    assert resolve(description, "https://example.com/tree#/$defs/leaf").pointer == leaf
    assert resolve(description, "#leaf", "/components/schemas/Tree/properties/x").pointer == leaf
    assert resolve(description, "#/$defs/leaf", "/components/schemas/Tree/properties/x").pointer == leaf
    assert resolve(description, "#plain").pointer == "/components/schemas/Plain"
    with pytest.raises(DescriptionError, match="anchor"):
        resolve(description, "#leaf")
    with pytest.raises(DescriptionError, match="remote"):
        resolve(description, "https://example.com/data")


def test_ids_mean_nothing_in_30(describe: Describe) -> None:
    description = describe(HEAD_30 + "components: {schemas: {A: {$id: 'https://example.com/a'}}}\n")
    with pytest.raises(DescriptionError, match="remote"):
        resolve(description, "https://example.com/a")
    assert resolve(description, "#/components", "/components/schemas/A").pointer == "/components"


def test_digest_does_not_depend_on_where_the_files_lie(tmp_path: Path, describe: Describe) -> None:
    files = {"one/openapi.yaml": HEAD + GET % "$ref: p.yaml", "one/p.yaml": "name: s\nin: query\n"}
    first = describe(files)
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "deep")
    second = describe({"two/deep/openapi.yaml": files["one/openapi.yaml"]})
    assert first.sha256 == second.sha256
    assert first.documents == second.documents
    assert first.source == second.source == "openapi.yaml"
    third = describe({"one/openapi.yaml": files["one/openapi.yaml"], "one/p.yaml": "name: t\nin: query\n"})
    assert third.sha256 != first.sha256
