"""Token exchange (RFC 8693): always less than before, and only for who rightfully holds the token."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dpop_support import DpopKey
from identity_support import AUDIENCE, credentials, introspect, token_for
from signed_in_support import make_person
from sqlalchemy import update

from stockade.identity import admin
from stockade.identity.binding import Binding
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.schema import access_tokens, users
from stockade.identity.storage.tokens import NOBODY, NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from identity_support import Server

    from stockade.identity.admin import CreatedClient
    from stockade.identity.storage.tokens import Authorization

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
OTHER = "https://other.example"
SCOPES = ("orders:read", "orders:write")


def service(server: Server, name: str, scopes: tuple[str, ...] = SCOPES, **metadata: Any) -> CreatedClient:
    """A service that may exchange; by default it is the resource server of AUDIENCE and may call OTHER."""
    described = {
        "grant_types": ("client_credentials", GRANT),
        "introspection_audiences": (AUDIENCE,),
        "exchange_audiences": (OTHER,),
        **metadata,
    }
    return server.client(name, scopes, metadata=ClientMetadata.model_validate(described))


@pytest.fixture(scope="module")
def app(server: Server) -> CreatedClient:
    return server.client("app", SCOPES)


@pytest.fixture(scope="module")
def backend(server: Server) -> CreatedClient:
    return service(server, "backend")


def give(
    server: Server,
    client: CreatedClient,
    who: Authorization = NOBODY,
    scopes: tuple[str, ...] = SCOPES,
    audience: str = AUDIENCE,
    binding: Binding | None = None,
    life: int = 300,
) -> str:
    """A token as another grant would have issued it."""
    text, now = generate(Kind.ACCESS_TOKEN), int(time.time())
    row = NewAccessToken(
        digest(text), f"jti-{text[-12:]}", client.client_id, 0, scopes, audience, now, now + life, binding, who
    )
    with server.storage() as storage, storage.write() as connection:
        insert_access_token(connection, row)
    return text


def person(server: Server) -> Authorization:
    with server.storage() as storage:
        return make_person(storage)


def form_for(token: str, **fields: str) -> dict[str, str]:
    return {"grant_type": GRANT, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **fields}


def exchange(http: httpx.Client, client: CreatedClient, token: str, **fields: str) -> httpx.Response:
    form = {"audience": OTHER, **form_for(token, **fields)}
    return http.post(
        "/oauth2/token", data={name: value for name, value in form.items() if value}, headers=credentials(client)
    )


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error")


def test_a_resource_server_calls_on_in_the_users_name(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    who = person(server)
    answer = exchange(outside, backend, give(server, app, who, life=100), scope="orders:read")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["issued_token_type"] == ACCESS_TOKEN
    assert body["expires_in"] <= 100
    assert "refresh_token" not in body
    known = introspect(gateway, body["access_token"], resource=OTHER)
    assert (known["sub"], known["client_id"]) == (who.user_id, backend.client_id)
    assert (known["scope"], known["aud"]) == ("orders:read", OTHER)
    assert known["act"] == {"sub": backend.client_id}


def test_a_client_narrows_its_own_token_for_the_same_audience(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    client = service(server, "narrower", introspection_audiences=(), exchange_audiences=())
    answer = exchange(outside, client, token_for(outside, client), audience="", scope="orders:read")
    known = introspect(gateway, answer.json()["access_token"])
    assert (known["sub"], known["scope"]) == (client.client_id, "orders:read")
    assert "act" not in known


def test_scopes_beyond_the_subject_token_are_refused(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    token = give(server, app, person(server), scopes=("orders:read",))
    assert error_of(exchange(outside, backend, token, scope="orders:read orders:write")) == (400, "invalid_scope")
    assert exchange(outside, backend, token).json()["scope"] == "orders:read"


def test_a_service_gets_no_scope_that_it_is_not_registered_for(
    server: Server, outside: httpx.Client, app: CreatedClient
) -> None:
    small = service(server, "small-backend", ("orders:read",))
    token = give(server, app, person(server))
    assert exchange(outside, small, token).json()["scope"] == "orders:read"
    assert error_of(exchange(outside, small, token, scope="orders:write")) == (400, "invalid_scope")
    only_write = give(server, app, person(server), scopes=("orders:write",))
    assert error_of(exchange(outside, small, only_write)) == (400, "invalid_scope")


def test_an_exchanged_token_lives_no_longer_than_the_one_it_came_from(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient
) -> None:
    """Nor can it be kept alive by exchanging it again and again."""
    both = service(server, "again", introspection_audiences=(AUDIENCE, OTHER), exchange_audiences=(AUDIENCE, OTHER))
    token = give(server, app, person(server), life=60)
    exp = introspect(gateway, token)["exp"]
    for _ in range(3):
        token = exchange(outside, both, token, audience=AUDIENCE).json()["access_token"]
        assert introspect(gateway, token)["exp"] <= exp


def test_a_leaked_token_cannot_be_traded_by_a_client_it_was_not_sent_to(
    server: Server, outside: httpx.Client, app: CreatedClient
) -> None:
    stranger = service(server, "stranger", introspection_audiences=(OTHER,), exchange_audiences=(AUDIENCE, OTHER))
    assert error_of(exchange(outside, stranger, give(server, app, person(server)))) == (400, "invalid_request")


@pytest.mark.parametrize("target", [{"audience": AUDIENCE}, {"audience": "https://x.example"}, {"audience": ""}])
def test_a_confused_deputy_cannot_reach_an_audience_that_is_not_registered_for_it(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient, target: dict[str, str]
) -> None:
    """Not even the subject token's own: a service gets no token to call itself as the user."""
    answer = exchange(outside, backend, give(server, app, person(server)), **target)
    assert error_of(answer) == (400, "invalid_target")


def test_two_targets_are_refused(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    token = give(server, app, person(server))
    assert error_of(exchange(outside, backend, token, resource=AUDIENCE)) == (400, "invalid_target")
    assert exchange(outside, backend, token, resource=OTHER).status_code == 200


def test_a_client_cannot_take_over_another_clients_own_token(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    """Without a user the subject is the other client, which no token of this one may speak for."""
    assert error_of(exchange(outside, backend, token_for(outside, app))) == (400, "invalid_request")


@pytest.mark.parametrize("end", ["expired", "revoked", "user", "client"])
def test_a_dead_token_gives_nothing(server: Server, outside: httpx.Client, backend: CreatedClient, end: str) -> None:
    client, who = server.client(f"ended-app-{end}", SCOPES), person(server)
    token = give(server, client, who, life=-1 if end == "expired" else 300)
    with server.storage() as storage:
        if end == "revoked":
            assert admin.revoke_token(storage, token)
        elif end == "client":
            admin.disable_client(storage, client.client_id)
        elif end == "user":
            with storage.write() as connection:
                connection.execute(update(users).where(users.c.user_id == who.user_id).values(generation=9))
    assert error_of(exchange(outside, backend, token)) == (400, "invalid_request")


def test_a_bound_token_is_exchanged_only_with_its_key(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    client = service(server, "bound-holder", introspection_audiences=())
    key, thief = DpopKey(), DpopKey()
    token = give(server, client, person(server), binding=Binding("jkt", key.jkt))
    form = {**form_for(token), "audience": OTHER}
    assert error_of(exchange(outside, client, token)) == (400, "invalid_request")
    assert error_of(thief.post(outside, "/oauth2/token", credentials(client), **form)) == (400, "invalid_request")
    answer = key.post(outside, "/oauth2/token", credentials(client), **form)
    assert introspect(gateway, answer.json()["access_token"], resource=OTHER)["cnf"] == {"jkt": key.jkt}


def test_a_bound_token_never_becomes_a_bearer_token(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    """A resource server cannot prove the sender's key; it proves its own, to which the new token is bound."""
    token, own = give(server, app, person(server), binding=Binding("jkt", DpopKey().jkt)), DpopKey()
    assert error_of(exchange(outside, backend, token)) == (400, "invalid_request")
    answer = own.post(outside, "/oauth2/token", credentials(backend), **form_for(token, audience=OTHER))
    assert introspect(gateway, answer.json()["access_token"], resource=OTHER)["cnf"] == {"jkt": own.jkt}


def chain_of(*names: str) -> dict[str, Any] | None:
    chain: dict[str, Any] | None = None
    for name in names:
        chain = {"sub": name} if chain is None else {"sub": name, "act": chain}
    return chain


def with_act(who: Authorization, act: dict[str, Any] | None) -> Authorization:
    from dataclasses import replace

    return replace(who, act=act)


def test_the_chain_of_actors_is_kept_newest_outside(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    token = give(server, app, with_act(person(server), chain_of("c_first", "c_second")))
    answer = exchange(outside, backend, token)
    known = introspect(gateway, answer.json()["access_token"], resource=OTHER)
    assert known["act"] == chain_of("c_first", "c_second", backend.client_id)


def test_the_chain_of_actors_does_not_grow_without_end(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    full = with_act(person(server), chain_of("c_1", "c_2", "c_3", "c_4"))
    assert error_of(exchange(outside, backend, give(server, app, full))) == (400, "invalid_request")


def test_two_services_cannot_exchange_in_a_loop(server: Server, outside: httpx.Client, app: CreatedClient) -> None:
    pair = [
        service(server, "loop-a"),
        service(server, "loop-b", introspection_audiences=(OTHER,), exchange_audiences=(AUDIENCE,)),
    ]
    token, answers = give(server, app, person(server)), []
    for turn in range(6):
        audience = (OTHER, AUDIENCE)[turn % 2]
        answer = exchange(outside, pair[turn % 2], token, audience=audience)
        answers.append(answer.status_code)
        if answer.status_code != 200:
            break
        token = answer.json()["access_token"]
    assert answers == [200, 200, 200, 200, 400]


def test_an_actor_token_names_who_acts(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    who, clerk = person(server), person(server)
    actor = give(server, backend, clerk)
    fields = {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
    answer = exchange(outside, backend, give(server, app, who), **fields)
    known = introspect(gateway, answer.json()["access_token"], resource=OTHER)
    assert (known["sub"], known["act"]) == (who.user_id, {"sub": clerk.user_id})


def test_an_actor_token_of_another_client_is_refused(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    fields = {"actor_token": give(server, app, person(server)), "actor_token_type": ACCESS_TOKEN}
    answer = exchange(outside, backend, give(server, app, person(server)), **fields)
    assert error_of(answer) == (400, "invalid_request")


def test_an_actor_token_that_is_bound_needs_its_key(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    key = DpopKey()
    actor = give(server, backend, person(server), binding=Binding("jkt", key.jkt))
    fields = {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
    subject = give(server, app, person(server))
    assert error_of(exchange(outside, backend, subject, **fields)) == (400, "invalid_request")
    form = form_for(subject, audience=OTHER, **fields)
    assert key.post(outside, "/oauth2/token", credentials(backend), **form).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"subject_token_type": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"actor_token_type": ACCESS_TOKEN},
        {"actor_token": "x"},
        {"subject_token": ""},
        {"subject_token": generate(Kind.REFRESH_TOKEN)},
        {"subject_token": generate(Kind.API_KEY)},
        {"subject_token": "eyJhbGciOiJub25lIn0.e30.x"},
    ],
    ids=str,
)
def test_other_tokens_and_types_are_refused(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient, fields: dict[str, str]
) -> None:
    token = give(server, app, person(server))
    assert error_of(exchange(outside, backend, token, **fields)) == (400, "invalid_request")


def test_an_exchanged_token_dies_with_the_grant_it_came_from(
    server: Server, outside: httpx.Client, gateway: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    who = person(server)
    exchanged = exchange(outside, backend, give(server, app, who)).json()["access_token"]
    assert introspect(gateway, exchanged, resource=OTHER)["active"]
    with server.storage() as storage, storage.write() as connection:
        connection.execute(update(users).where(users.c.user_id == who.user_id).values(generation=1))
    assert introspect(gateway, exchanged, resource=OTHER) == {"active": False}


def test_what_is_stored_of_the_actors_is_what_was_said(
    server: Server, outside: httpx.Client, app: CreatedClient, backend: CreatedClient
) -> None:
    from sqlalchemy import select

    token = exchange(outside, backend, give(server, app, person(server))).json()["access_token"]
    with server.storage() as storage, storage.read() as connection:
        act = connection.execute(select(access_tokens.c.act).where(access_tokens.c.digest == digest(token))).scalar()
    assert json.loads(act or "") == {"sub": backend.client_id}
