"""What the description and the policy ask of tokens: `acr`, `max_age`, proofs, one operation's internal tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from compiler_workshop import document

from stockade.enforcement.engine import Engine
from stockade.errors import PolicyError

if TYPE_CHECKING:
    from compiler_workshop import Workshop

OK = {"200": {"description": ""}}
OAUTH = {
    "securitySchemes": {
        "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/t", "scopes": {"read": ""}}}}
    }
}


def described(operation: dict[str, Any], **root: Any) -> dict[str, Any]:
    secured = {"security": [{"oauth": ["read"]}], "responses": OK, **operation}
    public = {"security": [], "responses": OK}
    return document({"/a": {"get": secured, "post": public}}, components=OAUTH, **root)


def operation(entries: list[dict[str, Any]], method: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["method"] == method)


def test_an_operation_asks_for_an_acr_and_a_recent_sign_in(workshop: Workshop) -> None:
    asked = {"acr": ["mfa", "phr"], "max_age": 300, "internal_token": "operation"}
    built = workshop.compile(described({"x-stockade": asked}))
    entry = operation(built.payload["operations"], "GET")
    assert (entry["acr"], entry["max_age_seconds"], entry["internal_token"]) == (["mfa", "phr"], 300, "operation")
    assert "acr mfa or phr, signed in at most 300 s ago" in built.compiled.coverage.render_text()
    assert not any(note.kind == "not_enforced_yet" for note in built.compiled.coverage.operations[0].notes)
    assert Engine.from_payload(built.compiled.payload).self_check().operations == 2


def test_without_a_word_nothing_is_asked(workshop: Workshop) -> None:
    entry = operation(workshop.compile(described({})).payload["operations"], "GET")
    assert (entry["acr"], entry["max_age_seconds"], entry["internal_token"]) == ([], None, "shared")


def test_a_word_for_all_operations_leaves_public_ones_public(workshop: Workshop) -> None:
    built = workshop.compile(described({}, **{"x-stockade": {"acr": "mfa"}}))
    entries = built.payload["operations"]
    assert operation(entries, "GET")["acr"] == ["mfa"]
    assert operation(entries, "POST")["acr"] == []


@pytest.mark.parametrize("word", [{"acr": "mfa"}, {"max_age": 60}])
@pytest.mark.parametrize("security", [[], [{}], [{"oauth": ["read"]}, {}]])
def test_a_public_operation_cannot_ask_how_its_caller_signed_in(
    workshop: Workshop, word: dict[str, Any], security: list[Any]
) -> None:
    with pytest.raises(PolicyError, match="open to all") as raised:
        workshop.compile(described({"security": security, "x-stockade": word}))
    assert raised.value.location is not None
    assert raised.value.location.pointer == f"/paths/~1a/get/x-stockade/{next(iter(word))}"


@pytest.mark.parametrize("acr", ["two words", 'a"b', "a\\b", "", "ü"])
def test_what_no_challenge_can_say_is_no_acr(workshop: Workshop, acr: str) -> None:
    with pytest.raises(PolicyError, match="acr"):
        workshop.compile(described({"x-stockade": {"acr": acr}}))


def test_the_policy_gives_every_operation_tokens_of_its_own(workshop: Workshop) -> None:
    policy = workshop.policy(identity={"internal_token": "operation"})
    shared = described({"x-stockade": {"internal_token": "shared"}})
    entries = workshop.compile(shared, policy).payload["operations"]
    assert operation(entries, "GET")["internal_token"] == "shared"
    assert operation(entries, "POST")["internal_token"] == "operation"


def test_proofs_may_name_the_gate_by_its_audience_and_its_hosts(workshop: Workshop) -> None:
    policy = workshop.policy(
        identity={"audience": "https://api.example.com/v1", "dpop": {"nonce": False, "max_age_seconds": 30}},
        listen={"address": "0.0.0.0:9443"},
    )
    dpop = workshop.compile(described({}), policy).payload["authentication"]["dpop"]
    assert dpop == {"origins": ["https://api.example.com"], "nonce": False, "max_age_seconds": 30}


def test_an_outside_issuer_has_its_own_order_of_assurance(workshop: Workshop) -> None:
    outside = {"issuer": "https://idp.example.com", "external": {"acr_order": ["bronze", "gold"]}}
    compiled = workshop.compile(described({}), workshop.policy(identity=outside))
    assert compiled.payload["authentication"]["acr_order"] == ["bronze", "gold"]
