"""Parameters, bodies, responses and security of one operation."""

from __future__ import annotations

from typing import Any

import pytest
from compiler_workshop import A, B, Workshop, document, ref

from stockade.errors import PolicyError

OK = {"200": {"description": ""}}
SCHEMES = {
    "oauth": {
        "type": "oauth2",
        "flows": {"clientCredentials": {"tokenUrl": "/t", "scopes": {"read": "", "write": ""}}},
    },
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://idp.example.com"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "Basic"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "bot": {"type": "apiKey", "in": "header", "name": "authorization"},
    "mtls": {"type": "mutualTLS"},
}


def token(scheme: str, *scopes: str) -> dict[str, Any]:
    return {"kind": "token", "scheme": scheme, "scopes": list(scopes)}


def key(scheme: str, place: str, name: str) -> dict[str, Any]:
    return {"kind": "api_key", "scheme": scheme, "in": place, "name": name, "scopes": []}


def secured(workshop: Any, security: Any, **sections: Any) -> Any:
    operation = {"responses": OK} if security is None else {"responses": OK, "security": security}
    components = {"securitySchemes": SCHEMES}
    return workshop.compile(document({"/a": {"get": operation}}, components=components), workshop.policy(**sections))


@pytest.mark.parametrize(
    ("security", "alternatives", "note"),
    [
        (None, [[token("stockade")]], "no_security"),
        ([], [], "public"),
        ([{}], [[]], "public"),
        ([{"oauth": ["write"]}, {}], [[token("oauth", "write")], []], "public"),
        ([{"oauth": ["write", "read"]}], [[token("oauth", "read", "write")]], None),
        ([{"oidc": ["openid"]}, {"bearer": []}], [[token("oidc", "openid")], [token("bearer")]], None),
        ([{"oauth": ["read"], "oidc": ["openid"]}], [[token("oauth", "openid", "read")]], None),
        ([{"oauth": ["read"], "key": []}], [[token("oauth", "read"), key("key", "header", "X-API-Key")]], None),
        ([{"key": []}, {"cookie": []}], [[key("key", "header", "X-API-Key")], [key("cookie", "cookie", "sid")]], None),
        ([{"basic": []}], [[token("basic")]], "scheme_replaced"),
        ([{"bot": []}], [[token("bot")]], "scheme_replaced"),
        ([{"mtls": []}, {"bearer": []}], [[token("bearer")]], "scheme_denied"),
    ],
)
def test_security_becomes_credentials_that_stockade_checks(
    workshop: Workshop, security: Any, alternatives: Any, note: Any
) -> None:
    built = secured(workshop, security)
    assert built.operation()["security"] == alternatives
    assert built.operation()["deny"] is None
    assert note is None or note in built.note_kinds()


def test_root_security_holds_where_the_operation_says_nothing(workshop: Workshop) -> None:
    described = document(
        {"/a": {"get": {"responses": OK}}}, security=[{"bearer": []}], components={"securitySchemes": SCHEMES}
    )
    assert workshop.compile(described).operation()["security"] == [[token("bearer")]]


@pytest.mark.parametrize("security", [[{"mtls": []}], [{"mtls": [], "bearer": []}]])
def test_security_that_cannot_be_met_denies(workshop: Workshop, security: Any) -> None:
    built = secured(workshop, security)
    assert "cannot be met" in built.operation()["deny"]["construct"]
    assert built.operation()["security"] == [[token("stockade")]]


def test_client_certificates_are_asked_for_where_there_is_a_ca(workshop: Workshop) -> None:
    built = secured(workshop, [{"mtls": []}], listen={"tls": {"client_ca": "ca.pem"}})
    assert built.operation()["security"] == [[{"kind": "mutual_tls", "scheme": "mtls"}]]


def test_the_policy_chooses_what_a_scheme_becomes(workshop: Workshop) -> None:
    schemes = {"key": "token", "bot": "api_key", "cookie": "deny"}
    built = secured(workshop, [{"key": []}, {"bot": []}, {"cookie": []}], identity={"security_schemes": schemes})
    assert built.operation()["security"] == [[token("key")], [key("bot", "header", "authorization")]]


@pytest.mark.parametrize(
    ("schemes", "message"),
    [
        ({"kye": "token"}, "unknown security scheme `kye`"),
        ({"bearer": "api_key"}, "does not say where an API key stands"),
    ],
)
def test_the_policy_cannot_choose_for_schemes_that_do_not_fit(workshop: Workshop, schemes: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        secured(workshop, [], identity={"security_schemes": schemes})


def test_scopes_supported_are_those_declared_and_asked_for(workshop: Workshop) -> None:
    built = secured(workshop, [{"oidc": ["openid"]}])
    assert built.payload["authentication"]["scopes_supported"] == ["openid", "read", "write"]


def parameter(workshop: Any, *, openapi: str = "3.1.0", **fields: Any) -> Any:
    described = document(
        {"/a": {"get": {"parameters": [{"name": "p", "in": "query", **fields}], "responses": OK}}}, openapi=openapi
    )
    return workshop.compile(described)


@pytest.mark.parametrize(
    ("schema", "decode"),
    [
        ({"type": "integer"}, {"types": ["integer"]}),
        ({"type": ["string", "null", "integer"]}, {"types": ["integer", "null", "string"]}),
        ({"type": ["integer", "number"]}, {"types": ["number"]}),
        ({}, {"types": ["string"]}),
        ({"enum": [1, "a", True, None]}, {"types": ["integer", "boolean", "null", "string"]}),
        ({"const": 1.5}, {"types": ["number"]}),
        ({"minimum": 1}, {"types": ["number", "string"]}),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, {"types": ["integer", "boolean"]}),
        ({"oneOf": [{"type": "integer"}, {"maxLength": 2}]}, {"types": ["integer", "string"]}),
        ({"allOf": [{"type": ["integer", "string"]}, {"type": ["integer", "null"]}]}, {"types": ["integer"]}),
        ({"allOf": [{"type": "number"}, {"enum": [1, 2]}]}, {"types": ["integer"]}),
        ({"type": "array", "items": {"type": "integer"}}, {"types": ["array"], "items": {"types": ["integer"]}}),
        (
            {"type": "object", "properties": {"n": {"type": "number"}}, "additionalProperties": {"type": "boolean"}},
            {"types": ["object"], "properties": {"n": {"types": ["number"]}}, "additional": {"types": ["boolean"]}},
        ),
        ({"$ref": "#/components/schemas/I"}, {"types": ["integer"]}),
    ],
)
def test_decode_says_how_text_is_read(workshop: Workshop, schema: Any, decode: Any) -> None:
    described = document(
        {"/a": {"get": {"parameters": [{"name": "p", "in": "query", "schema": schema}], "responses": OK}}},
        components={"schemas": {"I": {"type": "integer"}}},
    )
    assert workshop.compile(described).operation()["parameters"][0]["decode"] == decode


def test_decode_of_a_nullable_3_0_schema_tries_null(workshop: Workshop) -> None:
    built = parameter(workshop, openapi="3.0.3", schema={"type": "integer", "nullable": True})
    assert built.operation()["parameters"][0]["decode"] == {"types": ["integer", "null"]}


def test_decode_of_a_recursive_schema_ends(workshop: Workshop) -> None:
    tree = {"type": "object", "properties": {"child": ref("T")}}
    described = document(
        {"/a": {"get": {"parameters": [{"name": "p", "in": "query", "schema": ref("T")}], "responses": OK}}},
        components={"schemas": {"T": tree}},
    )
    decode, depth = workshop.compile(described).operation()["parameters"][0]["decode"], 0
    while "properties" in decode:
        decode, depth = decode["properties"]["child"], depth + 1
    assert depth > 2
    assert decode == {"types": ["string"]}


def test_a_parameter_is_carried_over_as_it_is(workshop: Workshop) -> None:
    built = parameter(
        workshop,
        style="pipeDelimited",
        explode=False,
        required=True,
        schema={"type": "array", "items": {"type": "string"}},
    )
    entry = built.operation()["parameters"][0]
    schema_key = entry.pop("schema")
    assert schema_key in built.payload["schemas"]
    assert entry == {
        "name": "p", "in": "query", "required": True, "style": "pipeDelimited", "explode": False,
        "allow_reserved": False, "allow_empty_value": False, "content": None, "pointer": "/paths/~1a/get/parameters/0",
        "decode": {"types": ["array"], "items": {"types": ["string"]}},
    }  # fmt: skip


def test_a_parameter_with_json_content_is_one_document(workshop: Workshop) -> None:
    entry = parameter(workshop, content={"application/json": {"schema": A}}).operation()["parameters"][0]
    assert (entry["content"], entry["decode"]) == ("application/json", None)
    assert entry["schema"] is not None


@pytest.mark.parametrize(
    ("fields", "construct"),
    [
        ({"style": "deepObject", "schema": {"type": "string"}}, "deepObject"),
        ({"style": "pipeDelimited", "explode": False, "schema": {"type": "integer"}}, "pipeDelimited"),
        ({"content": {"application/xml": {"schema": A}}}, "application/xml"),
    ],
)
def test_parameters_that_cannot_be_read_deny(workshop: Workshop, fields: Any, construct: str) -> None:
    denied = parameter(workshop, **fields).operation()["deny"]
    assert construct in denied["construct"]


@pytest.mark.parametrize("name", ["Accept", "content-type", "AUTHORIZATION"])
def test_header_parameters_that_openapi_ignores_are_ignored(workshop: Workshop, name: str) -> None:
    described = document(
        {
            "/a": {
                "get": {"parameters": [{"name": name, "in": "header", "required": True, "schema": {}}], "responses": OK}
            }
        }
    )
    assert workshop.compile(described).operation()["parameters"] == []


def body(workshop: Any, content: dict[str, Any], **more: Any) -> Any:
    operation = {"requestBody": {"required": True, "content": content}, "responses": OK, **more}
    return workshop.compile(document({"/a": {"post": operation}}, components={"schemas": {"A": A, "B": B}}))


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("media_type", "schema", "kind"),
    [
        ("application/json", A, "json"),
        ("Application/Problem+JSON; charset=utf-8", A, "json"),
        ("application/x-www-form-urlencoded", A, "form"),
        ("multipart/form-data", A, "multipart"),
        ("text/plain", TEXT, "text"),
        ("text/plain", None, "text"),
        ("application/vnd.custom", {"type": "string", "maxLength": 5}, "text"),
        ("application/octet-stream", None, "binary"),
        ("application/octet-stream", {"type": "string", "format": "binary"}, "binary"),
        ("application/pdf", {"type": "string", "format": "binary"}, "binary"),
        ("image/*", {"type": "string"}, "binary"),
        ("image/png", {"type": "string", "contentMediaType": "image/png"}, "binary"),
        ("text/event-stream", TEXT, "binary"),
        ("*/*", A, "json"),
        ("application/xml", {}, "binary"),
    ],
)
def test_bodies_have_a_kind(workshop: Workshop, media_type: str, schema: Any, kind: str) -> None:
    entry = body(workshop, {media_type: {"schema": schema} if schema is not None else {}}).operation()["body"][
        "content"
    ][0]
    assert entry["kind"] == kind
    assert entry["media_type"] == media_type.partition(";")[0].lower()
    assert (entry["decode"] is not None) == (kind in ("form", "multipart"))
    assert (entry["schema"] is None) == (kind == "binary" or schema is None)


@pytest.mark.parametrize("content", [{"application/xml": {"schema": A}}, {"text/event-stream": {"schema": A}}, {}])
def test_a_required_body_that_nothing_can_check_denies(workshop: Workshop, content: Any) -> None:
    assert body(workshop, content).operation()["deny"] is not None


def test_a_media_type_that_nothing_can_check_is_refused_beside_others(workshop: Workshop) -> None:
    built = body(workshop, {"application/xml": {"schema": A}, "application/json": {"schema": A}})
    assert [entry["media_type"] for entry in built.operation()["body"]["content"]] == ["application/json"]
    assert "media_type_refused" in built.note_kinds()


def test_media_types_come_most_specific_first(workshop: Workshop) -> None:
    content = {"*/*": {}, "image/*": {}, "image/png": {}}
    entries = body(workshop, content).operation()["body"]["content"]
    assert [entry["media_type"] for entry in entries] == ["image/png", "image/*", "*/*"]


def test_media_types_that_differ_in_parameters_take_any_of_their_schemas(workshop: Workshop) -> None:
    content = {"application/json; v=1": {"schema": ref("A")}, "application/json; v=2": {"schema": ref("B")}}
    built = body(workshop, content)
    accepts = built.request_body()
    assert len(built.operation()["body"]["content"]) == 1
    assert accepts({"a": 1})
    assert accepts({"b": 1})
    assert not accepts({"a": 1, "b": 1})


def test_encodings_are_carried_over(workshop: Workshop) -> None:
    encoding = {"a": {"contentType": "application/json"}}
    entry = body(workshop, {"multipart/form-data": {"schema": A, "encoding": encoding}}).operation()["body"]["content"][
        0
    ]
    assert entry["encoding"]["a"] == {
        "content_type": "application/json", "style": "form", "explode": True, "allow_reserved": False,
    }  # fmt: skip


def test_without_a_body_none_may_be_sent(workshop: Workshop) -> None:
    assert workshop.compile(document({"/a": {"get": {"responses": OK}}})).operation()["body"] is None


def responses(workshop: Any, entries: dict[str, Any], **more: Any) -> Any:
    return workshop.compile(document({"/a": {"get": {"responses": entries, **more}}}))


XML = {"application/xml": {"schema": A}}


def test_a_success_that_nothing_can_check_denies(workshop: Workshop) -> None:
    built = responses(workshop, {"200": {"description": "", "content": XML}})
    assert "application/xml" in built.operation()["deny"]["construct"]


def test_an_error_that_nothing_can_check_loses_its_body(workshop: Workshop) -> None:
    """An undeclared error is sanitised by the gate, which is what leaving it out asks for."""
    built = responses(workshop, {"200": {"description": ""}, "404": {"description": "", "content": XML}})
    assert [entry["status"] for entry in built.operation()["responses"]] == ["200"]
    assert "media_type_refused" in built.note_kinds()


def test_what_is_not_enforced_need_not_be_checked(workshop: Workshop) -> None:
    extension = {"modes": {"validate_response": "observe"}}
    built = responses(workshop, {"200": {"description": "", "content": XML}}, **{"x-stockade": extension})
    assert built.operation()["deny"] is None


def test_streams_are_not_checked(workshop: Workshop) -> None:
    content = {"text/event-stream": {"schema": A}}
    built = responses(workshop, {"200": {"description": "", "content": content}}, **{"x-stockade": {"stream": True}})
    assert built.operation()["stream_response"] is True
    assert built.operation()["responses"][0]["content"][0]["kind"] == "binary"


def test_response_headers_are_declared(workshop: Workshop) -> None:
    headers = {
        "X-Rate": {"required": True, "schema": {"type": "integer"}},
        "Content-Type": {"schema": {"type": "string"}},
    }
    entry = responses(workshop, {"default": {"description": "", "headers": headers}}).operation()["responses"][0]
    assert entry["status"] == "default"
    assert [header["name"] for header in entry["headers"]] == ["X-Rate"]
    assert entry["headers"][0]["decode"] == {"types": ["integer"]}
    assert entry["headers"][0]["required"] is True


@pytest.mark.parametrize("path", ["/a%2Fb", "/a%5cb", "/%7Bx%7D", "/a%00"])
def test_paths_that_escape_what_has_a_meaning_are_denied(workshop: Workshop, path: str) -> None:
    """Decoded it would be another path, so it is not in the bundle at all, where it could stand in for that one."""
    built = workshop.compile(document({path: {"get": {"responses": OK}}, "/c": {"get": {"responses": OK}}}))
    assert [(operation["paths"], operation["deny"]) for operation in built.payload["operations"]] == [(["/c"], None)]
    assert built.compiled.coverage.denied == 1
