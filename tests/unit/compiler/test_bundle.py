"""The payload as a whole: its shape, its bytes, and what is denied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from compiler_workshop import A, B, Workshop, accept_all, api, document, ref

from stockade.compiler import compile_bundle
from stockade.errors import BundleError, PolicyError

SOURCE = Path(__file__).resolve().parents[3] / "src"
OK = {"200": {"description": ""}}


def test_payload_is_canonical_json_of_format_1(workshop: Workshop) -> None:
    built = workshop.schema({**A, "description": "ä"})
    payload = built.payload
    assert (
        built.compiled.payload
        == json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    )
    assert set(payload) == {
        "format", "description", "dialect", "hosts", "authentication", "cors", "limits", "sizes", "problem_base",
        "schemas", "schema_pointers", "operations",
    }  # fmt: skip
    assert payload["format"] == 1
    assert payload["authentication"] == {
        "issuer": "https://localhost:8444", "audience": "https://localhost:8443", "scopes_supported": [],
        "dpop": {
            "origins": ["https://localhost:8443", "https://127.0.0.1:8443"], "nonce": True, "max_age_seconds": 60
        },
        "acr_order": ["pwd", "mfa", "phr"],
    }  # fmt: skip
    assert set(payload["operations"][0]) == {
        "id", "method", "paths", "pointer", "deny", "modes", "security", "parameters", "unknown_query", "body",
        "responses", "limit", "acr", "max_age_seconds", "internal_token", "upgrade", "stream_response",
    }  # fmt: skip


def test_same_inputs_compile_to_same_bytes_in_every_process(workshop: Workshop, tmp_path: Path) -> None:
    schema = {"allOf": [ref("A"), {"anyOf": [ref("B"), {"properties": {name: {} for name in "zyxwv"}}]}]}
    (tmp_path / "openapi.json").write_text(json.dumps(api(schema, {"A": A, "B": B})))
    program = (
        "import hashlib, sys; from pathlib import Path; from stockade import spec; from stockade.policy import Policy\n"
        "from stockade.compiler import compile_bundle\n"
        "policy = Policy.default(description='openapi.json', upstream='http://127.0.0.1:9000')\n"
        "compiled = compile_bundle(spec.load(Path('openapi.json')), policy, check_schemas=lambda d, s: [])\n"
        "print(hashlib.sha256(compiled.payload).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert len(digests) == 1


def test_operations_are_sorted_by_path_and_method(workshop: Workshop) -> None:
    operation = {"responses": OK}
    built = workshop.compile(document({"/b": {"post": operation, "get": operation}, "/a": {"put": operation}}))
    assert [(o["method"], o["paths"]) for o in built.payload["operations"]] == [
        ("PUT", ["/a"]), ("GET", ["/b"]), ("POST", ["/b"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("servers", "base_path", "paths"),
    [
        ([{"url": "https://api.example.com/v1/"}, {"url": "/v2"}], None, ["/v1/a b/{id}", "/v2/a b/{id}"]),
        ([{"url": "https://api.example.com"}], None, ["/a b/{id}"]),
        ([{"url": "https://api.example.com/v1"}], "none", ["/a b/{id}"]),
        ([{"url": "https://api.example.com/v1"}], "/gate", ["/gate/a b/{id}"]),
    ],
)
def test_base_paths_come_from_servers_or_policy(workshop: Workshop, servers: Any, base_path: Any, paths: Any) -> None:
    parameters = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    described = document({"/a%20b/{id}": {"get": {"parameters": parameters, "responses": OK}}}, servers=servers)
    policy = workshop.policy(api={"base_path": base_path} if base_path else {})
    assert workshop.compile(described, policy).operation()["paths"] == paths


def test_operation_ids_are_unique(workshop: Workshop) -> None:
    one = {"operationId": "same", "responses": OK}
    built = workshop.compile(document({"/a": {"get": one}, "/b": {"get": {"responses": OK}}, "/c": {"get": one}}))
    identifiers = [operation["id"] for operation in built.payload["operations"]]
    assert identifiers == ["same", "GET /b", "GET /c"]


def test_of_two_templates_for_the_same_paths_one_is_served(workshop: Workshop) -> None:
    """Which of two schemas holds would be a guess; OpenAPI calls such templates identical and invalid."""

    def operation(name: str) -> dict[str, Any]:
        return {
            "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": OK,
        }

    paths = {"/a/{x}": {"get": operation("x")}, "/a/{y}": {"get": operation("y"), "put": operation("y")}}
    built = workshop.compile(document(paths))
    served = [(o["method"], o["paths"]) for o in built.payload["operations"] if o["deny"] is None]
    assert ("GET", ["/a/{y}"]) not in served
    assert built.compiled.coverage.denied >= 1


def test_a_schema_that_the_engine_cannot_build_denies_its_operations_and_no_others(workshop: Workshop) -> None:
    """The engine names keys; what leads to one of them falls, what does not stays, and the rest is checked again."""
    look_ahead = {"type": "string", "pattern": "^(?=a)b"}
    described = api({"type": "object", "properties": {"v": ref("Bad")}}, {"Bad": look_ahead, "Good": A})
    content = {"application/json": {"schema": ref("Good")}}
    described["paths"]["/good"] = {"post": {"requestBody": {"content": content}, "responses": OK}}
    calls: list[set[str]] = []

    def check(dialect: str, schemas: dict[str, Any]) -> list[Any]:
        assert dialect == "draft2020-12"
        calls.append(set(schemas))
        return [SimpleNamespace(schema=key, message="look-around") for key in schemas if "Bad" in key]

    built = workshop.compile(described, check=check)
    good, bad = built.payload["operations"]
    assert bad["deny"] == {
        "construct": "a schema that cannot be built: look-around",
        "pointer": "/components/schemas/Bad",
    }
    assert good["deny"] is None
    assert not any("Bad" in key for key in built.payload["schemas"])
    assert [len([key for key in keys if "Bad" in key]) for keys in calls] == [2, 0]
    assert built.compiled.coverage.totals()["denied"] == 1


def test_an_engine_that_refuses_everything_is_an_error(workshop: Workshop) -> None:
    with pytest.raises(BundleError, match="as a whole: broken"):
        workshop.compile(api(A), check=lambda _d, _s: [SimpleNamespace(schema="", message="broken")])


@pytest.mark.parametrize("dialect", ["http://json-schema.org/draft-07/schema#", "https://example.com/own"])
def test_another_default_dialect_denies_every_operation(workshop: Workshop, dialect: str) -> None:
    built = workshop.compile({**api(A), "jsonSchemaDialect": dialect})
    assert dialect in built.operation()["deny"]["construct"]
    assert built.payload["schemas"] == {}


def test_the_usual_dialects_are_known(workshop: Workshop) -> None:
    for dialect in ("https://spec.openapis.org/oas/3.1/dialect/base", "https://json-schema.org/draft/2020-12/schema"):
        assert workshop.compile({**api(A), "jsonSchemaDialect": dialect}).operation()["deny"] is None


def test_trace_is_denied(workshop: Workshop) -> None:
    built = workshop.compile(document({"/a": {"trace": {"responses": OK}}}))
    assert "TRACE" in built.operation()["deny"]["construct"]


def test_a_denied_operation_with_broken_security_is_not_public(workshop: Workshop) -> None:
    built = workshop.compile(document({"/a": {"trace": {"responses": OK, "security": [{"nowhere": []}]}}}))
    assert built.operation()["deny"] is not None
    assert built.operation()["security"]
    assert [] not in built.operation()["security"]


def test_policy_reaches_the_bundle(workshop: Workshop) -> None:
    policy = workshop.policy(
        api={"hosts": ["API.example.com"]},
        limits={"per_address": None, "per_client": "5/second burst 9", "sizes": {"max_body_bytes": "2 KiB"}},
        layers={"validate_response": "observe"},
        cors={"origins": ["https://app.example.com"]},
        identity={"issuer": "https://idp.example.com", "audience": "shop"},
        problem_base="https://errors.example.com/",
    )
    payload = workshop.compile(api(A), policy).payload
    assert payload["hosts"] == ["api.example.com"]
    assert payload["limits"]["per_address"] is None
    assert payload["limits"]["per_client"] == {"requests": 5, "period_seconds": 1, "burst": 9}
    assert payload["sizes"]["max_body_bytes"] == 2048
    assert payload["operations"][0]["body"]["max_bytes"] == 2048
    assert payload["operations"][0]["modes"]["validate_response"] == "observe"
    assert payload["cors"] == {
        "origins": ["https://app.example.com"], "allow_credentials": False, "max_age_seconds": 600,
        "expose_headers": ["WWW-Authenticate", "DPoP-Nonce"],
    }  # fmt: skip
    assert payload["authentication"]["issuer"] == "https://idp.example.com"
    assert payload["authentication"]["audience"] == "shop"
    assert payload["problem_base"] == "https://errors.example.com/"


def test_the_nearest_extension_counts(workshop: Workshop) -> None:
    operation = {
        "responses": OK,
        "x-stockade": {"limit": "5/minute", "modes": {"limits": "observe"}, "stream": True, "max_body_bytes": "1 KiB"},
        "requestBody": {"content": {"application/json": {"schema": A}}},
    }
    path = {
        "put": operation,
        "get": {"responses": OK},
        "x-stockade": {"limit": "7/hour", "modes": {"authorize": "off"}},
    }
    built = workshop.compile(
        document({"/a": path}, **{"x-stockade": {"unknown_query": "allow", "upgrade": ["WebSocket"]}})
    )
    get, put = built.payload["operations"]
    assert get["limit"] == {"requests": 7, "period_seconds": 3600, "burst": 7}
    assert put["limit"] == {"requests": 5, "period_seconds": 60, "burst": 5}
    assert (get["modes"]["limits"], get["modes"]["authorize"]) == ("enforce", "off")
    assert (put["modes"]["limits"], put["modes"]["authorize"]) == ("observe", "off")
    assert put["body"]["max_bytes"] == 1024
    assert (get["stream_response"], put["stream_response"]) == (False, True)
    assert get["unknown_query"] == put["unknown_query"] == "allow"
    assert get["upgrade"] == ["websocket"]


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        ({"limits": "5/minute"}, "unknown key `limits`"),
        ({"limit": "5/fortnight"}, "unknown period `fortnight`"),
        ({"modes": {"limits": "enforced"}}, "must be `enforce`, `observe` or `off`"),
        (["limit"], "must be a mapping"),
        ({"upgrade": "web socket"}, "is not the name of a protocol"),
    ],
)
def test_a_wrong_extension_is_an_error_with_its_place(workshop: Workshop, extension: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        workshop.compile(document({"/a": {"get": {"responses": OK, "x-stockade": extension}}}))
    place = caught.value.location
    assert place is not None
    assert (place.line, place.pointer.startswith("/paths/~1a/get/x-stockade")) == (1, True)


def test_a_wrong_extension_of_a_schema_is_an_error(workshop: Workshop) -> None:
    with pytest.raises(PolicyError, match="sensitivity"):
        workshop.compile(
            api({"type": "object", "properties": {"v": {"type": "string", "x-stockade": {"sensitivity": "high"}}}})
        )


def test_names_of_later_layers_are_kept_and_reported(workshop: Workshop) -> None:
    schema = {"type": "object", "properties": {"iban": {"type": "string", "x-stockade": {"sensitivity": "financial"}}}}
    described = api(schema, **{"x-stockade": {"owner": "$response.body#/id == $token.sub", "acr": "mfa"}})
    built = workshop.compile(described)
    assert "not_enforced_yet" in built.note_kinds()
    assert any(warning.pointer.endswith("/iban/x-stockade") for warning in built.compiled.warnings)


def test_keywords_that_mean_nothing_are_reported(workshop: Workshop) -> None:
    old = workshop.schema({"type": "object", "properties": {"v": {"const": 1}}}, openapi="3.0.3")
    new = workshop.schema({"type": "object", "properties": {"v": {"type": "string", "nullable": True}}})
    assert any("`const`" in warning.message for warning in old.compiled.warnings)
    assert any("`nullable`" in warning.message for warning in new.compiled.warnings)
    assert not new.request_body()({"v": None})


def test_settings_to_come_are_warned_about(workshop: Workshop) -> None:
    built = workshop.compile(api(A), workshop.policy(layers={"detect": "observe"}))
    assert any("`detect`" in warning.message for warning in built.compiled.warnings)


@pytest.mark.parametrize("value", [float("inf"), "\ud800", {1, 2}])
def test_a_value_that_json_cannot_carry_denies_its_operation(workshop: Workshop, value: Any) -> None:
    """The loader refuses most of these; the compiler does not rely on it."""
    described = api({"type": "object", "properties": {"v": {"enum": [1]}}})
    described["paths"]["/good"] = {"get": {"responses": OK}}
    description = workshop.load(described)
    body = next(each.request_body for each in description.operations if each.request_body is not None)
    body.content[0].schema.value["properties"]["v"]["enum"] = [value]
    compiled = compile_bundle(description, workshop.policy(), check_schemas=accept_all)
    assert [operation.denied is not None for operation in compiled.coverage.operations] == [False, True]
    assert b"JSON cannot carry" in compiled.payload
