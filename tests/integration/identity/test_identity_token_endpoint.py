"""`POST /oauth2/token`."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from identity_support import AUDIENCE, ask, basic, credentials, introspect, token_for

from stockade.identity import admin
from stockade.identity.credentials import Kind, kind_of

if TYPE_CHECKING:
    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return server.client("token-endpoint", ("orders:read", "orders:write", "undeclared"))


def test_client_credentials_give_an_opaque_token(outside: httpx.Client, client: CreatedClient) -> None:
    answer = ask(outside, client, scope="orders:read")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert kind_of(body.pop("access_token")) is Kind.ACCESS_TOKEN
    assert body == {"token_type": "Bearer", "expires_in": 600, "scope": "orders:read"}


def test_without_scope_all_declared_scopes_of_the_client_are_granted(
    outside: httpx.Client, client: CreatedClient
) -> None:
    assert ask(outside, client).json()["scope"] == "orders:read orders:write"


def test_empty_parameters_count_as_absent(outside: httpx.Client, client: CreatedClient) -> None:
    assert ask(outside, client, scope="", resource="").json()["scope"] == "orders:read orders:write"


@pytest.mark.parametrize("scope", ["admin", "undeclared", "orders:read admin", "orders:read  orders:write", 'a"b', "ü"])
def test_scope_beyond_what_is_granted_is_refused_whole(
    outside: httpx.Client, client: CreatedClient, scope: str
) -> None:
    answer = ask(outside, client, scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_resource_selects_the_audience(outside: httpx.Client, gateway: httpx.Client, client: CreatedClient) -> None:
    token = token_for(outside, client, resource="https://other.example")
    assert introspect(gateway, token) == {"active": False}
    assert introspect(gateway, token, resource="https://other.example")["aud"] == "https://other.example"


def test_unknown_resource_is_refused(outside: httpx.Client, client: CreatedClient) -> None:
    answer = ask(outside, client, resource="https://elsewhere.example")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "invalid_request"),
        ("scope=orders:read", "invalid_request"),
        ("grant_type=password&username=a&password=b", "unsupported_grant_type"),
        ("grant_type=implicit&code=x", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unauthorized_client"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=&scope=orders:read", "invalid_request"),
        ("grant_type=client_credentials&resource=a&resource=b", "invalid_request"),
        ("grant_type=client_credentials&x=%00", "invalid_request"),
        ("grant_type=client_credentials&x=%ff", "invalid_request"),
        ("grant_type=client_credentials&novalue", "invalid_request"),
        ("&".join(f"p{n}=1" for n in range(40)), "invalid_request"),
    ],
)
def test_malformed_requests_get_their_oauth_error(
    outside: httpx.Client, client: CreatedClient, body: str, error: str
) -> None:
    headers = {**credentials(client), "Content-Type": "application/x-www-form-urlencoded"}
    answer = outside.post("/oauth2/token", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded; charset=utf-16", None]
)
def test_only_a_form_is_read(outside: httpx.Client, client: CreatedClient, content_type: str | None) -> None:
    headers = credentials(client) | ({"Content-Type": content_type} if content_type else {})
    answer = outside.post("/oauth2/token", content="grant_type=client_credentials", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_parameters_in_the_query_are_refused(outside: httpx.Client, client: CreatedClient) -> None:
    form = {"grant_type": "client_credentials"}
    answer = outside.post("/oauth2/token?scope=orders:read", data=form, headers=credentials(client))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_large_bodies_are_refused(outside: httpx.Client, client: CreatedClient) -> None:
    form = {"grant_type": "client_credentials", "x": "y" * 40_000}
    answer = outside.post("/oauth2/token", data=form, headers=credentials(client))
    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")


def test_get_is_not_allowed(outside: httpx.Client) -> None:
    answer = outside.get("/oauth2/token")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("path", ["/", "/oauth2", "/oauth2/token/", "/internal/introspect", "/internal/health"])
def test_nothing_else_stands_on_the_public_listener(outside: httpx.Client, path: str) -> None:
    assert outside.post(path, data={"token": "x"}).status_code == 404


def test_wrong_secret_and_unknown_client_get_the_same_answer(
    outside: httpx.Client, server: Server, client: CreatedClient
) -> None:
    by_key = server.client("no-secret", auth_method="none")
    disabled = server.client("disabled-from-the-start")
    with server.storage() as storage:
        admin.disable_client(storage, disabled.client_id)
    form = {"grant_type": "client_credentials"}
    attempts = [
        basic(client.client_id, "stk_cs_wrong"),
        basic("c_nobody", "stk_cs_wrong"),
        basic(by_key.client_id, ""),
        credentials(disabled),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + b64encode(b"no colon").decode()},
        {"Authorization": "Basic " + b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Bearer abc"},
        {},
    ]
    answers = [outside.post("/oauth2/token", data=form, headers=headers) for headers in attempts]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["error"] == "invalid_client"
    assert all(answer.headers["www-authenticate"].startswith("Basic ") for answer in answers)


def test_basic_credentials_are_form_decoded(outside: httpx.Client, client: CreatedClient) -> None:
    """RFC 6749 §2.3.1: `%63` is `c`; base64 alone would not find the client."""
    assert client.client_secret
    text = f"%63{client.client_id[1:]}:{client.client_secret}"
    headers = {"Authorization": "basic " + b64encode(text.encode()).decode()}
    assert outside.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=headers).status_code == 200


@pytest.mark.parametrize("extra", [{"client_secret": "x"}, {"client_assertion": "x"}])
def test_two_methods_of_authentication_are_refused(
    outside: httpx.Client, client: CreatedClient, extra: dict[str, str]
) -> None:
    answer = ask(outside, client, **extra)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_secret_in_the_body_is_no_authentication(outside: httpx.Client, client: CreatedClient) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "client_secret": client.client_secret or "",
    }
    answer = outside.post("/oauth2/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_client_id_in_the_body_must_be_the_authenticated_one(outside: httpx.Client, client: CreatedClient) -> None:
    assert ask(outside, client, client_id=client.client_id).status_code == 200
    answer = ask(outside, client, client_id="c_other")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_introspection_tells_what_was_granted(
    outside: httpx.Client, gateway: httpx.Client, server: Server, client: CreatedClient
) -> None:
    answer = introspect(gateway, token_for(outside, client, scope="orders:write"), token_type_hint="access_token")
    assert answer["active"] is True
    assert answer["client_id"] == answer["sub"] == client.client_id
    assert (answer["scope"], answer["iss"], answer["aud"]) == ("orders:write", server.issuer, AUDIENCE)
    assert answer["exp"] - answer["iat"] == 600
    assert answer["token_type"] == "Bearer"
