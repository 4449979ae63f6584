"""Canaries and tokens of one operation at the internal listener (docs/contracts.md §3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from identity_support import AUDIENCE, introspect, token_for

from stockade.identity.credentials import Kind, generate
from stockade.identity.jose import parse

if TYPE_CHECKING:
    import httpx
    from identity_support import Server


def canary(gateway: httpx.Client) -> str:
    answer = gateway.post("/internal/canary")
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] == 120
    token: str = answer.json()["token"]
    return token


def test_a_canary_is_a_token_without_scope_until_it_is_revoked(gateway: httpx.Client) -> None:
    token = canary(gateway)
    answer = introspect(gateway, token)
    assert (answer["active"], answer["scope"], answer["aud"]) == (True, "", AUDIENCE)
    assert answer["client_id"] == answer["sub"]
    done = gateway.post("/internal/canary/revoke", data={"token": token})
    assert done.status_code == 200
    assert abs(done.json()["revoked_at"] - time.time()) < 5
    assert introspect(gateway, token) == {"active": False}
    assert gateway.post("/internal/canary/revoke", data={"token": token}).status_code == 200


def test_a_canary_s_revocation_is_told_like_any_other(gateway: httpx.Client) -> None:
    before = gateway.get("/internal/revocations").json()
    token = canary(gateway)
    gateway.post("/internal/canary/revoke", data={"token": token})
    where = {"after": before["sequence"], "epoch": before["epoch"], "wait": "5"}
    kinds = [each["kind"] for each in gateway.get("/internal/revocations", params=where).json()["revocations"]]
    assert kinds == ["token"]


def test_nothing_but_a_canary_can_be_revoked_as_one(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    token = token_for(outside, server.client("not-a-bird"))
    for text in (token, generate(Kind.ACCESS_TOKEN), "x"):
        assert gateway.post("/internal/canary/revoke", data={"token": text}).status_code == 400
    assert introspect(gateway, token)["active"] is True


def test_canaries_are_the_gateway_s_alone(outside: httpx.Client) -> None:
    for path in ("/internal/canary", "/internal/canary/revoke"):
        assert outside.post(path, data={"token": "x"}).status_code == 404


def test_an_internal_token_can_be_for_one_operation_and_seconds(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    token = token_for(outside, server.client("operating"))
    fields = {"token": token, "token_type_hint": "access_token", "resource": AUDIENCE}
    bound = gateway.post("/internal/introspect", data={**fields, "operation": "GET /orders/{id}"}).json()
    claims = parse(bound["internal_token"]).claims
    assert claims["operation"] == "GET /orders/{id}"
    assert claims["exp"] == bound["internal_token_exp"] <= claims["iat"] + 10
    shared = parse(introspect(gateway, token)["internal_token"]).claims
    assert "operation" not in shared
    assert shared["exp"] > claims["exp"]
