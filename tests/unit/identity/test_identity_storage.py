"""The database: group commit, sequences in the order of commit, bounded purging, sealed keys."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from stockade.errors import StateError
from stockade.identity import admin
from stockade.identity.config import Lifetimes
from stockade.identity.errors import KeysUnavailable, StorageUnavailable
from stockade.identity.keys.keyring import care, ensure_keys, open_keyring
from stockade.identity.keys.seal import Seal
from stockade.identity.storage import Storage, open_storage
from stockade.identity.storage import lanes as lanes_module
from stockade.identity.storage.assertions import use_assertion
from stockade.identity.storage.lanes import Lanes
from stockade.identity.storage.purge import BATCH, purge_once
from stockade.identity.storage.revocations import read_after, read_head, record_client_revocation
from stockade.identity.storage.tokens import NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(f"sqlite:///{tmp_path}/identity.db") as opened:
        yield opened


def new_token(digest: bytes, expires_at: int) -> NewAccessToken:
    return NewAccessToken(digest, "j", "c", 0, ("a",), "aud", expires_at - 600, expires_at)


def count(connection: Connection, table: str) -> int:
    number: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
    return number


def test_commits_are_durable(storage: Storage) -> None:
    with storage.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_many_writers_share_a_commit(storage: Storage) -> None:
    commits = 0
    real = Storage.write

    class Counting(Storage):
        def write(self) -> Any:
            nonlocal commits
            commits += 1
            return real(self)

    async def run() -> None:
        lanes = Lanes(Counting(storage.engine))
        jobs = [_insert(lanes, os.urandom(32)) for _ in range(500)]
        await asyncio.gather(*jobs)
        lanes.close()

    async def _insert(lanes: Lanes, digest: bytes) -> None:
        await lanes.write(lambda connection: insert_access_token(connection, new_token(digest, 1)))

    asyncio.run(run())
    with storage.read() as connection:
        assert count(connection, "access_tokens") == 500
    assert commits < 50


def test_one_failing_job_fails_alone(storage: Storage) -> None:
    async def run() -> list[Any]:
        lanes = Lanes(storage)
        digests = [b"a" * 32, b"a" * 32, b"b" * 32]
        jobs = [
            lanes.write(lambda connection, digest=digest: insert_access_token(connection, new_token(digest, 1)))
            for digest in digests
        ]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        lanes.close()
        return list(outcomes)

    outcomes = asyncio.run(run())
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "IntegrityError", "NoneType"]
    with storage.read() as connection:
        assert count(connection, "access_tokens") == 2


def test_too_many_waiting_are_turned_away(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_WAITING", 2)
    release = threading.Event()

    async def run() -> list[Any]:
        lanes = Lanes(storage)
        first = asyncio.create_task(lanes.write(lambda _: release.wait(5)))
        await asyncio.sleep(0.1)
        jobs = [asyncio.create_task(lanes.write(lambda _: None)) for _ in range(4)]
        await asyncio.sleep(0.1)
        release.set()
        outcomes = await asyncio.gather(first, *jobs, return_exceptions=True)
        lanes.close()
        return list(outcomes)

    assert [type(outcome).__name__ for outcome in asyncio.run(run())].count("StorageUnavailable") == 2


def test_a_database_that_does_not_answer_is_given_up(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "TIMEOUT_SECONDS", 0.2)
    release = threading.Event()

    async def run() -> None:
        lanes = Lanes(storage)
        with pytest.raises(StorageUnavailable, match="did not answer"):
            await lanes.write(lambda _: release.wait(5))
        release.set()
        lanes.close()

    asyncio.run(run())


def test_a_full_database_keeps_nothing_of_a_transaction(storage: Storage) -> None:
    with storage.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def fill() -> None:
        with storage.write() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            for n in range(2_000):
                insert_access_token(connection, new_token(n.to_bytes(32, "big"), 1))

    with pytest.raises(StorageUnavailable, match="full"):
        fill()
    with storage.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert count(connection, "access_tokens") == 0
        insert_access_token(connection, new_token(b"x" * 32, 1))


def test_numbers_of_the_log_appear_in_their_order(tmp_path: Path, storage: Storage) -> None:
    """A reader that has seen N has missed nothing below N, whatever the writers' timing."""
    url = f"sqlite:///{tmp_path}/identity.db"
    seen: list[int] = []

    def write() -> None:
        with open_storage(url) as own:
            for _ in range(25):
                with own.write() as connection:
                    record_client_revocation(connection, "c", time.time())

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    while len(seen) < 100:
        with storage.read() as connection:
            seen += [entry.sequence for entry in read_after(connection, seen[-1] if seen else 0)]
    for writer in writers:
        writer.join()
    assert seen == list(range(1, 101))


def test_an_assertion_is_used_once_per_client(storage: Storage) -> None:
    with storage.write() as connection:
        assert use_assertion(connection, "a", "j", 1) is True
        assert use_assertion(connection, "a", "j", 1) is False
        assert use_assertion(connection, "b", "j", 1) is True


def test_purging_is_bounded_and_keeps_what_lives(storage: Storage) -> None:
    now = 1_000_000
    with storage.write() as connection:
        for n in range(BATCH + 100):
            insert_access_token(connection, new_token(n.to_bytes(32, "big"), now - 5_000))
        insert_access_token(connection, new_token(b"l" * 32, now + 1))
        use_assertion(connection, "c", "old", now - 5_000)
        use_assertion(connection, "c", "new", now + 1)
        for n in range(3):
            record_client_revocation(connection, "c", now - 100_000 + n)
        record_client_revocation(connection, "c", now)
    removed = []
    for _ in range(3):
        with storage.write() as connection:
            removed.append(purge_once(connection, now, 86_400))
    assert removed == [BATCH + 1 + 3, 100, 0]
    with storage.write() as connection:
        assert (count(connection, "access_tokens"), count(connection, "used_assertions")) == (1, 1)
        assert use_assertion(connection, "c", "new", now + 1) is False
        head = read_head(connection)
        assert (head.floor, head.sequence) == (3, 4)


def test_a_clock_set_back_a_little_does_not_free_used_assertions(storage: Storage) -> None:
    with storage.write() as connection:
        use_assertion(connection, "c", "j", 1_000)
        purge_once(connection, 1_100, 86_400)
        assert use_assertion(connection, "c", "j", 1_000) is False


def test_opening_twice_at_once_makes_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    opened: list[Storage] = []
    threads = [threading.Thread(target=lambda: opened.append(open_storage(url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    with opened[0].read() as connection:
        assert count(connection, "revocation_head") == 1
    for storage in opened:
        storage.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(StateError, match="database"):
        open_storage(url)


def test_values_do_not_enter_error_texts(storage: Storage) -> None:
    def broken() -> None:
        with storage.write() as connection:
            connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "stk_cs_canary"})

    with pytest.raises(StorageUnavailable) as caught:
        broken()
    assert "canary" not in str(caught.value)
    assert "canary" not in str(caught.value.__cause__)


def test_a_sealed_key_opens_for_its_own_id_only() -> None:
    seal = Seal(b"k" * 32)
    sealed = seal.close(b"secret", "a")
    assert seal.open(sealed, "a") == b"secret"
    assert b"secret" not in sealed
    assert seal.close(b"secret", "a") != sealed
    for other, bound_to, data in (
        (Seal(b"x" * 32), "a", sealed),
        (seal, "b", sealed),
        (seal, "a", sealed[:-1]),
        (seal, "a", b""),
    ):
        with pytest.raises(ValueError, match="does not open"):
            other.open(data, bound_to)


def test_two_servers_that_find_an_old_key_rotate_once(storage: Storage) -> None:
    seal, lifetimes = Seal(b"k" * 32), Lifetimes()
    first = ensure_keys(storage, seal, 0)
    later = lifetimes.signing_key_seconds + 1
    assert first.needs_care(later, lifetimes)
    with storage.write() as connection:
        second = care(connection, seal, later, lifetimes)
    with storage.write() as connection:
        third = care(connection, seal, later, lifetimes)
    assert first.kid != second.kid == third.kid
    assert len(third.public_jwks["keys"]) == 3
    after_overlap = later + lifetimes.signing_key_overlap_seconds
    assert third.needs_care(after_overlap, lifetimes)
    with storage.write() as connection:
        fourth = care(connection, seal, after_overlap, lifetimes)
    assert first.kid not in {key["kid"] for key in fourth.public_jwks["keys"]}
    assert not fourth.needs_care(after_overlap, lifetimes)


def test_swapped_key_rows_are_noticed(storage: Storage) -> None:
    seal = Seal(b"k" * 32)
    ensure_keys(storage, seal, 0)
    with storage.write() as connection:
        connection.exec_driver_sql(
            "UPDATE signing_keys SET sealed_private_key ="
            " (SELECT sealed_private_key FROM signing_keys WHERE state = 'next') WHERE state = 'current'"
        )
    with storage.read() as connection, pytest.raises(KeysUnavailable, match="does not open"):
        open_keyring(connection, seal)


def test_the_keyrings_repr_holds_no_private_key(storage: Storage) -> None:
    keyring = ensure_keys(storage, Seal(b"k" * 32), 0)
    assert "_signer" not in repr(keyring)


def test_disabling_kills_tokens_however_fast_the_client_comes_back(storage: Storage) -> None:
    from stockade.identity.credentials import Kind, digest, generate

    client = admin.create_client(storage, "c", [])
    token = generate(Kind.ACCESS_TOKEN)
    with storage.write() as connection:
        insert_access_token(
            connection,
            NewAccessToken(digest(token), "j", client.client_id, 0, (), "aud", int(time.time()), 2**40),
        )
    admin.disable_client(storage, "c")
    admin.enable_client(storage, "c")
    found = admin.introspect(storage, token)
    assert found is not None
    assert found.standing == "revoked"
