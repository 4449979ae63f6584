"""The same promises on PostgreSQL: a cluster of our own, where its programs are installed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from identity_support import (
    AUDIENCE,
    ask,
    assert_with,
    assertion,
    credentials,
    eventually,
    introspect,
    jwks_of,
    signing_key,
    token_for,
)

from stockade.identity import admin
from stockade.identity.config import Lifetimes
from stockade.identity.keys.keyring import care, ensure_keys
from stockade.identity.keys.seal import Seal
from stockade.identity.storage import open_storage
from stockade.identity.storage.purge import purge_once
from stockade.identity.storage.revocations import read_after, record_client_revocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Cluster, Server


@pytest.fixture(scope="module")
def database_url(cluster: Cluster) -> str:
    """A database of this module's own: each server's keys open only under its own key-encryption key."""
    return cluster.database("the_server")


def test_the_whole_path_works(make_server: Callable[..., Server], cluster: Cluster, database_url: str) -> None:
    key = signing_key(kid="k")
    server = make_server(database_url=database_url)
    client = server.client("path", api_key=True)
    by_key = server.client("path-jwt", auth_method="private_key_jwt", jwks=jwks_of(key))
    assert client.api_key is not None
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        assert introspect(gateway, token)["client_id"] == client.client_id
        assert introspect(gateway, client.api_key.api_key)["token_type"] == "api_key"
        text = assertion(server, by_key.client_id, key)
        assert [assert_with(http, text).status_code for _ in range(2)] == [200, 401]
        position = gateway.get("/internal/revocations").json()
        http.post("/oauth2/revoke", data={"token": token}, headers=credentials(client))
        assert introspect(gateway, token) == {"active": False}
        with server.storage() as storage:
            admin.disable_client(storage, "path")
        query = {"after": position["sequence"], "epoch": position["epoch"]}
        news = gateway.get("/internal/revocations", params=query).json()
        assert [entry["kind"] for entry in news["revocations"]] == ["token", "client"]
        with server.storage() as storage, storage.write() as connection:
            assert purge_once(connection, time.time() + 10**6, 3_600) >= 4


def test_parallel_uses_of_one_assertion_give_one_token(
    make_server: Callable[..., Server], cluster: Cluster, database_url: str
) -> None:
    """Two servers share the database, so no lock within a process can be what helps."""
    key = signing_key(kid="k")
    settings = {"database_url": database_url, "throttling": {"client_burst": 1_000}}
    first, second = make_server(**settings), make_server(**settings)
    # One name for both, as behind a balancer.
    second.issuer, second.token_url = first.issuer, first.token_url
    second.write_config(issuer=first.issuer, key_encryption_key={"file": str(first.folder / "kek")})
    with open_storage(database_url) as storage, storage.write() as connection:
        connection.exec_driver_sql("DELETE FROM signing_keys")
        connection.exec_driver_sql("DELETE FROM meta WHERE name IN ('signing_keys_made', 'derivation_root')")
    client = first.client("race", auth_method="private_key_jwt", jwks=jwks_of(key))
    first.start()
    second.start()
    url = f"https://localhost:{second.public_port}/oauth2/token"
    with first.outside() as one, second.outside() as two, ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            text = assertion(first, client.client_id, key)
            jobs = [pool.submit(assert_with, one, text) for _ in range(4)]
            jobs += [pool.submit(assert_with, two, text, url) for _ in range(4)]
            assert sorted(job.result().status_code for job in jobs) == [200, *[401] * 7]


def test_servers_that_start_or_rotate_together_agree_on_the_keys(cluster: Cluster, database_url: str) -> None:
    seal, lifetimes = Seal(b"k" * 32), Lifetimes()
    with open_storage(database_url) as storage, ThreadPoolExecutor(6) as pool:
        with storage.write() as connection:
            connection.exec_driver_sql("DELETE FROM signing_keys")
            connection.exec_driver_sql("DELETE FROM meta WHERE name IN ('signing_keys_made', 'derivation_root')")
        made = list(pool.map(lambda _: ensure_keys(storage, seal, 0).kid, range(6)))
        assert len(set(made)) == 1

        def rotate(_: int) -> str:
            with storage.write() as connection:
                return care(connection, seal, lifetimes.signing_key_seconds, lifetimes).kid

        rotated = list(pool.map(rotate, range(6)))
        assert len({*made, *rotated}) == 2
        with storage.write() as connection:
            connection.exec_driver_sql("DELETE FROM signing_keys")
            connection.exec_driver_sql("DELETE FROM meta WHERE name IN ('signing_keys_made', 'derivation_root')")


def test_numbers_of_the_log_appear_in_their_order(cluster: Cluster, database_url: str) -> None:
    """A plain sequence would show 6 before 5 is committed."""
    with open_storage(database_url) as storage:
        with storage.read() as connection:
            start = connection.exec_driver_sql("SELECT sequence FROM revocation_head").scalar_one()

        def write() -> None:
            for n in range(25):
                with storage.write() as connection:
                    record_client_revocation(connection, "c", time.time())
                    time.sleep(0.002 * (n % 3))

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        seen: list[int] = []
        while len(seen) < 100:
            with storage.read() as connection:
                seen += [entry.sequence for entry in read_after(connection, seen[-1] if seen else start)]
        for writer in writers:
            writer.join()
    assert seen == list(range(start + 1, start + 101))


def test_an_outage_gives_503_and_is_recovered_from(
    make_server: Callable[..., Server], cluster: Cluster, database_url: str
) -> None:
    server = make_server(database_url=database_url)
    with open_storage(database_url) as storage, storage.write() as connection:
        connection.exec_driver_sql("DELETE FROM signing_keys")
        connection.exec_driver_sql("DELETE FROM meta WHERE name IN ('signing_keys_made', 'derivation_root')")
    client = server.client("outage")
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, client)
        cluster.stop()
        form = {"token": token, "resource": AUDIENCE}
        answers = [ask(http, client), gateway.post("/internal/introspect", data=form)]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert all("retry-after" in answer.headers for answer in answers)
        cluster.start()
        eventually(lambda: ask(http, client).status_code == 200, seconds=20)
        assert introspect(gateway, token)["active"] is True
