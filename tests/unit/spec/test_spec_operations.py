"""From `paths` to operations: defaults, overrides, and faults that deny one operation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from spec_support import HEAD, HEAD_30, constructs

if TYPE_CHECKING:
    from spec_support import Describe, One, Refusal

OK = "responses: {'200': {description: ok}}"


def get(path: str = "/a", extra: str = "", tail: str = OK) -> str:
    return f"paths:\n  '{path}':\n    get:\n{extra}      {tail}\n"


def parameters(*items: str) -> str:
    return "      parameters:\n" + "".join(f"        - {item}\n" for item in items)


def test_operation_carries_what_the_description_says(one: One) -> None:
    extra = "      operationId: getA\n      tags: [x, y]\n      deprecated: true\n      x-stockade: {limit: 5/minute}\n"
    operation = one(get(extra=extra))
    assert (operation.operation_id, operation.method, operation.path_template) == ("getA", "GET", "/a")
    assert (operation.tags, operation.deprecated, operation.security) == (("x", "y"), True, None)
    assert operation.extensions == {"x-stockade": {"limit": "5/minute"}}
    assert operation.node.pointer == "/paths/~1a/get"
    assert operation.unsupported == ()


def test_every_method_becomes_an_operation(describe: Describe) -> None:
    methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]
    text = HEAD + "paths:\n  /a:\n" + "".join(f"    {m}: {{{OK}}}\n" for m in methods)
    operations = describe(text).operations
    assert [o.method.lower() for o in operations] == methods
    assert [o.method for o in operations if o.unsupported] == ["TRACE"]


@pytest.mark.parametrize(
    ("place", "style", "explode"),
    [("path", "simple", False), ("query", "form", True), ("header", "simple", False), ("cookie", "form", True)],
)
def test_style_and_explode_default_by_place(one: One, place: str, style: str, explode: bool) -> None:
    item = f"{{name: p, in: {place}, required: true, schema: {{}}}}"
    (parameter,) = one(get("/a/{p}" if place == "path" else "/a", parameters(item))).parameters
    assert (parameter.style, parameter.explode, parameter.required) == (style, explode, True)


@pytest.mark.parametrize("style", ["spaceDelimited", "pipeDelimited", "deepObject"])
def test_other_styles_do_not_explode_by_default(one: One, style: str) -> None:
    operation = one(get(extra=parameters(f"{{name: p, in: query, style: {style}, schema: {{}}}}")))
    assert operation.parameters[0].explode is False


def test_operation_parameters_replace_those_of_the_path_by_name_and_place(one: One) -> None:
    shared = "    parameters:\n      - {name: a, in: query, schema: {}}\n      - {name: X-B, in: header, schema: {}}\n"
    own = parameters(
        "{name: a, in: query, required: true, schema: {}}",
        "{name: x-b, in: header, schema: {}}",
        "{name: a, in: cookie, schema: {}}",
    )
    text = get(extra=own).replace("    get:", shared + "    get:")
    found = [(p.name, p.place, p.required) for p in one(text).parameters]
    assert found == [("a", "query", True), ("x-b", "header", False), ("a", "cookie", False)]


def test_parameter_with_content_has_its_media_type(one: One) -> None:
    item = "{name: p, in: query, content: {application/json: {schema: {type: object}}}}"
    (parameter,) = one(get(extra=parameters(item))).parameters
    assert parameter.schema is None
    assert parameter.content is not None
    assert parameter.content.media_type == "application/json"


def test_headers_that_openapi_describes_elsewhere_are_ignored(describe: Describe) -> None:
    items = [f"{{name: {n}, in: header, schema: {{}}}}" for n in ("Accept", "content-type", "AUTHORIZATION", "X-A")]
    description = describe(HEAD + get(extra=parameters(*items)))
    assert [p.name for p in description.operations[0].parameters] == ["X-A"]
    assert len(description.warnings) == 3


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("{in: query}", "without `name`"),
        ("{name: '', in: query}", "without `name`"),
        ("{name: 1, in: query}", "`name` must be a string"),
        ("{name: p}", "without `in`"),
        ("{name: p, in: body}", "a parameter in `body`"),
        ("{name: p, in: elsewhere}", "a parameter in `elsewhere`"),
        ("{name: p, in: query, style: matrix, schema: {}}", "the style `matrix`"),
        ("{name: p, in: header, style: form, schema: {}}", "the style `form`"),
        ("{name: p, in: query, required: 1, schema: {}}", "`required` must be true or false"),
        ("{name: p, in: query, explode: x, schema: {}}", "`explode` must be true or false"),
        ("{name: p, in: query, schema: []}", "`schema` must be an object"),
        ("{name: p, in: query, schema: {}, content: {a/b: {}}}", "both `schema` and `content`"),
        ("{name: p, in: query, content: {}}", "exactly one media type"),
        ("{name: p, in: query, content: {a/b: {}, c/d: {}}}", "exactly one media type"),
        ("{name: 'a b', in: header, schema: {}}", "parameter name"),
        ("[]", "a parameter must be an object"),
        ("{$ref: 1}", "`$ref` must be a string"),
        ("{$ref: '#/nowhere'}", "does not exist"),
        ("{name: q, in: path, required: true, schema: {}}", "which the path lacks"),
    ],
)
def test_wrong_parameter_denies_its_operation_only(describe: Describe, item: str, words: str) -> None:
    text = HEAD + get(extra=parameters(item)) + f"  /b:\n    get: {{{OK}}}\n"
    first, second = describe(text).operations
    assert words in constructs(first)[0]
    assert second.unsupported == ()


def test_parameter_twice_denies_its_operation(one: One) -> None:
    operation = one(get(extra=parameters("{name: A, in: header, schema: {}}", "{name: a, in: header, schema: {}}")))
    assert "twice" in constructs(operation)[0]


def test_parameters_that_are_no_list_deny_the_operation(one: One) -> None:
    assert "`parameters` must be a list" in constructs(one(get(extra="      parameters: {a: 1}\n")))[0]


def test_path_variable_without_parameter_denies_the_operation(one: One) -> None:
    assert "the path variable `id` without a parameter" in constructs(one(get("/a/{id}")))[0]


def test_path_parameter_is_required_whatever_it_says(describe: Describe) -> None:
    description = describe(HEAD + get("/a/{p}", parameters("{name: p, in: path, schema: {}}")))
    assert description.operations[0].parameters[0].required
    assert "required" in description.warnings[0][0]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a", "the path `a`"),
        ("/a?b=c", "query or fragment"),
        ("/a#b", "query or fragment"),
        ("/{a", "braces"),
        ("/a}", "braces"),
        ("/{}", "braces"),
        ("/{a}{b}", "touch"),
        ("/{a}/{a}", "twice"),
        ("/a//b", "empty or dot segment"),
        ("/a/../b", "empty or dot segment"),
        ("/a/%2e/b", "empty or dot segment"),
        ("/%ff", "no UTF-8"),
    ],
)
def test_path_that_no_request_can_match_is_denied(one: One, path: str, words: str) -> None:
    assert words in constructs(one(get(path)))[0]


@pytest.mark.parametrize("path", ["/", "/a/", "/{x}.json", "/{a}/{b}:{c}", "/é", "/%C3%A9", "/a b", "/a.b/..c"])
def test_unusual_paths_are_served(one: One, path: str) -> None:
    names = [v for v in ("x", "a", "b", "c") if f"{{{v}}}" in path]
    items = [f"{{name: {n}, in: path, required: true, schema: {{}}}}" for n in names]
    operation = one(get(path, parameters(*items) if items else ""))
    assert operation.unsupported == ()
    assert operation.path_template == path


def test_templates_that_match_the_same_requests_deny_both(describe: Describe) -> None:
    def path(name: str, method: str) -> str:
        parameter = f"{{name: {name}, in: path, required: true, schema: {{}}}}"
        return f"  '/a/{{{name}}}':\n    {method}: {{parameters: [{parameter}], {OK}}}\n"

    operations = describe(HEAD + "paths:\n" + path("x", "get") + path("y", "get") + path("z", "post")).operations
    assert [bool(o.unsupported) for o in operations] == [True, True, False]
    assert "/a/{y}" in constructs(operations[0])[0]
    assert "/a/{x}" in constructs(operations[1])[0]


def test_same_path_through_different_servers_denies_both(describe: Describe) -> None:
    text = f"paths:\n  /v1/a:\n    get: {{{OK}}}\n  /a:\n    servers: [{{url: /v1}}]\n    get: {{{OK}}}\n"
    assert all(o.unsupported for o in describe(HEAD + text).operations)


def test_operation_id_twice_denies_the_second(describe: Describe) -> None:
    named = {"get": "x", "put": "x", "post": "y"}
    text = "paths:\n  /a:\n" + "".join(f"    {m}: {{operationId: {i}, {OK}}}\n" for m, i in named.items())
    first, second, third = describe(HEAD + text).operations
    assert (first.operation_id, first.unsupported) == ("x", ())
    assert second.operation_id is None
    assert "GET /a" in constructs(second)[0]
    assert third.unsupported == ()


def test_policy_beside_a_path_reference_is_not_overheard(one: One) -> None:
    operation = one(f"paths:\n  /a: {{$ref: '#/x-p', x-stockade: {{limit: 1/minute}}}}\nx-p:\n  get: {{{OK}}}\n")
    assert "`x-stockade` beside `$ref`" in constructs(operation)[0]


def test_method_on_both_sides_of_a_path_reference_is_denied(describe: Describe) -> None:
    beside = f"    put: {{{OK}}}\n    get: {{{OK}}}\n"
    text = f"paths:\n  /a:\n    $ref: '#/x-p'\n{beside}x-p:\n  get: {{{OK}}}\n  post: {{{OK}}}\n"
    found = {o.method: bool(o.unsupported) for o in describe(HEAD + text).operations}
    assert found == {"GET": True, "PUT": False, "POST": False}


@pytest.mark.parametrize("item", ["null", "[]", "text", "{$ref: '#/nowhere'}", "{$ref: 1}", "{$ref: '#/info/title'}"])
def test_path_that_cannot_be_read_is_a_warning_and_nothing_is_served(describe: Describe, item: str) -> None:
    description = describe(HEAD + f"paths: {{/a: {item}}}\n")
    assert description.operations == ()
    assert "`/a` is not served" in description.warnings[0][0]


@pytest.mark.parametrize(
    "value",
    ["null", "[]", "text", f"{{operationId: 1, {OK}}}", f"{{deprecated: x, {OK}}}", f"{{requestBody: 1, {OK}}}"],
)
def test_operation_that_cannot_be_read_stays_denied(describe: Describe, value: str) -> None:
    (operation,) = describe(HEAD + f"paths: {{/a: {{get: {value}}}}}\n").operations
    assert operation.unsupported
    assert (operation.method, operation.path_template, operation.base_paths) == ("GET", "/a", ("",))


def test_unknown_fields_are_warnings_and_extensions_are_not(describe: Describe) -> None:
    text = (
        HEAD
        + "summery: x\nx-ok: 1\n"
        + get(extra="      operatonId: x\n      x-mine: 1\n").replace("    get:", "    Post: {}\n    get:")
    )
    description = describe(text)
    assert sorted(m.split("`")[1] for m, _ in description.warnings) == ["Post", "operatonId", "summery"]
    assert description.extensions == {"x-ok": 1}
    assert description.operations[0].unsupported == ()
    assert all(description.locate(node).line for _, node in description.warnings)


def test_callbacks_and_webhooks_are_noted_as_not_served(describe: Describe) -> None:
    hook = f"webhooks:\n  ping: {{post: {{{OK}}}}}\n"
    description = describe(HEAD + get(extra="      callbacks: {x: {}}\n") + hook)
    assert len(description.operations) == 1
    assert sum("does not pass the gate" in m or "do not pass the gate" in m for m, _ in description.warnings) == 2


def test_warnings_are_bounded(describe: Describe) -> None:
    description = describe(HEAD + "".join(f"u{i}: 1\n" for i in range(3000)))
    assert len(description.warnings) == 1001


def test_dialect_of_another_draft_denies_every_operation(describe: Describe) -> None:
    dialect = "jsonSchemaDialect: 'http://json-schema.org/draft-07/schema#'\n"
    assert all(o.unsupported for o in describe(HEAD + dialect + get()).operations)
    known = "jsonSchemaDialect: 'https://spec.openapis.org/oas/3.1/dialect/base'\n"
    assert not describe(HEAD + known + get()).operations[0].unsupported


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("swagger: '2.0'\n", "Swagger 2.0"),
        ("openapi: 3.2.0\n", "`3.2.0` is not supported"),
        ("openapi: 4.0.0\n", "not supported"),
        ("openapi: 3.1\n", "must be a string"),
        ("openapi: '3.1'\n", "not supported"),
        ("openapi: null\n", "must be a string"),
        ("info: {}\n", "not an OpenAPI description"),
        ("- 1\n", "not an OpenAPI description"),
        ("text\n", "not an OpenAPI description"),
        ("overlay: 1.0.0\n", "an overlay, not a description"),
        (HEAD + "paths: []\n", "`paths` must be an object"),
    ],
)
def test_what_is_no_description_is_an_error_with_place_and_hint(refusal: Refusal, text: str, words: str) -> None:
    error = refusal(text)
    assert words in error.message
    assert error.hint
    assert error.location is not None
    assert error.location.line is not None
    assert error.message[0].islower() or error.message.startswith(("Swagger", "OpenAPI", "`"))


def test_title_and_version_may_be_missing_or_numbers(describe: Describe) -> None:
    description = describe("openapi: 3.1.0\ninfo: {version: 1.5}\npaths: {}\n")
    assert (description.title, description.version) == ("untitled", "1.5")
    assert len(description.warnings) == 2


@pytest.mark.parametrize(("head", "dialect"), [(HEAD, "draft2020-12"), (HEAD_30, "draft4")])
def test_dialect_goes_by_the_version(describe: Describe, head: str, dialect: str) -> None:
    assert describe(head + get()).dialect == dialect


def test_boolean_schema_exists_only_in_31(one: One) -> None:
    text = get(extra=parameters("{name: p, in: query, schema: true}"))
    assert one(text).unsupported == ()
    assert "`schema` must be an object" in constructs(one(text, head=HEAD_30))[0]


def test_missing_file_is_an_error(tmp_path: Any) -> None:
    from stockade import spec
    from stockade.errors import DescriptionError

    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(DescriptionError) as caught:
            spec.load(path)
        assert caught.value.hint


SHARED = {
    "paths that share many parameters": (
        "paths:\n"
        + "".join(f"  /p{i}: {{$ref: '#/x-item'}}\n" for i in range(5000))
        + "x-item:\n  parameters:\n"
        + "".join(f"    - {{name: q{i}, in: query, schema: {{}}}}\n" for i in range(500))
        + f"  get: {{{OK}}}\n"
    ),
    "paths that share many responses": (
        "paths:\n"
        + "".join(f"  /p{i}: {{$ref: '#/x-item'}}\n" for i in range(20_000))
        + "x-item:\n  get:\n    responses:\n"
        + "".join(f"      '{i}': {{description: x}}\n" for i in range(200, 300))
    ),
    "paths that share many media types": (
        "paths:\n" + "".join(f"  /p{i}: {{post: {{requestBody: {{content: *c}}, {OK}}}}}\n" for i in range(3000))
    ).replace("*c", "&c {" + ", ".join(f"a/b{i}: {{}}" for i in range(300)) + "}", 1),
}


def test_long_names_are_refused_before_pointers_are_made_of_them(refusal: Refusal) -> None:
    error = refusal(HEAD + f"paths:\n  ? /{'x' * 10_000}\n  : get: {{{OK}}}\n")
    assert "JSON pointers longer than" in error.message


def test_path_of_very_many_variables_is_denied_quickly(one: One) -> None:
    started = time.process_time()
    operation = one(get("/" + "/".join(f"{{v{i}}}" for i in range(150))))
    assert "more than 100 variables" in constructs(operation)[0]
    assert time.process_time() - started < 1


def test_very_long_reference_is_denied_without_being_repeated(one: One) -> None:
    operation = one(get(extra=parameters("{$ref: '#/" + "x" * 100_000 + "'}")))
    assert "more than 4096 characters" in constructs(operation)[0]


def test_paths_times_servers_are_bounded(refusal: Refusal) -> None:
    servers = "servers: [" + ", ".join(f"{{url: /s{i}}}" for i in range(60)) + "]\n"
    paths = "paths:\n" + "".join(f"  /p{i}: {{get: {{{OK}}}}}\n" for i in range(6000))
    assert "references expanded" in refusal(HEAD + servers + paths).message


@pytest.mark.parametrize("name", SHARED)
def test_small_file_with_many_shared_parts_is_refused_quickly(refusal: Refusal, name: str) -> None:
    started = time.process_time()
    error = refusal(HEAD + SHARED[name])
    assert time.process_time() - started < 6
    assert "references expanded" in error.message or "aliases expanded" in error.message
