"""`POST /internal/introspect`, and the internal token that it mints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from identity_support import AUDIENCE, UPSTREAM, ask, introspect, token_for

from stockade.identity import admin
from stockade.identity.credentials import Kind, generate
from stockade.identity.jose import import_public_keys, parse, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return server.client("introspected", api_key=True)


def test_internal_token_is_an_access_token_for_the_upstream(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    answer = introspect(gateway, token_for(outside, client))
    token = parse(answer["internal_token"])
    verify(token, import_public_keys(outside.get("/oauth2/jwks").json()), ["ES256"])
    claims = token.claims
    assert token.typ == "at+jwt"
    assert (claims["iss"], claims["aud"]) == (server.issuer, UPSTREAM)
    assert claims["sub"] == claims["client_id"] == client.client_id
    assert claims["scope"] == "orders:read"
    assert claims["exp"] == answer["internal_token_exp"] <= time.time() + 120
    assert {"iat", "jti"} <= claims.keys()


def test_internal_token_never_outlives_the_access_token(make_server: Callable[..., Server]) -> None:
    with (
        make_server(lifetimes={"access_token_seconds": 30}) as server,
        server.outside() as http,
        server.gateway() as gateway,
    ):
        answer = introspect(gateway, token_for(http, server.client("short")))
        assert answer["internal_token_exp"] == answer["exp"]


def test_each_introspection_mints_its_own_token(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    first, second = (parse(introspect(gateway, token)["internal_token"]).claims["jti"] for _ in range(2))
    assert first != second


def test_an_expired_token_is_inactive(make_server: Callable[..., Server]) -> None:
    with (
        make_server(lifetimes={"access_token_seconds": 10}) as server,
        server.outside() as http,
        server.gateway() as gateway,
    ):
        token = token_for(http, server.client("short"))
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql("UPDATE access_tokens SET expires_at = expires_at - 11")
        assert introspect(gateway, token) == {"active": False}


def test_malformed_and_unknown_credentials_are_inactive(gateway: httpx.Client, client: CreatedClient) -> None:
    unknown = generate(Kind.ACCESS_TOKEN)
    wrong_checksum = unknown[:-1] + ("A" if unknown[-1] != "A" else "B")
    for text in (unknown, wrong_checksum, "x", "a.b.c", "stk_at_", client.client_secret or "", "ü", "' OR 1=1 --"):
        assert introspect(gateway, text) == {"active": False}


def test_an_api_key_is_active_with_its_scopes(server: Server, gateway: httpx.Client, client: CreatedClient) -> None:
    assert client.api_key is not None
    answer = introspect(gateway, client.api_key.api_key, token_type_hint="api_key")
    assert answer["active"] is True
    assert (answer["client_id"], answer["scope"], answer["iss"]) == (client.client_id, "orders:read", server.issuer)
    assert (answer["token_type"], answer["exp"], answer["aud"]) == ("api_key", None, AUDIENCE)
    assert answer["internal_token_exp"] <= time.time() + 120


def test_an_api_key_expires(server: Server, gateway: httpx.Client, client: CreatedClient) -> None:
    with server.storage() as storage:
        key = admin.create_api_key(storage, client.client_id, expires_in_seconds=1)
    assert introspect(gateway, key.api_key)["exp"] == key.expires_at
    time.sleep(1.1)
    assert introspect(gateway, key.api_key) == {"active": False}


def test_each_kind_of_credential_is_good_in_its_place_only(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    assert client.api_key is not None
    assert introspect(gateway, token_for(outside, client), token_type_hint="api_key") == {"active": False}
    assert introspect(gateway, client.api_key.api_key, token_type_hint="access_token") == {"active": False}


def test_resource_must_be_named_and_configured(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    assert client.api_key is not None
    for text in (token, client.api_key.api_key):
        assert introspect(gateway, text, resource="https://elsewhere.example") == {"active": False}
    answer = gateway.post("/internal/introspect", data={"token": token})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "form", [{"resource": AUDIENCE}, {"token": "x", "resource": AUDIENCE, "token_type_hint": "refresh_token"}]
)
def test_malformed_questions_are_refused(gateway: httpx.Client, form: dict[str, str]) -> None:
    assert gateway.post("/internal/introspect", data=form).status_code == 400


def test_a_disabled_client_has_nothing(server: Server, outside: httpx.Client, gateway: httpx.Client) -> None:
    client = server.client("to-disable", api_key=True)
    assert client.api_key is not None
    token = token_for(outside, client)
    with server.storage() as storage:
        admin.disable_client(storage, "to-disable")
        assert introspect(gateway, token) == introspect(gateway, client.api_key.api_key) == {"active": False}
        assert ask(outside, client).status_code == 401
        admin.enable_client(storage, "to-disable")
    assert introspect(gateway, token) == {"active": False}
    assert introspect(gateway, client.api_key.api_key)["active"] is True
    assert introspect(gateway, token_for(outside, client))["active"] is True


def test_rotating_a_secret_keeps_tokens_and_honours_the_overlap(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    client = server.client("to-rotate")
    token = token_for(outside, client)
    with server.storage() as storage:
        second = admin.rotate_client_secret(storage, client.client_id, overlap_seconds=60)
        assert ask(outside, client).status_code == 200
        third = admin.rotate_client_secret(storage, client.client_id)
    statuses = [_status_with(outside, client, secret) for secret in (client.client_secret, second, third)]
    assert statuses == [401, 401, 200]
    assert introspect(gateway, token)["active"] is True


def test_an_overlap_ends(server: Server, outside: httpx.Client) -> None:
    client = server.client("overlap-ends")
    with server.storage() as storage:
        admin.rotate_client_secret(storage, client.client_id, overlap_seconds=1)
    assert ask(outside, client).status_code == 200
    time.sleep(1.1)
    assert ask(outside, client).status_code == 401


def _status_with(http: httpx.Client, client: CreatedClient, secret: str | None) -> int:
    from identity_support import basic

    headers = basic(client.client_id, secret or "")
    return http.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=headers).status_code
