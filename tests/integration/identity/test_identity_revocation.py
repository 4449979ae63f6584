"""RFC 7009, and how fast a gateway hears of it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from identity_support import SOURCE, assert_with, assertion, credentials, introspect, jwks_of, signing_key, token_for

from stockade.identity import admin
from stockade.identity.credentials import Kind, generate

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return server.client("revoker", api_key=True)


def revoke(http: httpx.Client, client: CreatedClient, token: str, **fields: str) -> httpx.Response:
    return http.post("/oauth2/revoke", data={"token": token, **fields}, headers=credentials(client))


def poll(gateway: httpx.Client, after: int, epoch: str, wait: float = 0) -> dict[str, Any]:
    answer = gateway.get("/internal/revocations", params={"after": after, "epoch": epoch, "wait": wait})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def head(gateway: httpx.Client) -> tuple[int, str]:
    answer = poll(gateway, 0, "")
    return answer["sequence"], answer["epoch"]


def test_a_revoked_token_is_inactive(outside: httpx.Client, gateway: httpx.Client, client: CreatedClient) -> None:
    token = token_for(outside, client)
    answer = revoke(outside, client, token, token_type_hint="refresh_token")
    assert (answer.status_code, answer.content) == (200, b"")
    assert introspect(gateway, token) == {"active": False}


def test_unknown_and_dead_tokens_are_revoked_without_complaint(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    before = head(gateway)[0]
    for text in (token, token, generate(Kind.ACCESS_TOKEN), "nonsense", "a.b.c"):
        assert revoke(outside, client, text).status_code == 200
    assert head(gateway)[0] == before + 1


def test_a_client_cannot_revoke_what_is_not_its_own(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, server.client("victim-of-revocation"))
    answer = revoke(outside, client, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert introspect(gateway, token)["active"] is True


def test_revocation_leaves_other_tokens_of_the_client_alone(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    first, second = token_for(outside, client), token_for(outside, client)
    revoke(outside, client, first)
    assert introspect(gateway, second)["active"] is True


def test_revocation_needs_authentication(outside: httpx.Client, gateway: httpx.Client, client: CreatedClient) -> None:
    token = token_for(outside, client)
    assert outside.post("/oauth2/revoke", data={"token": token}).status_code == 401
    assert introspect(gateway, token)["active"] is True


def test_revocation_by_assertion(server: Server, outside: httpx.Client, gateway: httpx.Client) -> None:
    key = signing_key(kid="k")
    client = server.client("revokes-by-assertion", auth_method="private_key_jwt", jwks=jwks_of(key))
    token = assert_with(outside, assertion(server, client.client_id, key)).json()["access_token"]
    text = assertion(server, client.client_id, key)
    assert assert_with(outside, text, "/oauth2/revoke", token=token).status_code == 200
    assert introspect(gateway, token) == {"active": False}


def test_api_keys_are_the_operators_to_revoke(outside: httpx.Client, client: CreatedClient) -> None:
    assert client.api_key is not None
    answer = revoke(outside, client, client.api_key.api_key)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")


def test_token_must_be_named(outside: httpx.Client, client: CreatedClient) -> None:
    answer = outside.post("/oauth2/revoke", data={"x": "y"}, headers=credentials(client))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_the_log_names_digests_and_clients(server: Server, outside: httpx.Client, gateway: httpx.Client) -> None:
    client = server.client("logged")
    token = token_for(outside, client)
    after, epoch = head(gateway)
    revoke(outside, client, token)
    with server.storage() as storage:
        admin.disable_client(storage, client.client_id)
    told = _told(gateway)
    answer = poll(gateway, after, epoch)
    assert _told(gateway) == told + 2
    first, second = answer["revocations"]
    assert (answer["reset"], answer["sequence"], answer["epoch"]) == (False, after + 2, epoch)
    assert abs(answer["now"] - time.time()) < 2
    assert first == {
        "sequence": after + 1,
        "kind": "token",
        "digest": hashlib.sha256(token.encode()).hexdigest(),
        "revoked_at": first["revoked_at"],
    }
    assert second == {
        "sequence": after + 2,
        "kind": "client",
        "client_id": client.client_id,
        "revoked_at": second["revoked_at"],
    }


def test_a_poll_without_news_lasts_as_long_as_asked(gateway: httpx.Client) -> None:
    after, epoch = head(gateway)
    started = time.monotonic()
    answer = poll(gateway, after, epoch, wait=0.5)
    assert 0.4 < time.monotonic() - started < 2
    assert (answer["revocations"], answer["reset"], answer["sequence"]) == ([], False, after)


def test_an_unknown_position_resets(gateway: httpx.Client) -> None:
    after, epoch = head(gateway)
    for position in ((after, "other"), (after + 5, epoch), (0, "")):
        started = time.monotonic()
        answer = poll(gateway, *position, wait=5)
        assert time.monotonic() - started < 2
        assert (answer["reset"], answer["sequence"], answer["revocations"]) == (True, after, [])


def test_entries_purged_unread_reset(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http, server.gateway() as gateway:
        after, epoch = head(gateway)
        client = server.client("c")
        for _ in range(3):
            revoke(http, client, token_for(http, client))
        with server.storage() as storage, storage.write() as connection:
            from stockade.identity.storage.revocations import purge_revocations

            assert purge_revocations(connection, time.time() + 1, 2) == 2
        assert poll(gateway, after, epoch)["reset"] is True
        assert poll(gateway, after + 1, epoch)["reset"] is True
        assert [entry["sequence"] for entry in poll(gateway, after + 2, epoch)["revocations"]] == [after + 3]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=nan", "wait=1e9", "after=1&after=2", "wait=-1"])
def test_malformed_polls_are_refused(gateway: httpx.Client, query: str) -> None:
    assert gateway.get(f"/internal/revocations?{query}").status_code == 400


def test_a_waiting_gateway_hears_of_a_revocation_within_a_second(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    lag = _lag(server, gateway, lambda: revoke(outside, client, token))
    assert lag < 0.5


def test_a_waiting_gateway_hears_of_another_process_within_a_second(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    program = (
        "import sys; from stockade.identity import admin; from stockade.identity.storage import open_storage\n"
        "with open_storage(sys.argv[1]) as storage: assert admin.revoke_token(storage, sys.stdin.read())"
    )

    def in_another_process() -> None:
        command = [sys.executable, "-c", program, server.database_url]
        subprocess.run(command, input=token, text=True, check=True, env={"PYTHONPATH": str(SOURCE)}, timeout=20)

    assert _lag(server, gateway, in_another_process) < 1


def test_many_gateways_wait_at_once(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = token_for(outside, client)
    after, epoch = head(gateway)
    answers: list[dict[str, Any]] = []

    def wait() -> None:
        with server.gateway() as own:
            answers.append(poll(own, after, epoch, wait=10))

    waiting = [threading.Thread(target=wait) for _ in range(10)]
    for thread in waiting:
        thread.start()
    time.sleep(0.5)
    revoke(outside, client, token)
    for thread in waiting:
        thread.join(5)
    assert len(answers) == 10
    assert all(len(answer["revocations"]) == 1 for answer in answers)


def _told(gateway: httpx.Client) -> int:
    lines = gateway.get("/internal/metrics").text.splitlines()
    samples = [line for line in lines if line.startswith("stockade_identity_revocations_told_total")]
    return sum(int(line.rpartition(" ")[2]) for line in samples)


def _lag(server: Server, gateway: httpx.Client, act: Callable[[], object]) -> float:
    """Seconds from the commit of a revocation to its arrival at a gateway that waits."""
    after, epoch = head(gateway)
    heard: list[tuple[float, dict[str, Any]]] = []

    def wait() -> None:
        with server.gateway() as own:
            answer = poll(own, after, epoch, wait=20)
            heard.append((time.time(), answer))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    act()
    waiting.join(20)
    (arrived, answer), *_ = heard
    return arrived - float(answer["revocations"][0]["revoked_at"])
