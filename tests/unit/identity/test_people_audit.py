"""The audit record: complete, in order, and not to be changed without a trace."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from people_world import Browser, World, world
from sqlalchemy import delete, update

from stockade.identity import admin_people, audit
from stockade.identity.audit import AuditEvent, BrokenChainError
from stockade.identity.people import sign_in
from stockade.identity.storage.schema import audit_events, audit_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(here: World, count: int) -> None:
    with here.storage.write() as connection:
        for n in range(count):
            audit.record(connection, AuditEvent("sign_out", f"u_{n % 3}", detail={"n": n}), 1_800_000_000.25 + n)


@pytest.mark.parametrize("count", [0, 1, audit.PAGE, audit.PAGE * 2 + 1])
def test_an_untouched_record_verifies_and_every_row_is_read_once(tmp_path: Path, count: int) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            record(here, count)
            sequence, digest = admin_people.verify_audit(here.storage)
            assert sequence == count
            assert (digest == audit.GENESIS) is (count == 0)
            rows = here.read(lambda connection: list(audit.read(connection)))
            assert [row.sequence for row in rows] == list(range(1, count + 1))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("tamper", "at"),
    [
        (lambda: update(audit_events).where(audit_events.c.sequence == 3).values(detail='{"n": 9}'), 3),
        (lambda: update(audit_events).where(audit_events.c.sequence == 3).values(user_id="u_9"), 3),
        (lambda: update(audit_events).where(audit_events.c.sequence == 3).values(time=1.0), 3),
        (lambda: update(audit_events).where(audit_events.c.sequence == 3).values(digest=bytes(32)), 3),
        (lambda: delete(audit_events).where(audit_events.c.sequence == 3), 3),
        (lambda: delete(audit_events).where(audit_events.c.sequence == 1), 1),
        (lambda: delete(audit_events).where(audit_events.c.sequence == 5), 5),
        (lambda: update(audit_head).values(sequence=4), 5),
        (lambda: delete(audit_events), 1),
    ],
    ids=["detail", "person", "time", "digest", "a middle row", "the first row", "the last row", "the head", "all"],
)
def test_whatever_is_changed_is_found(tmp_path: Path, tamper: Callable[[], Any], at: int) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            record(here, 5)
            with here.storage.write() as connection:
                connection.execute(tamper())
            with pytest.raises(BrokenChainError) as broken:
                admin_people.verify_audit(here.storage)
            assert broken.value.sequence == at

    asyncio.run(story())


def test_a_record_rewritten_as_a_whole_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            record(here, 4)
            known = admin_people.verify_audit(here.storage)
            record(here, 3)
            assert admin_people.verify_audit(here.storage, known)[0] == 7
            with here.storage.write() as connection:
                connection.execute(delete(audit_events))
                connection.execute(update(audit_head).values(sequence=0, digest=audit.GENESIS))
            # Shorter than what was known, then as long but different.
            record(here, 2)
            assert admin_people.verify_audit(here.storage)[0] == 2
            for _ in range(2):
                with pytest.raises(BrokenChainError):
                    admin_people.verify_audit(here.storage, known)
                record(here, 5)

    asyncio.run(story())


def test_an_event_and_its_deed_are_there_together_or_not_at_all(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            with suppress(RuntimeError), here.storage.write() as connection:
                audit.record(connection, AuditEvent("sign_out"), 1.0)
                raise RuntimeError
            assert admin_people.verify_audit(here.storage) == (0, audit.GENESIS)

    asyncio.run(story())


def test_pages_go_on_where_the_last_one_ended_and_hold_one_person_where_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            record(here, 10)
            assert [row.sequence for row in admin_people.audit_page(here.storage, 3, 4)] == [4, 5, 6, 7]
            assert [row.sequence for row in admin_people.audit_page(here.storage, None, 2)] == [9, 10]
            assert [row.sequence for row in admin_people.audit_page(here.storage, 0, 9, "u_1")] == [2, 5, 8]
            assert admin_people.audit_page(here.storage, 10, 5) == []

    asyncio.run(story())


def test_events_written_while_the_chain_is_walked_do_not_break_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            tasks = [
                sign_in.with_password(here.services, Browser(f"192.0.2.{n}").request, "alice", "wrong-guess-9")
                for n in range(20)
            ]
            writing = asyncio.gather(*tasks)
            while not writing.done():
                await asyncio.to_thread(admin_people.verify_audit, here.storage)
            assert admin_people.verify_audit(here.storage)[0] >= 21

    asyncio.run(story())
