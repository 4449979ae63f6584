"""The device grant (RFC 8628): codes, polling, and what an attacker would try with them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dpop_support import DpopKey
from identity_support import AUDIENCE, basic, introspect
from signed_in_support import make_person
from sqlalchemy import update

from stockade.identity import admin
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import digest
from stockade.identity.device import ALPHABET, normal_user_code
from stockade.identity.storage import device_codes as table
from stockade.identity.storage.schema import device_codes, sessions, users

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Server

    from stockade.identity.admin import CreatedClient
    from stockade.identity.storage.tokens import Authorization

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCOPES = ("openid", "offline_access", "orders:read")


def device_client(server: Server, name: str, method: str = "none", **metadata: Any) -> CreatedClient:
    described = ClientMetadata(grant_types=(GRANT, "refresh_token"), **metadata)
    return server.client(name, SCOPES, auth_method=method, metadata=described)


@pytest.fixture(scope="module")
def tv(server: Server) -> CreatedClient:
    return device_client(server, "tv")


def start(http: httpx.Client, client: CreatedClient, **fields: str) -> dict[str, Any]:
    answer = http.post("/oauth2/device_authorization", data={"client_id": client.client_id, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def poll(http: httpx.Client, client: CreatedClient, code: str, **fields: str) -> httpx.Response:
    form = {"grant_type": GRANT, "device_code": code, "client_id": client.client_id, **fields}
    return http.post("/oauth2/token", data=form)


def decide(server: Server, code: str, who: Authorization | None) -> bool:
    with server.storage() as storage, storage.write() as connection:
        return table.decide(connection, digest(code), who, time.time())


def set_back(server: Server, code: str, **values: float) -> None:
    with server.storage() as storage, storage.write() as connection:
        connection.execute(update(device_codes).where(device_codes.c.digest == digest(code)).values(values))


def person(server: Server) -> Authorization:
    with server.storage() as storage:
        return make_person(storage)


def test_a_device_gets_tokens_once_a_person_has_approved(
    server: Server, outside: httpx.Client, gateway: httpx.Client, tv: CreatedClient
) -> None:
    codes = start(outside, tv, scope="openid orders:read offline_access", resource=AUDIENCE)
    assert codes["verification_uri"] == f"{server.issuer}/device"
    assert codes["verification_uri_complete"] == f"{server.issuer}/device?user_code={codes['user_code']}"
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert set(codes["user_code"].replace("-", "")) <= set(ALPHABET)
    waiting = poll(outside, tv, codes["device_code"])
    assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")
    who = person(server)
    assert decide(server, codes["device_code"], who)
    answer = poll(outside, tv, codes["device_code"])
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert {"access_token", "refresh_token", "id_token"} <= tokens.keys()
    known = introspect(gateway, tokens["access_token"])
    assert (known["sub"], known["client_id"], known["acr"]) == (who.user_id, tv.client_id, "pwd")
    assert known["grant_id"].startswith("g_")


def test_who_polls_too_often_must_wait_longer_each_time(
    server: Server, outside: httpx.Client, tv: CreatedClient
) -> None:
    """RFC 8628 §3.5: `slow_down` adds five seconds, for this and all later requests."""
    code = start(outside, tv)["device_code"]
    assert poll(outside, tv, code).json()["error"] == "authorization_pending"
    assert poll(outside, tv, code).json()["error"] == "slow_down"
    set_back(server, code, polled_at=time.time() - 6)
    assert poll(outside, tv, code).json()["error"] == "slow_down"
    set_back(server, code, polled_at=time.time() - 16)
    assert poll(outside, tv, code).json()["error"] == "authorization_pending"


def test_refused_expired_and_unknown_codes_get_their_errors(
    server: Server, outside: httpx.Client, tv: CreatedClient
) -> None:
    refused, expired = start(outside, tv)["device_code"], start(outside, tv)["device_code"]
    assert decide(server, refused, None)
    assert poll(outside, tv, refused).json()["error"] == "access_denied"
    set_back(server, expired, expires_at=int(time.time()) - 1)
    assert poll(outside, tv, expired).json()["error"] == "expired_token"
    assert poll(outside, tv, "stk_dc_x").json()["error"] == "invalid_grant"
    assert poll(outside, tv, expired[:-7] + "A" * 7).json()["error"] == "invalid_grant"


def test_a_device_code_redeemed_in_parallel_gives_tokens_once(
    server: Server, outside: httpx.Client, tv: CreatedClient
) -> None:
    code = start(outside, tv)["device_code"]
    decide(server, code, person(server))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: poll(outside, tv, code).status_code, range(8)))
    assert sorted(answers) == [200] + [400] * 7


def test_a_stolen_device_code_is_no_good_to_another_client(
    server: Server, outside: httpx.Client, tv: CreatedClient
) -> None:
    code = start(outside, tv)["device_code"]
    decide(server, code, person(server))
    thief = device_client(server, "thief")
    assert poll(outside, thief, code).json()["error"] == "invalid_grant"
    assert poll(outside, tv, code).status_code == 200


def test_a_device_code_asked_for_with_a_key_is_no_good_without_it(
    server: Server, outside: httpx.Client, tv: CreatedClient
) -> None:
    key, thief = DpopKey(), DpopKey()
    form = {"client_id": tv.client_id, "scope": "orders:read"}
    code = key.post(outside, "/oauth2/device_authorization", **form).json()["device_code"]
    decide(server, code, person(server))
    token_form = {"grant_type": GRANT, "device_code": code, "client_id": tv.client_id}
    assert poll(outside, tv, code).json()["error"] == "invalid_grant"
    assert thief.post(outside, "/oauth2/token", **token_form).json()["error"] == "invalid_grant"
    answer = key.post(outside, "/oauth2/token", **token_form)
    assert answer.json()["token_type"] == "DPoP"


@pytest.mark.parametrize("end", ["user", "session", "client"])
def test_an_approval_dies_with_the_one_who_gave_it_and_the_one_who_got_it(
    server: Server, outside: httpx.Client, end: str
) -> None:
    client = device_client(server, f"ended-{end}")
    code = start(outside, client)["device_code"]
    who = person(server)
    decide(server, code, who)
    with server.storage() as storage:
        if end == "client":
            admin.disable_client(storage, client.client_id)
            admin.enable_client(storage, client.client_id)
        else:
            with storage.write() as connection:
                if end == "user":
                    ended = update(users).where(users.c.user_id == who.user_id).values(generation=1)
                else:
                    ended = update(sessions).where(sessions.c.session_id == who.session_id).values(revoked_at=1)
                connection.execute(ended)
    assert poll(outside, client, code).json()["error"] == "invalid_grant"


def test_a_decision_cannot_be_changed(server: Server, outside: httpx.Client, tv: CreatedClient) -> None:
    code = start(outside, tv)["device_code"]
    assert decide(server, code, None)
    assert not decide(server, code, person(server))
    assert poll(outside, tv, code).json()["error"] == "access_denied"


def test_scopes_beyond_the_client_are_refused_before_anyone_is_asked(outside: httpx.Client, tv: CreatedClient) -> None:
    form = {"client_id": tv.client_id, "scope": "orders:read orders:write"}
    answer = outside.post("/oauth2/device_authorization", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_only_clients_registered_for_the_grant_get_codes(server: Server, outside: httpx.Client) -> None:
    other = server.client("no-device")
    assert other.client_secret
    answer = outside.post(
        "/oauth2/device_authorization",
        data={"scope": "orders:read"},
        headers=basic(other.client_id, other.client_secret),
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


def test_a_confidential_client_must_prove_itself_to_get_codes(server: Server, outside: httpx.Client) -> None:
    client = device_client(server, "confidential-tv", "client_secret_basic")
    answer = outside.post("/oauth2/device_authorization", data={"client_id": client.client_id})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_asking_for_codes_without_end_is_slowed_down(make_server: Callable[..., Server]) -> None:
    """RFC 8628 §5.1: the more codes wait, the sooner a guess hits one."""
    with make_server() as server, server.outside() as http:
        form = {"client_id": device_client(server, "flood").client_id}
        answers = [http.post("/oauth2/device_authorization", data=form) for _ in range(40)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_database_thief_cannot_try_out_user_codes(server: Server, outside: httpx.Client, tv: CreatedClient) -> None:
    """34 bits are soon hashed, so the digest is keyed with a key that the database alone does not open."""
    codes = start(outside, tv)
    user_code = normal_user_code(codes["user_code"])
    assert user_code is not None
    with server.storage() as storage, storage.read() as connection:
        found = table.find_device_code(connection, digest(codes["device_code"]), time.time())
    assert found is not None
    assert found.request.user_code_digest not in (digest(user_code), digest(codes["user_code"]))


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("BCDF-GHJK", "BCDFGHJK"),
        (" bcdf ghjk\n", "BCDFGHJK"),
        ("bcdfghjk", "BCDFGHJK"),
        ("BCDF-GHJ", None),
        ("BCDF-GHJKL", None),
        ("BCDF-GHJA", None),
        ("BCDF-GHJ0K", None),
        ("B" * 100, None),
        ("", None),
    ],
)
def test_a_user_code_is_read_however_it_is_typed(typed: str, code: str | None) -> None:
    assert normal_user_code(typed) == code
