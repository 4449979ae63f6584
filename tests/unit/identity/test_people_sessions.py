"""Sessions: who holds the cookie is who signed in, as long as it should be and not longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from people_world import PASSWORD, Browser, World, kinds, world
from sqlalchemy import insert, select

from stockade.identity import admin_people
from stockade.identity.people import sessions, sign_in
from stockade.identity.people.assurance import CODE, MFA, PASSKEY, PHR, PWD, acr_of, amr_of, satisfies, weakest
from stockade.identity.people.assurance import PASSWORD as BY_PASSWORD
from stockade.identity.people.cookies import SESSION, Cookie, new_browser, read_secret
from stockade.identity.people.sign_in import SignedIn
from stockade.identity.storage.revocations import read_after
from stockade.identity.storage.schema import grants
from stockade.identity.storage.schema import sessions as table

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.identity.people.sessions import Session
    from stockade.identity.storage.users import UserRecord


async def begin(here: World, browser: Browser, user: UserRecord, proofs: tuple[str, ...] = BY_PASSWORD) -> Session:
    session, cookie = await sessions.begin(here.services, browser.request, user, proofs)
    browser.take(cookie)
    return session


def grant(here: World, session: Session, grant_id: str, *, online: bool = True) -> None:
    with here.storage.write() as connection:
        connection.execute(
            insert(grants).values(
                grant_id=grant_id,
                client_id="c_1",
                user_id=session.user.user_id,
                session_id=session.session_id if online else None,
                scopes="a",
                created_at=1,
                expires_at=9_999_999_999,
            )
        )


def revoked(here: World) -> list[tuple[str, str | None]]:
    return [(entry.kind.value, entry.subject_id) for entry in here.read(lambda connection: read_after(connection, 0))]


def test_assurance_is_ordered_and_unknown_values_satisfy_nothing() -> None:
    assert [acr_of(proofs) for proofs in (BY_PASSWORD, CODE, ("hwk",), BY_PASSWORD + CODE, PASSKEY)] == [
        PWD, PWD, PWD, MFA, PHR,
    ]  # fmt: skip
    assert amr_of(("otp", "pwd")) == ("pwd", "otp", "mfa")
    assert amr_of(PASSKEY) == ("hwk", "user", "mfa")
    for have, wanted, holds in [
        (PWD, PWD, True), (PWD, MFA, False), (MFA, PHR, False), (PHR, MFA, True), (PHR, PWD, True),
        (PWD, None, True), (PHR, "urn:other", False), ("urn:other", PWD, False), ("", PWD, False),
    ]:  # fmt: skip
        assert satisfies(have, wanted) is holds, (have, wanted)
    assert weakest(["phr", "urn:other", "mfa"]) == MFA
    assert weakest(["urn:other"]) is None


def test_a_session_fixed_before_is_worth_nothing_after_signing_in(tmp_path: Path) -> None:
    """Session fixation: the attacker plants a cookie and waits."""

    async def story() -> None:
        async with world(tmp_path) as here:
            user, attacker, victim = here.user(), Browser(), Browser()
            mallory = here.user("mallory")
            await begin(here, attacker, mallory)
            for planted in (attacker.cookies[SESSION], new_browser().value):
                victim.cookies[SESSION] = planted
                outcome = await sign_in.with_password(here.services, victim.request, "alice", PASSWORD)
                assert isinstance(outcome, SignedIn)
                victim.take(*outcome.cookies)
                assert victim.cookies[SESSION] != planted
                attacker.cookies[SESSION] = planted
                assert await sessions.current(here.services, attacker.request) is None
                found = await sessions.current(here.services, victim.request)
                assert found is not None
                assert found.user.user_id == user.user_id

    asyncio.run(story())


def test_each_rise_of_assurance_kills_the_secret_from_before(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser, thief = here.user(), Browser(), Browser()
            session = await begin(here, browser, user)
            thief.cookies[SESSION] = browser.cookies[SESSION]
            here.clock.now += 100
            raised = await sessions.raise_assurance(here.services, browser.request, session, CODE)
            assert raised is not None
            browser.take(raised[1])
            assert (raised[0].session_id, raised[0].acr) == (session.session_id, MFA)
            # A code does not make the sign-in younger.
            assert raised[0].auth_time == session.auth_time
            assert await sessions.current(here.services, thief.request) is None
            again = await sessions.raise_assurance(here.services, browser.request, raised[0], PASSKEY)
            assert again is not None
            assert (again[0].acr, again[0].auth_time) == (PHR, session.auth_time + 100)

    asyncio.run(story())


def test_signing_in_again_keeps_the_session_and_is_worth_what_was_shown_now(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await begin(here, browser, user, BY_PASSWORD + CODE)
            grant(here, session, "g_online")
            here.clock.now += 3_600
            again = await begin(here, browser, user)
            assert again.session_id == session.session_id
            assert (again.acr, again.auth_time) == (PWD, session.auth_time + 3_600)
            assert revoked(here) == []

    asyncio.run(story())


def test_another_person_in_the_same_browser_ends_the_session_that_was_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser()
            session = await begin(here, browser, here.user())
            other = await begin(here, browser, here.user("bob"))
            assert other.session_id != session.session_id
            assert revoked(here) == [("session", session.session_id)]

    asyncio.run(story())


@pytest.mark.parametrize(("idle", "alive"), [(8 * 3_600 - 1, True), (8 * 3_600, False)])
def test_an_idle_session_ends(tmp_path: Path, idle: int, alive: bool) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            await begin(here, browser, user)
            here.clock.now += idle
            assert (await sessions.current(here.services, browser.request) is not None) is alive
            assert len(await sessions.list_sessions(here.services, user)) == alive

    asyncio.run(story())


def test_a_session_ends_after_its_whole_life_however_busy_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, sessions={"idle_seconds": 7_200, "seconds": 86_400}) as here:
            browser = Browser()
            await begin(here, browser, here.user())
            seen = 0
            while await sessions.current(here.services, browser.request) is not None:
                here.clock.now += 3_600
                seen += 1
                assert seen <= 24
            assert seen == 24

    asyncio.run(story())


def test_last_seen_is_written_once_a_minute_at_most(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser()
            session = await begin(here, browser, here.user())
            seen = []
            for _ in range(4):
                here.clock.now += 30
                await sessions.current(here.services, browser.request)
                seen.append(here.read(lambda connection: connection.execute(select(table.c.last_seen_at)).scalar()))
            start = session.last_seen_at
            assert seen == [start, start + 60, start + 60, start + 120]

    asyncio.run(story())


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "ä" * 43, "x" * 9_999])
def test_a_made_up_cookie_is_nobodys(tmp_path: Path, secret: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser()
            await begin(here, browser, here.user())
            browser.cookies[SESSION] = secret
            request = browser.request if secret.isascii() else Browser().request
            assert await sessions.current(here.services, request) is None

    asyncio.run(story())


def test_disabling_a_person_ends_sessions_at_once_and_for_good(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await begin(here, browser, user)
            grant(here, session, "g_online")
            grant(here, session, "g_offline", online=False)
            admin_people.disable_user(here.storage, "alice")
            assert await sessions.current(here.services, browser.request) is None
            assert revoked(here) == [
                ("user", user.user_id), ("session", session.session_id), ("grant", "g_online"),
            ]  # fmt: skip
            admin_people.enable_user(here.storage, "alice")
            assert await sessions.current(here.services, browser.request) is None
            assert here.fresh(user).generation == user.generation + 1
            # One that was begun with the record from before is dead at birth.
            await begin(here, browser, user)
            assert await sessions.current(here.services, browser.request) is None

    asyncio.run(story())


def test_ending_a_session_revokes_what_depends_on_it_and_only_that(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser, other = here.user(), Browser(), Browser()
            session, second = await begin(here, browser, user), await begin(here, other, user)
            grant(here, session, "g_online")
            grant(here, session, "g_offline", online=False)
            grant(here, second, "g_other")
            await sessions.end(here.services, session, "signed_out", browser.request)
            await sessions.end(here.services, session, "signed_out", browser.request)
            assert revoked(here) == [("session", session.session_id), ("grant", "g_online")]
            assert kinds(here).count("sign_out") == 1
            dead = here.read(
                lambda connection: connection.execute(
                    select(grants.c.grant_id).where(grants.c.revoked_at.is_not(None))
                ).scalars().all()
            )  # fmt: skip
            assert dead == ["g_online"]
            assert await sessions.current(here.services, browser.request) is None
            assert await sessions.current(here.services, other.request) is not None

    asyncio.run(story())


def test_a_person_ends_their_other_sessions_but_nobody_elses(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            alice, bob = here.user(), here.user("bob")
            browsers = [Browser() for _ in range(4)]
            mine = [await begin(here, browser, alice) for browser in browsers[:3]]
            theirs = await begin(here, browsers[3], bob)
            services, request = here.services, browsers[0].request
            assert not await sessions.end_by_id(services, mine[0], theirs.session_id, request)
            assert not await sessions.end_by_id(services, mine[0], "s_unknown", request)
            assert await sessions.end_by_id(services, mine[0], mine[1].session_id, request)
            listed = await sessions.list_sessions(services, alice)
            assert {one.session_id for one in listed} == {mine[0].session_id, mine[2].session_id}
            assert await sessions.end_others(services, mine[0], request) == 1
            assert [one.session_id for one in await sessions.list_sessions(services, alice)] == [mine[0].session_id]
            assert await sessions.current(services, browsers[3].request) is not None

    asyncio.run(story())


def test_a_session_that_ended_cannot_rise(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser()
            session = await begin(here, browser, here.user())
            await sessions.end(here.services, session, "revoked")
            assert await sessions.raise_assurance(here.services, browser.request, session, CODE) is None

    asyncio.run(story())


def test_what_a_browser_says_of_itself_is_kept_short_and_printable(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser(address="2001:db8:1:2:3:4:5:6", agent="x\x1b[31m" + "y" * 999)
            session = await begin(here, browser, here.user())
            assert session.user_agent == ("x[31m" + "y" * 999)[:256]
            assert session.address == "2001:db8:1:2:3:4:5:6"

    asyncio.run(story())


def test_cookies_are_locked_to_the_host_and_their_secret_stays_out_of_reprs() -> None:
    cookie = Cookie(SESSION, "secret-value")
    assert cookie.header == "__Host-stockade_session=secret-value; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert "secret-value" not in repr(cookie)
    assert read_secret(Browser().request, SESSION) is None
