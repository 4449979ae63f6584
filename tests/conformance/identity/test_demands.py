"""Demands of standards that no client and no plan asks for, against the running product."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from judge_rp import Rp, unverified

if TYPE_CHECKING:
    from judge_stand import Stand

CALLBACK = "https://demands.example/callback"


@pytest.mark.standard("OIDC Core §8 (1)", "RFC 9068 §2.2 (1)", "RFC 9068 §2.2 (2)", "RFC 9068 §2.2.1 (1)",
                      "RFC 9068 §2.2.3 (1)")  # fmt: skip
def test_the_api_learns_who_it_is_and_nobody_is_taken_for_another(stand: Stand) -> None:
    first, second = (Rp(stand, stand.web_client(CALLBACK), CALLBACK, scope="openid orders:read") for _ in range(2))
    subjects: dict[str, set[str]] = {}
    for name in ("carol", "dave"):
        for rp in (first, second):
            with stand.person(name) as person:
                tokens = rp.sign_in(person)
            subjects.setdefault(name, set()).add(rp.id_token(tokens["id_token"])[1]["sub"])
            claims = seen_by_the_api(stand, tokens["access_token"])
            assert claims["sub"] in subjects[name]
            assert claims["client_id"] == rp.client_id
            assert abs(claims["auth_time"] - time.time()) < 60
            assert (claims["acr"], claims["amr"]) == ("pwd", ["pwd"])
            assert claims["scope"].split() == ["openid", "orders:read"]
            assert {"iss", "exp", "aud", "iat", "jti"} <= claims.keys()
    assert [len(each) for each in subjects.values()] == [1, 1]
    assert not subjects["carol"] & subjects["dave"]
    program = seen_by_the_api(stand, stand.stack.token("orders:read"))
    assert program["sub"] == program["client_id"]
    assert program["sub"].startswith("c_")
    assert all(subject.startswith("u_") for each in subjects.values() for subject in each)


def seen_by_the_api(stand: Stand, token: str) -> dict[str, object]:
    """The claims of the token that the API gets instead of the caller's."""
    with stand.stack.http() as http:
        assert http.get("/orders", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    internal = stand.upstream.seen[-1].header("authorization") or ""
    return unverified(internal.removeprefix("Bearer "))


@pytest.mark.standard("RFC 9728 §2 (1)", "RFC 9728 §3.2 (1)", "RFC 9728 §3.3 (1)")
def test_resource_metadata_is_whole_and_of_this_resource(stand: Stand) -> None:
    with stand.stack.http() as http:
        answer = http.get("/.well-known/oauth-protected-resource")
    assert answer.headers["content-type"].startswith("application/json")
    found = answer.json()
    assert found["resource"] == stand.stack.url
    assert found["authorization_servers"] == [stand.issuer]
    assert all(value not in ([], "", None) for value in found.values())


@pytest.mark.standard("FAPI 2.0 §5.2.2 (1)", "RFC 9700 §4.2.4 (1)")
def test_pages_are_for_https_alone_and_tell_nobody_where_they_are(stand: Stand) -> None:
    rp = Rp(stand, stand.web_client(CALLBACK), CALLBACK)
    with stand.person() as person:
        page = person.page(rp.url(rp.parameters()))
    assert "max-age=" in page.headers["strict-transport-security"]
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.standard("RFC 6749 §5.2 (1)", "RFC 6749 §5.2 (2)")
def test_a_client_that_failed_by_header_is_challenged(stand: Stand) -> None:
    with stand.http() as http:
        answer = http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=("c_nobody", "nothing"))
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.standard("RFC 8707 §2 (1)", "RFC 8707 §2 (2)")
@pytest.mark.parametrize("resource", ["orders", "/orders", "https://elsewhere.example", "fragment"])
def test_a_resource_that_is_none_is_refused(stand: Stand, resource: str) -> None:
    wanted = f"{stand.audience}#part" if resource == "fragment" else resource
    rp = Rp(stand, stand.web_client(CALLBACK), CALLBACK)
    with stand.person() as person:
        assert rp.authorize(person, resource=wanted).error == "invalid_target"


@pytest.mark.standard("RFC 6750 §2 (1)")
def test_two_tokens_in_one_request_are_refused(stand: Stand) -> None:
    token = stand.stack.token("orders:read")
    header = ("Authorization", f"Bearer {token}")
    with stand.stack.http() as http:
        assert http.get("/orders", headers=[header, header]).status_code == 400
        assert http.get("/orders", headers=[header], params={"access_token": token}).status_code == 400
