"""Introspection for resource servers (RFC 7662), plain and signed (RFC 9701), and by the wrong party."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from code_support import Someone, application, tokens_for
from dpop_support import DpopKey
from identity_support import AUDIENCE, basic, credentials, introspect, token_for

from stockade.identity import admin
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, generate
from stockade.identity.jose import import_public_keys, parse, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Server

    from stockade.identity.admin import CreatedClient

SIGNED = "application/token-introspection+jwt"
OTHER = "https://other.example"


def resource_server(server: Server, name: str, *audiences: str) -> CreatedClient:
    return server.client(name, (), metadata=ClientMetadata(grant_types=(), introspection_audiences=audiences))


@pytest.fixture(scope="module")
def api(server: Server) -> CreatedClient:
    return resource_server(server, "api", AUDIENCE)


@pytest.fixture(scope="module")
def app(server: Server) -> CreatedClient:
    return server.client("asks-for-tokens", ("orders:read", "orders:write"))


def look(
    http: httpx.Client, caller: CreatedClient, token: str, accept: str | None = None, **form: str
) -> httpx.Response:
    headers = credentials(caller) | ({"Accept": accept} if accept else {})
    return http.post("/oauth2/introspect", data={"token": token, **form}, headers=headers)


def told(http: httpx.Client, caller: CreatedClient, token: str, **form: str) -> dict[str, Any]:
    answer = look(http, caller, token, **form)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_a_resource_server_learns_what_a_token_is_worth(
    server: Server, outside: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    answer = look(outside, api, token_for(outside, app, scope="orders:read"))
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["active"] is True
    assert (body["client_id"], body["sub"], body["scope"]) == (app.client_id, app.client_id, "orders:read")
    assert (body["iss"], body["aud"], body["token_type"]) == (server.issuer, AUDIENCE, "Bearer")
    assert 0 < body["exp"] - time.time() <= 600
    assert "internal_token" not in body


def test_of_a_person_it_learns_who_and_how_sure_and_no_session(
    server: Server, outside: httpx.Client, api: CreatedClient
) -> None:
    client = application(server, "people-app")
    token = tokens_for(server, outside, client)["access_token"]
    body = told(outside, api, token)
    assert body["sub"].startswith("u_")
    assert body["acr"] == "pwd"
    assert not {"sid", "grant_id"} & body.keys()


def test_of_a_bound_token_it_learns_the_key(outside: httpx.Client, api: CreatedClient, app: CreatedClient) -> None:
    key = DpopKey()
    token = key.post(outside, "/oauth2/token", credentials(app), grant_type="client_credentials").json()["access_token"]
    body = told(outside, api, token)
    assert (body["token_type"], body["cnf"]) == ("DPoP", {"jkt": key.jkt})


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "unheard_of"])
def test_a_hint_is_no_more_than_a_hint(
    outside: httpx.Client, api: CreatedClient, app: CreatedClient, hint: str
) -> None:
    """RFC 7662 §2.1."""
    assert told(outside, api, token_for(outside, app), token_type_hint=hint)["active"] is True


# --- By the wrong party (RFC 7662 §4) ---


def test_tokens_for_another_audience_are_inactive_to_it(
    server: Server, outside: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    other = resource_server(server, "other-api", OTHER)
    both = resource_server(server, "both-apis", AUDIENCE, OTHER)
    token = token_for(outside, app, resource=OTHER)
    assert told(outside, api, token) == {"active": False}
    assert told(outside, other, token)["active"] is True
    assert told(outside, both, token)["aud"] == OTHER
    assert told(outside, other, token_for(outside, app)) == {"active": False}


def test_a_client_that_is_no_resource_server_learns_nothing_even_of_its_own(
    outside: httpx.Client, app: CreatedClient
) -> None:
    """A stolen token cannot be tried out by whoever has some client's credentials."""
    token = token_for(outside, app)
    own, nonsense = look(outside, app, token), look(outside, app, "x")
    assert error_of(own) == error_of(nonsense) == (403, "access_denied")
    assert own.text == nonsense.text


def test_without_authentication_nothing_is_said(
    server: Server, outside: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    token = token_for(outside, app)
    public = server.client(
        "public-api",
        (),
        auth_method="none",
        metadata=ClientMetadata(grant_types=(), introspection_audiences=(AUDIENCE,)),
    )
    attempts: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({}, {"Authorization": f"Bearer {token}"}),
        ({}, basic(api.client_id, "wrong")),
        ({"client_id": api.client_id}, {}),
        ({"client_id": public.client_id}, {}),
    ]
    for form, headers in attempts:
        answer = outside.post("/oauth2/introspect", data={"token": token, **form}, headers=headers)
        assert error_of(answer) == (401, "invalid_client")


def test_refresh_tokens_are_never_active(server: Server, outside: httpx.Client, api: CreatedClient) -> None:
    client = application(server, "refreshes")
    someone = Someone(server, outside)
    tokens = tokens_for(server, outside, client, someone, scope="openid offline_access orders:read")
    assert told(outside, api, tokens["refresh_token"]) == {"active": False}
    assert told(outside, api, tokens["refresh_token"], token_type_hint="refresh_token") == {"active": False}


@pytest.mark.parametrize("kind", [*Kind, None])
def test_whatever_is_no_living_access_token_is_inactive(
    outside: httpx.Client, api: CreatedClient, kind: Kind | None
) -> None:
    assert told(outside, api, "eyJhbGciOiJub25lIn0.e30." if kind is None else generate(kind)) == {"active": False}


def test_api_keys_are_the_gates_to_judge(server: Server, outside: httpx.Client, api: CreatedClient) -> None:
    keyed = server.client("keyed", api_key=True)
    assert keyed.api_key is not None
    assert told(outside, api, keyed.api_key.api_key) == {"active": False}


def test_a_revoked_token_is_inactive_at_once(
    server: Server, outside: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    token = token_for(outside, app)
    with server.storage() as storage:
        admin.revoke_token(storage, token)
    assert told(outside, api, token) == {"active": False}


def test_a_disabled_clients_tokens_are_inactive(server: Server, outside: httpx.Client, api: CreatedClient) -> None:
    client = server.client("soon-disabled")
    token = token_for(outside, client)
    with server.storage() as storage:
        admin.disable_client(storage, client.client_id)
    assert told(outside, api, token) == {"active": False}


def test_a_resource_server_must_name_a_token(outside: httpx.Client, api: CreatedClient) -> None:
    assert error_of(look(outside, api, "")) == (400, "invalid_request")


# --- Signed (RFC 9701) ---


def test_the_signed_answer_is_for_the_caller_and_by_us(
    server: Server, outside: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    answer = look(outside, api, token_for(outside, app), SIGNED)
    assert answer.headers["content-type"] == SIGNED
    assert answer.headers["cache-control"] == "no-store"
    token = parse(answer.text)
    verify(token, import_public_keys(outside.get("/oauth2/jwks").json()), ("ES256",))
    assert token.typ == "token-introspection+jwt"
    claims = dict(token.claims)
    assert claims.keys() == {"iss", "aud", "iat", "token_introspection"}
    assert (claims["iss"], claims["aud"]) == (server.issuer, api.client_id)
    assert abs(claims["iat"] - time.time()) < 5
    assert claims["token_introspection"]["active"] is True
    assert claims["token_introspection"]["client_id"] == app.client_id


def test_an_inactive_answer_is_signed_too_and_says_no_more(outside: httpx.Client, api: CreatedClient) -> None:
    claims = parse(look(outside, api, generate(Kind.ACCESS_TOKEN), SIGNED).text).claims
    assert claims["token_introspection"] == {"active": False}


@pytest.mark.parametrize(
    ("accept", "signed"),
    [
        (SIGNED, True),
        (f"application/json, {SIGNED};q=0.5", True),
        (SIGNED.upper(), True),
        ("application/json", False),
        ("*/*", False),
        (f"{SIGNED};q=0", False),
        (f"{SIGNED}; q=0.000", False),
        ("application/jwt", False),
    ],
)
def test_who_asks_for_it_gets_it_signed(
    outside: httpx.Client, api: CreatedClient, app: CreatedClient, accept: str, signed: bool
) -> None:
    answer = look(outside, api, token_for(outside, app), accept)
    assert (answer.headers["content-type"] == SIGNED) is signed


def test_a_signed_answer_is_no_access_token_and_no_assertion(
    server: Server, outside: httpx.Client, gateway: httpx.Client, api: CreatedClient, app: CreatedClient
) -> None:
    """It is signed by the same key as tokens are; `typ` and the place of its claims keep it apart."""
    text = look(outside, api, token_for(outside, app), SIGNED).text
    assert introspect(gateway, text) == {"active": False}
    assert told(outside, api, text) == {"active": False}
    assert outside.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {text}"}).status_code == 401
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": text,
    }
    assert error_of(outside.post("/oauth2/token", data=form)) == (401, "invalid_client")
    hint = {"id_token_hint": text, "post_logout_redirect_uri": "https://app.example/bye"}
    assert "app.example" not in outside.get("/oauth2/logout", params=hint).headers.get("location", "")


def test_the_metadata_name_the_endpoint_and_how_to_prove_oneself(server: Server, outside: httpx.Client) -> None:
    document = outside.get("/.well-known/oauth-authorization-server").json()
    assert document["introspection_endpoint"] == f"{server.issuer}/oauth2/introspect"
    assert "none" not in document["introspection_endpoint_auth_methods_supported"]
    assert document["introspection_signing_alg_values_supported"] == ["ES256"]


def test_without_signing_keys_there_is_no_answer_rather_than_an_unsigned_one(
    make_server: Callable[..., Server],
) -> None:
    from sqlalchemy import delete

    from stockade.identity.storage.schema import signing_keys

    with make_server() as server, server.outside() as http:
        api, app = resource_server(server, "api", AUDIENCE), server.client("app")
        token = token_for(http, app)
        with server.storage() as storage, storage.write() as connection:
            connection.execute(delete(signing_keys))
        deadline = time.monotonic() + 10
        while look(http, api, token, SIGNED).status_code != 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert look(http, api, token, SIGNED).status_code == 503
        assert told(http, api, token)["active"] is True
