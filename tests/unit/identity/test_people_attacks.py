"""What attackers of people's accounts would achieve, and do not."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import pyotp
import pytest
from authenticator_support import Authenticator
from people_world import PASSWORD, START, Browser, World, kinds, world
from sqlalchemy import select

from stockade.identity import audit
from stockade.identity.mfa import passkeys, recovery, totp
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people import sessions, sign_in
from stockade.identity.people.cookies import BROWSER, DEVICE, SESSION, SIGN_IN
from stockade.identity.people.passwords import Passwords
from stockade.identity.people.sign_in import NextStep, Refusal, Refused, SignedIn
from stockade.identity.storage.schema import metadata

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.identity.people.sessions import Session

WRONG = Refused(Refusal.WRONG)


async def first_step(here: World, browser: Browser, username: str = "alice") -> sign_in.Outcome:
    outcome = await sign_in.with_password(here.services, browser.request, username, PASSWORD)
    if not isinstance(outcome, Refused):
        browser.take(*outcome.cookies)
    return outcome


async def enrolled(here: World, browser: Browser) -> tuple[Session, str]:
    """Alice with an authenticator app: her session and its secret."""
    here.user()
    outcome = await first_step(here, browser)
    assert isinstance(outcome, SignedIn)
    enrolment = await totp.begin(here.services, browser.request, outcome.session)
    assert isinstance(enrolment, totp.TotpEnrolment)
    code = pyotp.TOTP(enrolment.secret).at(int(here.clock()))
    done = await totp.confirm(here.services, browser.request, outcome.session, enrolment.ticket, code)
    assert not isinstance(done, FactorProblem)
    browser.take(done[1])
    here.clock.now += 60
    return done[0], enrolment.secret


# Who exists?


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer_and_leave_the_same_traces(tmp_path: Path) -> None:
    """User enumeration by text: answer, cookies, audit rows, budgets."""

    async def story() -> None:
        from stockade.identity import admin_people

        async with world(tmp_path) as here:
            here.user()
            here.user("disabled")
            admin_people.disable_user(here.storage, "disabled")
            here.user("passwordless", None)
            await enrolled_as(here, "careful")
            before = len(kinds(here))
            names = ("alice", "disabled", "passwordless", "careful", "nobody", "Ünknown")
            for name in names:
                browser = Browser(address=f"192.0.2.{names.index(name) + 20}")
                outcomes = [
                    await sign_in.with_password(here.services, browser.request, name, "wrong-guess-9") for _ in range(7)
                ]
                assert outcomes == [WRONG] * 5 + [Refused(Refusal.WAIT, 30)] * 2
            rows = here.read(lambda connection: list(audit.read(connection)))[before:]
            assert [row.event.kind for row in rows] == (["sign_in.failed"] * 5 + ["sign_in.throttled"]) * len(names)
            # What was typed and belongs to nobody is not kept.
            assert "nobody" not in repr(rows)
            assert "wrong-guess" not in repr(rows)

    asyncio.run(story())


async def enrolled_as(here: World, username: str) -> None:
    """Somebody with a second factor."""
    here.user(username)
    browser = Browser(address="192.0.2.99")
    outcome = await first_step(here, browser, username)
    assert isinstance(outcome, SignedIn)
    enrolment = await totp.begin(here.services, browser.request, outcome.session)
    assert isinstance(enrolment, totp.TotpEnrolment)
    code = pyotp.TOTP(enrolment.secret).at(int(here.clock()))
    done = await totp.confirm(here.services, browser.request, outcome.session, enrolment.ticket, code)
    assert not isinstance(done, FactorProblem)


def test_a_wrong_name_costs_the_work_of_a_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User enumeration by timing, counted: argon2 calls, reads, writes and statements."""

    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            counted: dict[str, int] = {}
            lanes = here.services.lanes
            for name in ("read", "write"):
                original = getattr(lanes, name)

                async def counting(work: object, name: str = name, original: object = original) -> object:
                    counted[name] = counted.get(name, 0) + 1
                    return await original(work)  # type: ignore[operator]

                monkeypatch.setattr(lanes, name, counting)
            costs = []
            for name in ("alice", "nobody"):
                counted.clear()
                before = here.services.passwords.computed
                assert await sign_in.with_password(here.services, Browser().request, name, "wrong-guess-9") == WRONG
                costs.append((here.services.passwords.computed - before, dict(counted)))
            assert costs[0] == costs[1] == (1, {"read": 1, "write": 2})

    asyncio.run(story())


def test_a_wrong_name_takes_the_time_of_a_wrong_password(tmp_path: Path) -> None:
    """User enumeration by timing, measured with real parameters; coarse, since the machine is shared."""

    async def story() -> None:
        limits = {"people": {"pair_burst": 1_000, "network_burst": 1_000, "name_burst": 1_000}}
        async with world(tmp_path, throttling=limits) as here:
            here.services.passwords = Passwords()
            here.user()
            times: dict[str, list[float]] = {"alice": [], "nobody": []}
            for _ in range(12):
                for name, taken in times.items():
                    start = time.perf_counter()
                    assert await sign_in.with_password(here.services, Browser().request, name, "wrong-guess-9") == WRONG
                    taken.append(time.perf_counter() - start)
            known, unknown = (statistics.median(times[name]) for name in ("alice", "nobody"))
            # A name looked up without argon2 would be ten times faster.
            assert 0.5 < known / unknown < 2

    asyncio.run(story())


# Second factors


def test_one_code_of_an_app_signs_in_once_however_many_try_at_once(tmp_path: Path) -> None:
    """TOTP replay: seen over a shoulder, or sent twice at the same moment."""

    async def story() -> None:
        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            code = pyotp.TOTP(secret).at(int(here.clock()))
            browsers = [Browser(address=f"192.0.2.{n + 50}") for n in range(4)]
            for browser in browsers:
                assert isinstance(await first_step(here, browser), NextStep)
            race = [sign_in.with_code(here.services, browser.request, code) for browser in browsers]
            outcomes = await asyncio.gather(*race)
            assert sum(isinstance(one, SignedIn) for one in outcomes) == 1
            assert outcomes.count(WRONG) == 3
            late = Browser(address="192.0.2.60")
            await first_step(here, late)
            here.clock.now += 29
            assert await sign_in.with_code(here.services, late.request, code) == WRONG

    asyncio.run(story())


@pytest.mark.parametrize(("drift", "good"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_code_is_good_for_one_step_either_way(tmp_path: Path, drift: int, good: bool) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            here.clock.now += 300
            browser = Browser()
            await first_step(here, browser)
            code = pyotp.TOTP(secret).at(int(here.clock()) + drift)
            outcome = await sign_in.with_code(here.services, browser.request, code)
            assert isinstance(outcome, SignedIn) is good

    asyncio.run(story())


def test_an_older_code_is_spent_by_a_newer_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            app = pyotp.TOTP(secret)
            for drift, good in ((30, True), (0, False), (30, False)):
                browser = Browser()
                await first_step(here, browser)
                outcome = await sign_in.with_code(here.services, browser.request, app.at(int(here.clock()) + drift))
                assert isinstance(outcome, SignedIn) is good

    asyncio.run(story())


def test_codes_cannot_be_guessed_by_who_knows_the_password(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            own = Browser()
            _, secret = await enrolled(here, own)
            thief, outcomes = Browser(address="203.0.113.1"), []
            for n in range(8):
                if n % 3 == 0:  # starting over does not help
                    await first_step(here, thief)
                outcomes.append(await sign_in.with_code(here.services, thief.request, f"{n:06}"))
            assert outcomes == [WRONG] * 5 + [Refused(Refusal.WAIT, 300)] * 3
            # Another kind of code has a budget of its own, and the owner's browser too.
            await recovery_codes(here, own)
            await first_step(here, thief)
            guesses = [await sign_in.with_code(here.services, thief.request, "aaaa-bbbb-cccc-dddd") for _ in range(6)]
            assert guesses == [WRONG] * 5 + [Refused(Refusal.WAIT, 300)]
            here.clock.now += 30
            assert isinstance(await first_step(here, own), NextStep)
            code = pyotp.TOTP(secret).at(int(here.clock()))
            assert isinstance(await sign_in.with_code(here.services, own.request, code), SignedIn)

    asyncio.run(story())


async def recovery_codes(here: World, browser: Browser) -> tuple[str, ...]:
    session = await sessions.current(here.services, browser.request)
    assert session is not None
    codes = await recovery.regenerate(here.services, browser.request, session)
    assert not isinstance(codes, FactorProblem), codes
    return codes


def test_a_recovery_code_is_good_once_however_many_try_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            own = Browser()
            await enrolled(here, own)
            codes = await recovery_codes(here, own)
            assert len(set(codes)) == 10
            assert all(len(code) == 19 for code in codes)
            browsers = [Browser(address=f"192.0.2.{n + 50}") for n in range(4)]
            for browser in browsers:
                await first_step(here, browser)
            race = [sign_in.with_code(here.services, browser.request, codes[0].upper()) for browser in browsers]
            outcomes = await asyncio.gather(*race)
            winners = [one for one in outcomes if isinstance(one, SignedIn)]
            assert len(winners) == 1
            assert winners[0].session.acr == "mfa"
            assert here.fresh(winners[0].session.user).recovery_codes == 9
            assert kinds(here).count("recovery_code.used") == 1
            new = await recovery_codes(here, own)
            for code, good in ((codes[1], False), (new[1].replace("-", " "), True)):
                browser = Browser()
                await first_step(here, browser)
                outcome = await sign_in.with_code(here.services, browser.request, code)
                assert isinstance(outcome, SignedIn) is good

    asyncio.run(story())


def test_one_persons_recovery_code_is_nobody_elses(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            own, other = Browser(), Browser(address="192.0.2.99")
            await enrolled(here, own)
            codes = await recovery_codes(here, own)
            await enrolled_as(here, "bob")
            await first_step(here, other, "bob")
            assert await sign_in.with_code(here.services, other.request, codes[0]) == WRONG

    asyncio.run(story())


# Steps out of order


def test_a_step_cannot_be_taken_in_another_browser_twice_or_late(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            browser, thief = Browser(), Browser(address="203.0.113.1")
            await first_step(here, browser)
            thief.cookies[SIGN_IN] = browser.cookies[SIGN_IN]
            app = pyotp.TOTP(secret)
            expired = Refused(Refusal.EXPIRED)
            assert await sign_in.with_code(here.services, thief.request, app.at(int(here.clock()))) == expired
            kept = dict(browser.cookies)
            done = await sign_in.with_code(here.services, browser.request, app.at(int(here.clock())))
            assert isinstance(done, SignedIn)
            browser.cookies = kept
            here.clock.now += 60
            assert await sign_in.with_code(here.services, browser.request, app.at(int(here.clock()))) == expired
            await first_step(here, browser)
            here.clock.now += sign_in.STEP_SECONDS
            assert await sign_in.with_code(here.services, browser.request, app.at(int(here.clock()))) == expired
            # Without a browser to bind it to nothing begins.
            del browser.cookies[BROWSER]
            assert await first_step(here, browser) == expired

    asyncio.run(story())


def test_a_person_disabled_between_two_steps_gets_no_session(tmp_path: Path) -> None:
    async def story() -> None:
        from stockade.identity import admin_people

        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            browser = Browser()
            await first_step(here, browser)
            admin_people.disable_user(here.storage, "alice")
            admin_people.enable_user(here.storage, "alice")
            code = pyotp.TOTP(secret).at(int(here.clock()))
            assert await sign_in.with_code(here.services, browser.request, code) == Refused(Refusal.EXPIRED)

    asyncio.run(story())


def test_a_first_step_is_no_session_and_the_new_password_step_is_not_the_code_step(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await enrolled(here, Browser())
            browser = Browser()
            await first_step(here, browser)
            browser.cookies[SESSION] = browser.cookies[SIGN_IN]
            assert await sessions.current(here.services, browser.request) is None
            skipped = await sign_in.with_new_password(here.services, browser.request, "four-brown-kettles")
            assert skipped == Refused(Refusal.EXPIRED)

    asyncio.run(story())


# The database


def test_a_stolen_database_yields_no_usable_credential(tmp_path: Path) -> None:
    """Every column of every table is searched for every secret that was used, in each of its spellings."""

    async def story() -> None:
        async with world(tmp_path) as here:
            own = Browser()
            session, secret = await enrolled(here, own)
            codes = await recovery_codes(here, own)
            phone = Authenticator()
            options = await passkeys.registration_options(here.services, own.request, session)
            assert isinstance(options, dict)
            await passkeys.register(here.services, own.request, session, phone.create(options), "phone")
            waiting = Browser()
            await first_step(here, waiting)
            unfinished = await totp.begin(here.services, own.request, session)
            assert isinstance(unfinished, totp.TotpEnrolment)
            secrets = {
                "password": PASSWORD,
                "session": own.cookies[SESSION],
                "browser": own.cookies[BROWSER],
                "device": own.cookies[DEVICE],
                "step": waiting.cookies[SIGN_IN],
                "totp": secret,
                "totp bytes": pyotp.TOTP(secret).byte_secret(),
                "unconfirmed totp": pyotp.TOTP(unfinished.secret).byte_secret(),
                "ticket": unfinished.ticket,
                "challenge": options["challenge"],
                "recovery code": codes[0],
                "recovery code, compact": codes[0].replace("-", ""),
                "passkey": phone.key.private_numbers().private_value.to_bytes(32, "big"),
            }
            found = list(search(here, secrets))
            assert found == []
            # The search finds what is there.
            assert list(search(here, {"name": "alice"}))
            files = whole_folder(tmp_path)
            assert b"alice" in files
            for name, value in secrets.items():
                assert as_bytes(value) not in files, name

    asyncio.run(story())


def whole_folder(folder: Path) -> bytes:
    """The database with its write-ahead log, deleted rows and all."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


def search(here: World, secrets: dict[str, str | bytes]) -> list[str]:
    found = []
    for table in metadata.sorted_tables:
        for row in here.read(lambda connection, table=table: connection.execute(select(table)).all()):
            for column, value in row._mapping.items():
                stored = as_bytes(value if isinstance(value, str | bytes) else str(value))
                for name, secret in secrets.items():
                    plain = as_bytes(secret)
                    if any(form in stored for form in (plain, plain.hex().encode())):
                        found.append(f"{name} in {table.name}.{column}")
    return found


def as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def test_what_the_database_holds_opens_nothing_when_played_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            own = Browser()
            await enrolled(here, own)
            await first_step(here, thief := Browser(address="203.0.113.5"))
            values = [
                value
                for table in metadata.sorted_tables
                for row in here.read(lambda connection, table=table: connection.execute(select(table)).all())
                for value in row
                if isinstance(value, bytes)
            ]
            assert len(values) > 10
            from authenticator_support import b64

            for value in values:
                for text in (b64(value), value.hex(), b64(value)[:43]):
                    for name in (SESSION, SIGN_IN, DEVICE):
                        thief.cookies[name] = text
                    assert await sessions.current(here.services, thief.request) is None
                    assert await sign_in.waiting(here.services, thief.request) is None

    asyncio.run(story())


def test_a_totp_secret_moved_to_another_account_opens_nothing(tmp_path: Path) -> None:
    """Who can write to the database and swaps rows gets an error, not an account."""

    async def story() -> None:
        from sqlalchemy import update

        from stockade.identity.errors import KeysUnavailable
        from stockade.identity.storage.schema import totp_secrets, users

        async with world(tmp_path) as here:
            _, secret = await enrolled(here, Browser())
            victim = here.user("bob")
            with here.storage.write() as connection:
                connection.execute(update(totp_secrets).values(user_id=victim.user_id))
                assert connection.execute(select(users.c.user_id)).all()
            browser = Browser()
            assert isinstance(await first_step(here, browser, "bob"), NextStep)
            code = pyotp.TOTP(secret).at(int(here.clock()))
            with pytest.raises(KeysUnavailable):
                await sign_in.with_code(here.services, browser.request, code)

    asyncio.run(story())


def test_the_story_starts_in_the_future_of_no_code() -> None:
    """Guards the tests above: their clock is theirs, so that no code is right by the real time."""
    assert abs(time.time() - START) > 86_400
