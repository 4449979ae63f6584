"""What `stockade check` says of clients, and that it says it of those that exist."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade import findings
from stockade.identity.admin import ListedClient
from stockade.identity.client_lint import CHECKS, lint_clients
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.storage.clients import AuthMethod

LOOPBACK = "http://localhost:3000/cb"


def client(method: str = "client_secret_basic", disabled_at: int | None = None, **metadata: Any) -> ListedClient:
    return ListedClient(
        client_id="c_1",
        name="shop",
        auth_method=AuthMethod(method),
        scopes=tuple(metadata.pop("scopes", ("orders:read",))),
        created_at=0,
        disabled_at=disabled_at,
        api_keys=(),
        metadata=ClientMetadata(**metadata),
    )


def lint(*clients: ListedClient, profile: str = "oauth21", binding: str = "optional") -> list[str]:
    found = lint_clients(clients, ["orders:read", "openid"], profile=profile, token_binding=binding, location=None)
    assert all("`shop`" in finding.message and finding.hint for finding in found)
    return [finding.check for finding in found]


BOUND = {"dpop_bound_access_tokens": True}
CASES = [
    ("client-bearer", client(), client(**BOUND), "oauth21"),
    (
        "client-http-redirect",
        client(grant_types=("authorization_code",), redirect_uris=(LOOPBACK,), **BOUND),
        client(grant_types=("authorization_code",), redirect_uris=(LOOPBACK,), application_type="native", **BOUND),
        "oauth21",
    ),
    ("client-outside-profile", client(), client("private_key_jwt"), "fapi2"),
    ("client-outside-profile", client("none"), client("tls_client_auth"), "fapi2"),
    ("client-scope-unknown", client(scopes=["order:read"], **BOUND), client(scopes=["openid"], **BOUND), "oauth21"),
]


@pytest.mark.parametrize(("check", "bad", "good", "profile"), CASES)
def test_a_check_finds_the_bad_client_and_not_the_good_one(
    check: str, bad: ListedClient, good: ListedClient, profile: str
) -> None:
    assert lint(bad, profile=profile) == [check]
    assert lint(good, profile=profile) == []


def test_every_client_check_has_a_case() -> None:
    assert {check.id for check in CHECKS} == {case[0] for case in CASES}


def test_bearer_tokens_are_no_finding_where_the_rule_is_to_bind() -> None:
    assert lint(client(), binding="required") == []


def test_what_can_ask_for_no_token_or_is_disabled_is_passed_over() -> None:
    assert lint(client("none", grant_types=()), client(disabled_at=1)) == []


def test_sarif_takes_findings_without_a_place() -> None:
    found = lint_clients([client()], [], profile="oauth21", token_binding="optional", location=None)
    log = findings.to_sarif(found, CHECKS)
    assert json.dumps(log)
    assert log["runs"][0]["results"][0]["ruleId"] == "client-bearer"
