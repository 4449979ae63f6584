"""`stockade check`: each check finds what it is for, and nothing in an API that has no fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockade import findings, policy, spec
from stockade.errors import DescriptionError, InputError, Location, PolicyError
from stockade.findings import Finding
from stockade.policy import CHECKS

OK = {"200": {"description": ""}}
SCHEMES = {
    "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/t", "scopes": {"read": ""}}}},
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://idp.example.com"},
}
SOUND: dict[str, Any] = {"operationId": "one", "security": [{"oauth": ["read"]}], "responses": OK}


def run(
    folder: Path, operation: dict[str, Any], *, method: str = "post", sections: str = "", **root: Any
) -> list[Finding]:
    schemes = {**SCHEMES, **root.pop("schemes", {})}
    described = {
        "openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/a": {method: {**SOUND, **operation}}},
        "components": {"securitySchemes": schemes}, **root,
    }  # fmt: skip
    (folder / "openapi.json").write_text(json.dumps(described))
    file = folder / "stockade.yaml"
    api = "" if "api:" in sections else "api:\n  description: openapi.json\n  upstream: http://127.0.0.1:9000\n"
    file.write_text(api + sections)
    loaded = policy.load(file)
    return policy.lint(loaded, spec.load(loaded.api.description))


def body(schema: Any) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def prop(schema: Any) -> dict[str, Any]:
    return body({"type": "object", "properties": {"v": schema}})


def scheme(**fields: Any) -> dict[str, Any]:
    return {"schemes": {"it": fields}}


EXPOSED = "listen: {address: '0.0.0.0:8443'}\n"
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("layer-off", {}, {"sections": "layers: {authenticate: off}\n"}),
    ("layer-off", {"x-stockade": {"modes": {"limits": "off"}}}, {}),
    ("layer-observes", {}, {"sections": "layers: {validate_request: observe}\n"}),
    ("clear-text-listener", {}, {"sections": "listen: {address: '0.0.0.0:80', tls: {mode: off}}\n"}),
    ("development-certificate", {}, {"sections": EXPOSED}),
    ("clear-text-upstream", {}, {"sections": "api: {description: openapi.json, upstream: 'http://10.0.0.1'}\n"}),
    ("rate-limit-off", {}, {"sections": "limits: {per_address: null}\n"}),
    ("unknown-properties-allowed", {}, {"sections": "validation: {unknown_properties: {request: allow}}\n"}),
    ("unknown-query-allowed", {}, {"sections": "validation: {unknown_query: allow}\n"}),
    ("trusts-everyone", {}, {"sections": "listen: {trusted_proxies: [0.0.0.0/0]}\n"}),
    ("any-origin", {}, {"sections": "cors: {origins: '*'}\n"}),
    ("long-lived-tokens", {}, {"sections": "identity: {access_token_lifetime_seconds: 7200}\n"}),
    ("no-effect-yet", {}, {"sections": "layers: {detect: observe}\n"}),
    ("security-missing", {"security": None}, {}),
    ("public-write", {"security": []}, {}),
    ("scheme-replaced", {}, scheme(type="http", scheme="basic")),
    ("scheme-unavailable", {}, scheme(type="mutualTLS")),
    ("api-key-in-query", {}, scheme(type="apiKey", **{"in": "query", "name": "key"})),
    ("scope-undeclared", {"security": [{"oauth": ["red"]}]}, {}),
    ("scope-invalid", {"security": [{"oidc": ["two words"]}]}, {}),
    ("clear-text-server", {}, {"servers": [{"url": "http://api.example.com"}]}),
    ("operation-unsupported", {}, {"method": "trace"}),
    ("body-free-form", body({}), {}),
    ("body-free-form", body({"type": "object"}), {}),
    ("parameter-untyped", {"parameters": [{"name": "q", "in": "query", "content": {"application/json": {}}}]}, {}),
    ("string-unconstrained", prop({"type": "string"}), {}),
    ("array-unconstrained", prop({"type": "array", "items": {"type": "boolean"}}), {}),
    ("number-unconstrained", prop({"type": "integer", "minimum": 0}), {}),
    ("object-free-form", prop({"type": "object"}), {}),
    ("value-unconstrained", prop({}), {}),
    ("operation-unsupported", {"security": [{"nowhere": []}]}, {}),
    ("description-doubtful", {"responses": {"200": {}}}, {}),
    ("extension-not-enforced", {"x-stockade": {"scope": "read"}}, {}),
    ("acr-unknown", {"x-stockade": {"acr": ["mfa", "gold"]}}, {}),
    (
        "acr-unmet",
        {"x-stockade": {"max_age": 60}, "security": [{"oauth": ["read"]}, {"it": []}]},
        scheme(type="apiKey", **{"in": "header", "name": "X-Key"}),
    ),
]


@pytest.mark.parametrize(("check", "operation", "options"), CASES)
def test_each_check_finds_what_it_is_for(tmp_path: Path, check: str, operation: Any, options: Any) -> None:
    operation = {name: value for name, value in {**SOUND, **operation}.items() if value is not None}
    left_out = operation.keys() < SOUND.keys()  # `security`
    found = _without_security(tmp_path) if left_out else run(tmp_path, operation, **options)
    finding = next(each for each in found if each.check == check)
    assert finding.hint
    assert finding.location is not None
    assert finding.location.line is not None
    assert Path(finding.location.file).parent == tmp_path


def _without_security(folder: Path) -> list[Finding]:
    described = {
        "openapi": "3.1.0",
        "info": {"title": "T", "version": "1"},
        "paths": {"/a": {"get": {"responses": OK}}},
    }
    (folder / "openapi.json").write_text(json.dumps(described))
    loaded = policy.Policy.default(description=folder / "openapi.json", upstream="http://127.0.0.1:9000")
    return policy.lint(loaded, spec.load(loaded.api.description))


def test_a_sound_api_has_no_finding(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"v": {"type": "string", "maxLength": 5}}}
    assert run(tmp_path, body(schema)) == []


def test_how_users_sign_in_is_asked_without_a_finding(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"v": {"type": "string", "maxLength": 5}}}
    asked = {**body(schema), "x-stockade": {"acr": "mfa", "max_age": 60, "internal_token": "operation"}}
    assert run(tmp_path, asked) == []
    elsewhere = "identity: {issuer: 'https://idp.example.com'}\n"
    assert run(tmp_path, {**asked, "x-stockade": {"acr": "urn:gold"}}, sections=elsewhere) == []


def test_the_severest_come_first(tmp_path: Path) -> None:
    found = run(tmp_path, prop({"type": "string"}), sections="layers: {authenticate: off, limits: observe}\n")
    assert [finding.severity for finding in found] == ["high", "medium", "low"]


def test_a_schema_that_many_operations_share_is_named_once(tmp_path: Path) -> None:
    operation = {**SOUND, **body({"$ref": "#/components/schemas/S"})}
    shared = {"schemas": {"S": {"type": "object", "properties": {"v": {"type": "string"}}}}, "securitySchemes": SCHEMES}
    described = {
        "openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "components": shared,
        "paths": {"/a": {"post": operation, "put": {**operation, "operationId": "two"}}},
    }  # fmt: skip
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    loaded = policy.Policy.default(description=tmp_path / "openapi.json", upstream="http://127.0.0.1:9000")
    found = policy.lint(loaded, spec.load(loaded.api.description))
    assert [finding.check for finding in found] == ["string-unconstrained"]


@pytest.mark.parametrize(
    ("error", "check"), [(PolicyError, "policy-invalid"), (DescriptionError, "description-invalid")]
)
def test_a_file_that_cannot_be_used_is_a_finding(error: type[InputError], check: str) -> None:
    found = policy.unusable(error("it is wrong", location=Location("file", 2, 3), hint="mend it"))
    assert (found.check, found.level, found.message, found.hint) == (check, "error", "it is wrong", "mend it")
    assert found.location == Location("file", 2, 3)
    assert policy.unusable(error("it is wrong")).hint


def test_every_check_has_a_case() -> None:
    unusable = {"policy-invalid", "description-invalid"}
    assert {check.id for check in CHECKS} == {case[0] for case in CASES} | unusable


def test_sarif_names_rules_places_and_levels(tmp_path: Path) -> None:
    found = run(tmp_path, prop({"type": "string"}), sections="layers: {authenticate: off}\n")
    log = json.loads(json.dumps(findings.to_sarif(found, CHECKS)))
    (run_,) = log["runs"]
    assert log["version"] == "2.1.0"
    rules = run_["tool"]["driver"]["rules"]
    for result, finding in zip(run_["results"], found, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.check
        assert result["level"] == finding.level
        assert finding.message in result["message"]["text"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] == finding.location.line
    assert [result["level"] for result in run_["results"]] == ["error", "note"]


def test_sarif_needs_no_registry() -> None:
    finding = Finding("own-check", "medium", "firm", "something", "do something")
    log = findings.to_sarif([finding, finding])
    assert log["runs"][0]["tool"]["driver"]["rules"] == [{"id": "own-check"}]
    assert "locations" not in log["runs"][0]["results"][0]
    assert finding.as_json() == {
        "check": "own-check", "severity": "medium", "level": "warning", "confidence": "firm", "message": "something",
        "hint": "do something",
    }  # fmt: skip
