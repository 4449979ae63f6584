"""The way in: what each step answers, and that only the whole ladder gives a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pyotp
from people_support import PASSWORD, Browser, World, kinds, world

from stockade.identity.mfa import totp
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people import sessions, sign_in
from stockade.identity.people.sign_in import Method, NextStep, Refusal, Refused, SignedIn
from stockade.identity.storage.pending import Purpose

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.identity.people.sessions import Session


async def sign_in_with_password(world: World, browser: Browser, username: str = "alice") -> Session:
    outcome = await sign_in.with_password(world.services, browser.request, username, PASSWORD)
    assert isinstance(outcome, SignedIn), outcome
    browser.take(*outcome.cookies)
    return outcome.session


async def add_totp(world: World, browser: Browser, session: Session) -> tuple[Session, str]:
    enrolment = await totp.begin(world.services, browser.request, session)
    assert isinstance(enrolment, totp.TotpEnrolment)
    code = pyotp.TOTP(enrolment.secret).at(int(world.clock()))
    done = await totp.confirm(world.services, browser.request, session, enrolment.ticket, code)
    assert not isinstance(done, FactorProblem), done
    browser.take(done[1])
    return done[0], enrolment.secret


def test_a_password_alone_gives_a_session_of_one_factor(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await sign_in_with_password(here, browser)
            assert (session.acr, session.amr) == ("pwd", ("pwd",))
            found = await sessions.current(here.services, browser.request)
            assert found is not None
            assert found.user.user_id == user.user_id
            assert kinds(here) == ["user.created", "sign_in.succeeded"]

    asyncio.run(story())


def test_who_has_a_second_factor_gets_no_session_without_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            first = Browser()
            session = await sign_in_with_password(here, first)
            raised, secret = await add_totp(here, first, session)
            assert (raised.acr, raised.amr) == ("mfa", ("pwd", "otp", "mfa"))
            here.clock.now += 60
            browser = Browser()
            outcome = await sign_in.with_password(here.services, browser.request, "Alice", PASSWORD)
            assert isinstance(outcome, NextStep)
            assert outcome.purpose is Purpose.SECOND_FACTOR
            browser.take(*outcome.cookies)
            assert await sessions.current(here.services, browser.request) is None
            waiting = await sign_in.waiting(here.services, browser.request)
            assert waiting is not None
            assert waiting.methods == (Method.TOTP,)
            wrong = await sign_in.with_code(here.services, browser.request, "000000")
            assert wrong == Refused(Refusal.WRONG)
            code = pyotp.TOTP(secret).at(int(here.clock()))
            done = await sign_in.with_code(here.services, browser.request, f"{code[:3]} {code[3:]}")
            assert isinstance(done, SignedIn)
            assert done.session.acr == "mfa"
            browser.take(*done.cookies)
            assert await sessions.current(here.services, browser.request) is not None

    asyncio.run(story())
