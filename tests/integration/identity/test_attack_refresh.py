"""Attacks on refresh tokens (RFC 9700 §4.14), and the grace that keeps people signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from code_support import Attempt, Someone, application, at_once, audited, code_of, later, refresh, tokens_for
from dpop_support import DpopKey
from identity_support import credentials, introspect
from sqlalchemy import select

from stockade.identity import admin
from stockade.identity.admin_people import reset_factors, set_password
from stockade.identity.credentials import digest
from stockade.identity.jose import parse
from stockade.identity.storage.schema import access_tokens, grants, refresh_tokens
from stockade.identity.storage.sessions import end_session
from stockade.identity.storage.users import set_user_disabled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

OFFLINE = "openid orders:read orders:write offline_access"


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return application(server, "refreshing")


@pytest.fixture(scope="module")
def other(server: Server) -> CreatedClient:
    return application(server, "refreshing-other")


@pytest.fixture(scope="module")
def public(server: Server) -> CreatedClient:
    return application(server, "refreshing-public", auth_method="none")


@pytest.fixture
def someone(server: Server) -> Iterator[Someone]:
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        yield someone


def refused(answer: httpx.Response, error: str = "invalid_grant") -> None:
    assert (answer.status_code, answer.json().get("error")) == (400, error), answer.text


def given(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def successors(server: Server, token: str) -> int:
    """How many refresh tokens the family of this one has."""
    with server.storage() as storage, storage.read() as connection:
        family = select(refresh_tokens.c.grant_id).where(refresh_tokens.c.digest == digest(token)).scalar_subquery()
        return len(connection.execute(select(refresh_tokens.c.digest).where(refresh_tokens.c.grant_id == family)).all())


@pytest.mark.standard("OIDC Core §12.1 (1)", "OIDC Core §12.2 (1)")
def test_each_use_gives_another_token_of_the_same_grant(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    first = tokens_for(server, outside, client, scope=OFFLINE)
    second = given(refresh(outside, client, first["refresh_token"]))
    third = given(refresh(outside, client, second["refresh_token"]))
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
    before, after = (introspect(gateway, one["access_token"]) for one in (first, third))
    for name in ("sub", "client_id", "scope", "aud", "grant_id", "acr", "auth_time"):
        assert before[name] == after[name]
    claims = [parse(one["id_token"]).claims for one in (first, third)]
    assert all(claims[0][name] == claims[1][name] for name in ("iss", "sub", "aud", "auth_time", "acr"))
    assert "nonce" not in claims[1]


@pytest.mark.standard("RFC 9700 §4.14.2 (1)")
def test_a_thief_who_comes_after_the_grace_loses_the_family_for_everyone(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    stolen = tokens_for(server, outside, client, scope=OFFLINE)
    owners = given(refresh(outside, client, stolen["refresh_token"]))
    later(server, refresh_tokens.c.used_at, 11)
    refused(refresh(outside, client, stolen["refresh_token"]))
    refused(refresh(outside, client, owners["refresh_token"]))
    for one in (stolen, owners):
        assert introspect(gateway, one["access_token"]) == {"active": False}
    assert len(audited(server, "token.reuse_detected", client)) == 1


def test_an_owner_who_comes_after_the_thief_ends_what_the_thief_got(
    server: Server, outside: httpx.Client, gateway: httpx.Client, public: CreatedClient
) -> None:
    stolen = tokens_for(server, outside, public, scope=OFFLINE)["refresh_token"]
    thiefs = given(refresh(outside, public, stolen))
    later(server, refresh_tokens.c.used_at, 11)
    refused(refresh(outside, public, stolen))
    assert introspect(gateway, thiefs["access_token"]) == {"active": False}
    refused(refresh(outside, public, thiefs["refresh_token"]))


def test_racing_twenty_times_within_the_grace_makes_one_successor(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]

    def use(_: int) -> str:
        with server.outside() as http:
            return str(given(refresh(http, client, token))["refresh_token"])

    assert len(set(at_once(20, use))) == 1
    assert successors(server, token) == 2


def test_an_answer_that_was_lost_is_given_again_within_the_grace(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    first, again = (given(refresh(outside, client, token)) for _ in range(2))
    assert first["refresh_token"] == again["refresh_token"]
    given(refresh(outside, client, first["refresh_token"]))


@pytest.mark.standard("RFC 9449 §5 (3)")
def test_the_grace_is_for_the_same_client_and_key(server: Server, outside: httpx.Client, other: CreatedClient) -> None:
    victim = application(server, "grace-of-one", auth_method="none")
    key, thief = DpopKey(), DpopKey()
    token = bound_tokens(server, outside, victim, key)["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": victim.client_id}
    given(key.post(outside, "/oauth2/token", **form))
    refused(thief.post(outside, "/oauth2/token", **form))
    refused(outside.post("/oauth2/token", data=form))
    refused(refresh(outside, other, token))
    given(key.post(outside, "/oauth2/token", **form))


def test_a_stolen_database_opens_no_successor(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    successor = given(refresh(outside, client, token))["refresh_token"]
    with server.storage() as storage, storage.read() as connection:
        rows = connection.execute(select(refresh_tokens)).all()
    everything = b"".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    assert token.encode() not in everything
    assert successor.encode() not in everything


@pytest.mark.standard("RFC 6749 §6 (1)")
def test_a_token_of_another_client_is_refused_and_hurts_nobody(
    server: Server, outside: httpx.Client, client: CreatedClient, other: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    refused(refresh(outside, other, token))
    given(refresh(outside, client, token))


@pytest.mark.standard("RFC 6749 §6 (2)")
@pytest.mark.parametrize("scope", ["orders:read admin", "profile", "orders:read  orders:write", "openid email", 'a"b'])
def test_refreshing_gives_no_more_than_was_granted(
    server: Server, outside: httpx.Client, client: CreatedClient, scope: str
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    refused(refresh(outside, client, token, scope=scope), "invalid_scope")
    given(refresh(outside, client, token))


def test_a_narrower_access_token_leaves_the_refresh_token_as_wide_as_it_was(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    narrow = given(refresh(outside, client, token, scope="orders:read"))
    assert narrow["scope"] == "orders:read"
    assert "id_token" not in narrow
    assert given(refresh(outside, client, narrow["refresh_token"]))["scope"] == OFFLINE


@pytest.mark.standard("RFC 8707 §2.2 (1)")
def test_the_audience_stays(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE, resource="https://other.example")["refresh_token"]
    refused(refresh(outside, client, token, resource="https://localhost:8443"), "invalid_target")
    answer = given(refresh(outside, client, token, resource="https://other.example"))
    assert introspect(gateway, answer["access_token"]) == {"active": False}
    assert introspect(gateway, answer["access_token"], resource="https://other.example")["active"] is True


def bound_tokens(server: Server, http: httpx.Client, client: CreatedClient, key: DpopKey) -> dict[str, Any]:
    with server.outside() as browser:
        someone = Someone(server, browser)
        someone.sign_in()
        attempt = Attempt(client.client_id)
        form = {
            "grant_type": "authorization_code",
            "code": code_of(someone.open(attempt.url(scope=OFFLINE))),
            "code_verifier": attempt.verifier,
        }
        headers = credentials(client) if client.client_secret else {}
        if not client.client_secret:
            form["client_id"] = client.client_id
        return given(key.post(http, "/oauth2/token", headers, **form))


def test_a_bound_grant_gives_no_bearer_token(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    """A confidential client may change its key; it cannot leave it away."""
    key, next_key = DpopKey(), DpopKey()
    tokens = bound_tokens(server, outside, client, key)
    assert tokens["token_type"] == "DPoP"
    refused(refresh(outside, client, tokens["refresh_token"]))
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert given(next_key.post(outside, "/oauth2/token", credentials(client), **form))["token_type"] == "DPoP"


@pytest.mark.standard("RFC 9700 §4.14.2 (2)")
def test_without_offline_access_a_refresh_token_dies_with_its_session(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    online = tokens_for(server, outside, client, someone)
    offline = tokens_for(server, outside, client, someone, scope=OFFLINE)
    assert someone.session is not None
    with server.storage() as storage, storage.write() as connection:
        end_session(connection, someone.session.session_id, 1.0)
    refused(refresh(outside, client, online["refresh_token"]))
    assert introspect(gateway, online["access_token"]) == {"active": False}
    given(refresh(outside, client, offline["refresh_token"]))


def test_a_disabled_user_or_client_refreshes_nothing(server: Server, outside: httpx.Client, someone: Someone) -> None:
    doomed = application(server, "refresh-doomed")
    token = tokens_for(server, outside, doomed, someone, scope=OFFLINE)["refresh_token"]
    with server.storage() as storage:
        admin.disable_client(storage, doomed.client_id)
        admin.enable_client(storage, doomed.client_id)
    refused(refresh(outside, doomed, token))
    token = tokens_for(server, outside, doomed, someone, scope=OFFLINE)["refresh_token"]
    assert someone.user is not None
    with server.storage() as storage, storage.write() as connection:
        set_user_disabled(connection, someone.user.user_id, 1)
        set_user_disabled(connection, someone.user.user_id, None)
    refused(refresh(outside, doomed, token))


@pytest.mark.standard("RFC 9700 §4.14.2 (2)")
def test_an_idle_or_old_token_is_dead(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    later(server, refresh_tokens.c.expires_at, 14 * 86_400 + 1)
    refused(refresh(outside, client, token))
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    later(server, grants.c.expires_at, 30 * 86_400 + 1)
    refused(refresh(outside, client, token))


def test_an_access_token_does_not_outlive_its_grant(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]
    later(server, grants.c.expires_at, 30 * 86_400 - 100)
    assert given(refresh(outside, client, token))["expires_in"] <= 100


@pytest.mark.standard("RFC 7009 §2 (1)", "RFC 7009 §2.1 (1)", "RFC 7009 §2.1 (2)", "RFC 7009 §2.1 (3)")
def test_revoking_a_refresh_token_takes_its_grant_with_it(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, other: CreatedClient
) -> None:
    """RFC 7009 §2.1."""
    first = tokens_for(server, outside, client, scope=OFFLINE)
    second = given(refresh(outside, client, first["refresh_token"]))
    untouched = tokens_for(server, outside, client, scope=OFFLINE)
    form = {"token": second["refresh_token"]}
    refused(outside.post("/oauth2/revoke", data=form, headers=credentials(other)), "invalid_request")
    assert introspect(gateway, second["access_token"])["active"] is True
    for hint in ("access_token", "refresh_token", "unknown"):
        hinted = {**form, "token_type_hint": hint}
        assert outside.post("/oauth2/revoke", data=hinted, headers=credentials(client)).status_code == 200
    for one in (first, second):
        assert introspect(gateway, one["access_token"]) == {"active": False}
        refused(refresh(outside, client, one["refresh_token"]))
    given(refresh(outside, client, untouched["refresh_token"]))


def test_without_the_grant_there_is_no_refresh_token(server: Server, outside: httpx.Client) -> None:
    once = application(server, "no-refresh", grant_types=("authorization_code",))
    assert "refresh_token" not in tokens_for(server, outside, once, scope=OFFLINE)


@pytest.mark.standard("OAuth 2.1 §4.3.1 (1)", "RFC 9700 §2.2.2 (1)")
def test_rotation_switched_off_keeps_a_confidential_clients_token_and_turns_a_public_ones(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(refresh={"rotation": False}).start()
    with server.outside() as http:
        client, public = application(server, "keeps"), application(server, "turns", auth_method="none")
        kept = tokens_for(server, http, client, scope=OFFLINE)["refresh_token"]
        for _ in range(3):
            assert given(refresh(http, client, kept))["refresh_token"] == kept
        turned = tokens_for(server, http, public, scope=OFFLINE)["refresh_token"]
        assert given(refresh(http, public, turned))["refresh_token"] != turned
        key = DpopKey()
        bound = bound_tokens(server, http, public, key)["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": bound, "client_id": public.client_id}
        assert given(key.post(http, "/oauth2/token", **form))["refresh_token"] == bound


def test_a_refused_refresh_leaves_no_access_token(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    token = tokens_for(server, outside, client, scope=OFFLINE)["refresh_token"]

    def count() -> int:
        with server.storage() as storage, storage.read() as connection:
            mine = access_tokens.c.client_id == client.client_id
            return len(connection.execute(select(access_tokens.c.digest).where(mine)).all())

    before = count()
    refused(refresh(outside, client, token, scope="admin"), "invalid_scope")
    refused(refresh(outside, client, token[:-1] + ("A" if token[-1] != "A" else "B")))
    assert count() == before


@pytest.mark.standard("RFC 9700 §4.14.2 (2)")
@pytest.mark.parametrize("change", [set_password, reset_factors])
def test_staying_in_an_account_after_its_password_or_factors_were_reset(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, someone: Someone, change: Any
) -> None:
    online = tokens_for(server, outside, client, someone)
    offline = tokens_for(server, outside, client, someone, scope=OFFLINE)
    assert someone.user is not None
    with server.storage() as storage:
        change(storage, someone.user.username, *(("a-new-password-of-hers",) if change is set_password else ()))
    for one in (online, offline):
        assert introspect(gateway, one["access_token"]) == {"active": False}
        refused(refresh(outside, client, one["refresh_token"]))
