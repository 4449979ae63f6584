"""Request bodies, responses, media types, encodings, headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from spec_support import HEAD, HEAD_30, constructs

from stockade.spec.model import Encoding

if TYPE_CHECKING:
    from spec_support import Describe, One

FORM = "application/x-www-form-urlencoded"


def post(body: str = "", responses: str = "{'200': {description: ok}}") -> str:
    line = f"      requestBody: {body}\n" if body else ""
    return f"paths:\n  /a:\n    post:\n{line}      responses: {responses}\n"


def test_media_types_keep_their_order(one: One) -> None:
    body = one(
        post("{required: true, content: {b/c: {schema: {type: string}}, '*/*': {}, 'a/*': {}, 'a/b; v=1': {}}}")
    ).request_body
    assert body is not None
    assert body.required
    assert [m.media_type for m in body.content] == ["b/c", "*/*", "a/*", "a/b; v=1"]
    assert body.content[0].schema is not None
    assert body.content[0].schema.pointer == "/paths/~1a/post/requestBody/content/b~1c/schema"
    assert body.content[1].schema is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "without `content`"),
        ("[]", "must be an object"),
        ("{content: []}", "`content` must be an object"),
        ("{content: {json: {}}}", "the media type `json`"),
        ("{content: {'*/json': {}}}", "the media type `*/json`"),
        ("{content: {a/b: null}}", "a media type must be an object"),
        ("{content: {a/b: {}, A/B: {}}}", "twice"),
        ("{content: {a/b: {schema: 1}}}", "`schema` must be an object"),
        ("{required: 1, content: {}}", "`required` must be true or false"),
        ("{$ref: '#/nowhere'}", "does not exist"),
        (f"{{content: {{{FORM}: {{encoding: {{a: {{style: x}}}}}}}}}}", "the style `x`"),
        (f"{{content: {{{FORM}: {{encoding: []}}}}}}", "`encoding` must be an object"),
    ],
)
def test_wrong_body_denies_the_operation(one: One, body: str, words: str) -> None:
    assert words in constructs(one(post(body)))[0]


@pytest.mark.parametrize(
    ("head", "media_type", "encoding", "wanted"),
    [
        (HEAD, FORM, "{}", Encoding(None, "form", explode=True, allow_reserved=False)),
        (HEAD, FORM, "{contentType: a/b}", Encoding("a/b", "form", explode=True, allow_reserved=False)),
        (HEAD, FORM, "{contentType: a/b, explode: false}", Encoding(None, "form", explode=False, allow_reserved=False)),
        (HEAD, FORM, "{style: deepObject}", Encoding(None, "deepObject", explode=False, allow_reserved=False)),
        (HEAD, FORM, "{allowReserved: true}", Encoding(None, "form", explode=True, allow_reserved=True)),
        (
            HEAD,
            "multipart/form-data",
            "{style: pipeDelimited}",
            Encoding(None, "pipeDelimited", explode=False, allow_reserved=False),
        ),
        (
            HEAD_30,
            "multipart/form-data",
            "{contentType: a/b, style: x}",
            Encoding("a/b", "form", explode=True, allow_reserved=False),
        ),
    ],
)
def test_explicit_style_overrules_the_content_type(
    one: One, head: str, media_type: str, encoding: str, wanted: Encoding
) -> None:
    body = one(post(f"{{content: {{{media_type}: {{encoding: {{p: {encoding}}}}}}}}}"), head=head).request_body
    assert body is not None
    assert body.content[0].encoding == {"p": wanted}


def test_encoding_of_json_is_a_warning(describe: Describe) -> None:
    description = describe(HEAD + post("{content: {application/json: {encoding: {p: {}}}}}"))
    assert "`encoding` has no meaning" in description.warnings[0][0]
    assert description.operations[0].unsupported == ()


def test_responses_have_statuses_headers_and_content(one: One) -> None:
    answers = (
        "{200: {description: x, headers: {X-A: {required: true, explode: true, schema: {type: integer}},"
        " X-B: {content: {application/json: {}}}, content-type: {schema: {}}}, content: {a/b: {}}},"
        " 4XX: {description: x}, 5xx: {description: x}, default: {description: x}, x-more: 1}"
    )
    responses = one(post(responses=answers)).responses
    assert [r.status for r in responses] == ["200", "4XX", "5XX", "default"]
    first, second = responses[0].headers
    assert (first.name, first.required, first.explode) == ("X-A", True, True)
    assert first.schema is not None
    assert second.content is not None
    assert [m.media_type for m in responses[0].content] == ["a/b"]


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        ("{'600': {description: x}}", "the response status `600`"),
        ("{'20': {description: x}}", "the response status `20`"),
        ("{2X0: {description: x}}", "the response status `2X0`"),
        ("{Default: {description: x}}", "the response status"),
        ("{4XX: {description: x}, 4xx: {description: x}}", "twice"),
        ("{'200': text}", "a response must be an object"),
        ("[]", "`responses` must be an object"),
        ("{'200': {description: x, headers: {'a b': {}}}}", "the header name"),
        ("{'200': {description: x, headers: {A: {}, a: {}}}}", "twice"),
        ("{'200': {description: x, headers: {A: {style: form}}}}", "not `simple`"),
        ("{'200': {description: x, headers: {A: {$ref: '#/x'}}}}", "does not exist"),
        ("{'200': {$ref: '#/components/responses/none'}}", "does not exist"),
    ],
)
def test_wrong_response_denies_the_operation(one: One, responses: str, words: str) -> None:
    assert words in constructs(one(post(responses=responses)))[0]


@pytest.mark.parametrize("responses", ["{}", "{x-a: 1}"])
def test_operation_without_responses_is_served(one: One, responses: str) -> None:
    operation = one(post(responses=responses))
    assert operation.responses == ()
    assert operation.unsupported == ()


def test_reference_may_override_its_description_in_31(describe: Describe) -> None:
    tail = "components: {responses: {ok: {description: x}}}\n"
    reference = "{'200': {$ref: '#/components/responses/ok', description: y}}"
    description = describe(HEAD + post(responses=reference) + tail)
    assert description.warnings == ()
    assert description.operations[0].responses[0].node.pointer == "/components/responses/ok"
    other = "{'200': {$ref: '#/components/responses/ok', content: {}}}"
    assert "beside `$ref`" in describe(HEAD + post(responses=other) + tail).warnings[0][0]


def test_body_of_a_method_without_body_semantics_is_kept_and_noted(describe: Describe) -> None:
    description = describe(HEAD_30 + post("{content: {a/b: {}}}").replace("post:", "delete:"))
    assert description.operations[0].request_body is not None
    assert "DELETE" in description.warnings[0][0]
