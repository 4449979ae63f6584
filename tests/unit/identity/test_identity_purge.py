"""What expires is purged, all of it, in bounded bites; what must stay stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Boolean, Float, Integer, LargeBinary, Table, event, func, insert, select

from stockade.identity.config import Lifetimes
from stockade.identity.storage import Storage, open_storage
from stockade.identity.storage.purge import BATCH, GRANT_SECONDS, KEPT_SECONDS, purge_once
from stockade.identity.storage.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPIRING = sorted(name for name, table in metadata.tables.items() if "expires_at" in table.c)
NOW = time.time()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(f"sqlite:///{tmp_path}/identity.db") as opened:
        # A row stands for itself here; whom it belongs to does not matter.
        event.listen(opened.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=OFF"))
        opened.engine.dispose()
        yield opened


def row(table: Table, number: int, expires_at: int | None) -> dict[str, Any]:
    """Some value in every column."""
    return {column.name: value_for(column, number) for column in table.c} | (
        {"expires_at": expires_at} if "expires_at" in table.c else {}
    )


def value_for(column: Any, number: int) -> Any:
    if isinstance(column.type, LargeBinary):
        return number.to_bytes(32, "big")
    if isinstance(column.type, Boolean):
        return False
    return number if isinstance(column.type, Integer | Float) else f"x{number}"


def count(storage: Storage, name: str) -> int:
    with storage.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()
        return found


def purge(storage: Storage, now: float = NOW) -> int:
    with storage.write() as connection:
        return purge_once(connection, now, 3_600)


def fill(storage: Storage, name: str, numbers: range, expires_at: int | None) -> None:
    table = metadata.tables[name]
    with storage.write() as connection:
        connection.execute(insert(table), [row(table, number, expires_at) for number in numbers])


def test_every_table_that_expires_is_purged() -> None:
    """A new table with `expires_at` must say in purge.py how long its rows are kept."""
    assert sorted(KEPT_SECONDS) == EXPIRING


@pytest.mark.parametrize("name", EXPIRING)
def test_only_what_is_long_expired_goes(storage: Storage, name: str) -> None:
    edge = int(NOW) - KEPT_SECONDS[name]
    fill(storage, name, range(100, 103), edge - 5)
    fill(storage, name, range(200, 204), edge + 5)
    if metadata.tables[name].c.expires_at.nullable:
        fill(storage, name, range(300, 301), None)
    before = count(storage, name)
    assert purge(storage) == 3
    assert count(storage, name) == before - 3
    assert purge(storage) == 0


def test_one_round_is_bounded(storage: Storage) -> None:
    for name in ("access_tokens", "sessions"):
        fill(storage, name, range(BATCH + 20), 1)
    assert purge(storage) == 2 * BATCH
    assert purge(storage) == 40


@pytest.mark.parametrize("name", ["users", "consents", "audit_events", "passkeys", "totp_secrets", "recovery_codes"])
def test_people_and_the_record_of_their_deeds_stay(storage: Storage, name: str) -> None:
    fill(storage, name, range(7, 10), None)
    assert purge(storage, NOW + 10**9) == 0
    assert count(storage, name) == 3


def test_a_grant_is_remembered_for_longer_than_any_token_of_it() -> None:
    """A purged grant would no longer say that it was revoked."""
    longest = Lifetimes.model_fields["access_token_seconds"].metadata
    assert max(getattr(bound, "le", 0) for bound in longest) + KEPT_SECONDS["access_tokens"] < GRANT_SECONDS
