"""Failures are counted so that guessing is slow, nobody is locked out by another, and nothing is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from people_world import PASSWORD, Browser, World, kinds, world
from sqlalchemy import func, select

from stockade.identity.errors import PasswordsBusy
from stockade.identity.people import sign_in
from stockade.identity.people.cookies import DEVICE
from stockade.identity.people.sign_in import Refusal, Refused, SignedIn
from stockade.identity.storage.purge import purge_once
from stockade.identity.storage.schema import sign_in_failures
from stockade.identity.storage.sign_in_failures import Bucket, give_back, refill, take

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GUESS = "wrong-guess-9"
WRONG = Refused(Refusal.WRONG)


async def guess(here: World, browser: Browser, username: str = "alice", password: str = GUESS) -> object:
    return await sign_in.with_password(here.services, browser.request, username, password)


def waits(outcome: object) -> bool:
    return isinstance(outcome, Refused) and outcome.reason is Refusal.WAIT


def strangers(count: int) -> list[Browser]:
    """Browsers of as many networks."""
    return [Browser(address=f"198.51.{n // 250}.{n % 250 + 1}") for n in range(count)]


def test_a_bucket_gives_its_burst_and_then_one_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            bucket, other = Bucket(b"a" * 32, 3, 10.0), Bucket(b"b" * 32, 99, 10.0)

            def taken(now: float) -> list[float | None]:
                with here.storage.write() as connection:
                    return [take(connection, (bucket, other), now).wait_seconds for _ in range(4)]

            assert taken(1_000.0) == [None, None, None, 10.0]
            assert taken(1_010.0) == [None, 10.0, 10.0, 10.0]
            with here.storage.write() as connection:
                give_back(connection, (bucket, other))
                assert take(connection, (bucket, other), 1_010.0).wait_seconds is None
                assert take(connection, (bucket, other), 1_010.0).wait_seconds == 10.0
                refill(connection, bucket)
                assert [take(connection, (bucket,), 1_010.0).last for _ in range(3)] == [False, False, True]

    asyncio.run(story())


def test_guessing_one_name_from_one_network_is_slowed_down(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser = Browser()
            assert [await guess(here, browser) for _ in range(5)] == [WRONG] * 5
            refused = await guess(here, browser)
            assert refused == Refused(Refusal.WAIT, retry_after_seconds=30)
            # Even the right password has to wait, or the wait would tell it.
            assert waits(await guess(here, browser, password=PASSWORD))
            # A cookie jar thrown away changes nothing, a neighbour's address in the same /64 neither.
            assert waits(await guess(here, Browser()))
            here.clock.now += 30
            assert isinstance(await guess(here, browser, password=PASSWORD), SignedIn)
            # A success forgets the failures.
            assert [await guess(here, Browser()) for _ in range(5)] == [WRONG] * 5
            assert kinds(here).count("sign_in.throttled") == 2

    asyncio.run(story())


def test_one_subscriber_of_ipv6_is_one_network(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            for n in range(5):
                await guess(here, Browser(address=f"2001:db8:0:1::{n}"))
            assert waits(await guess(here, Browser(address="2001:db8:0:1:ffff::1")))
            assert not waits(await guess(here, Browser(address="2001:db8:0:2::1")))
            assert not waits(await guess(here, Browser(address="::ffff:192.0.2.1")))

    asyncio.run(story())


def test_guessing_many_names_from_one_network_is_slowed_down(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, throttling={"people": {"network_burst": 8}}) as here:
            browser = Browser()
            outcomes = [await guess(here, browser, f"name{n}") for n in range(10)]
            assert [waits(one) for one in outcomes] == [False] * 8 + [True] * 2

    asyncio.run(story())


def test_guessing_one_name_from_many_networks_is_slowed_down(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, throttling={"people": {"name_burst": 8}}) as here:
            here.user()
            outcomes = [await guess(here, stranger) for stranger in strangers(10)]
            assert [waits(one) for one in outcomes] == [False] * 8 + [True] * 2

    asyncio.run(story())


def test_strangers_cannot_lock_a_person_out_of_their_own_browser(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, throttling={"people": {"name_burst": 8, "network_burst": 8}}) as here:
            here.user()
            own = Browser()
            outcome = await guess(here, own, password=PASSWORD)
            assert isinstance(outcome, SignedIn)
            own.take(*outcome.cookies)
            for stranger in [*strangers(10), *[Browser(address=own.address) for _ in range(10)]]:
                await guess(here, stranger)
            assert waits(await guess(here, Browser(address=own.address), password=PASSWORD))
            assert isinstance(await guess(here, own, password=PASSWORD), SignedIn)
            # Its own budget is bounded as well.
            outcomes = [await guess(here, own) for _ in range(12)]
            assert [waits(one) for one in outcomes] == [False] * 10 + [True] * 2

    asyncio.run(story())


def test_a_device_cookie_is_of_one_person_and_cannot_be_made(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, throttling={"people": {"name_burst": 3}}) as here:
            here.user()
            here.user("bob")
            own = Browser()
            for name in ("bob", "alice"):
                outcome = await guess(here, own, name, PASSWORD)
                assert isinstance(outcome, SignedIn)
                own.take(*outcome.cookies)
            for stranger in strangers(3):
                await guess(here, stranger, "alice")
                await guess(here, stranger, "carol")
            entries = own.cookies[DEVICE].split("~")
            assert len(entries) == 2
            alices, bobs = entries
            nonce, expires, mac = alices.split(".")
            for forged in (
                bobs, "", f"{nonce}.{expires}.{'A' * 43}", f"{nonce}.{int(expires) + 1}.{mac}", "x" * 4_000, "~" * 99,
            ):  # fmt: skip
                thief = Browser(address="203.0.113.9", cookies={DEVICE: forged})
                assert waits(await guess(here, thief, "alice", PASSWORD)), forged
            assert isinstance(await guess(here, own, "alice", PASSWORD), SignedIn)
            # Nor does it help with a name that does not exist, or after a year.
            assert waits(await guess(here, own, "carol"))
            here.clock.now += 366 * 86_400
            for stranger in strangers(3):
                await guess(here, stranger, "alice")
            assert waits(await guess(here, own, "alice", PASSWORD))

    asyncio.run(story())


def test_guesses_at_the_same_moment_all_count(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            outcomes = await asyncio.gather(*[guess(here, Browser()) for _ in range(20)])
            assert sum(one == WRONG for one in outcomes) == 5
            assert sum(waits(one) for one in outcomes) == 15
            assert here.services.passwords.computed == 1 + 5

    asyncio.run(story())


def test_load_does_not_count_as_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()

            async def busy(*_: object) -> bool:
                raise PasswordsBusy("too many")

            with monkeypatch.context() as patch:
                patch.setattr(type(here.services.passwords), "verify", busy)
                for _ in range(20):
                    try:
                        await guess(here, Browser(), password=PASSWORD)
                    except PasswordsBusy:
                        continue
                    raise AssertionError
            assert isinstance(await guess(here, Browser(), password=PASSWORD), SignedIn)

    asyncio.run(story())


def test_failures_outlive_a_restart_and_are_purged_when_they_no_longer_count(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            for _ in range(5):
                await guess(here, Browser())
            rows = here.read(lambda connection: connection.execute(select(sign_in_failures)).all())
            # Pair, network, name; and nothing of them in clear.
            assert len(rows) == 3
            assert not any(b"alice" in row.digest or b"192.0.2" in row.digest for row in rows)
            assert all(row.expires_at >= row.arrival for row in rows)
            with here.storage.write() as connection:
                purge_once(connection, here.clock() + 86_400, 3_600)
            count = here.read(
                lambda connection: connection.execute(select(func.count()).select_from(sign_in_failures)).scalar()
            )
            assert count == 0

    asyncio.run(story())
