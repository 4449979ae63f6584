"""The way in: what each step answers, and that only the whole ladder gives a session."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyotp
import pytest
from argon2 import PasswordHasher
from people_world import PASSWORD, Browser, World, kinds, world

from stockade.identity import admin_people
from stockade.identity.errors import AdministrationError, AlreadyThereError
from stockade.identity.mfa import recovery, totp
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people import sessions, sign_in, users
from stockade.identity.people.cookies import SESSION
from stockade.identity.people.passwords import PasswordProblem, Passwords
from stockade.identity.people.sign_in import Method, NextStep, Refusal, Refused, SignedIn
from stockade.identity.storage.pending import Purpose
from stockade.identity.storage.users import password_hash

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


async def waiting_for_new_password(world_: World, browser: Browser) -> None:
    admin_people.create_user(world_.storage, "new", PASSWORD, passwords=world_.services.passwords, must_change=True)
    outcome = await sign_in.with_password(world_.services, browser.request, "new", PASSWORD)
    assert isinstance(outcome, NextStep)
    assert outcome.purpose is Purpose.NEW_PASSWORD
    browser.take(*outcome.cookies)


def test_a_password_that_an_administrator_set_is_good_for_one_sign_in(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            browser = Browser()
            await waiting_for_new_password(here, browser)
            assert await sessions.current(here.services, browser.request) is None
            weak = await sign_in.with_new_password(here.services, browser.request, "password1")
            assert weak == Refused(Refusal.NEW_PASSWORD, problem=PasswordProblem.COMMON)
            done = await sign_in.with_new_password(here.services, browser.request, "four-brown-kettles")
            assert isinstance(done, SignedIn)
            again = await sign_in.with_new_password(here.services, browser.request, "five-brown-kettles")
            assert again == Refused(Refusal.EXPIRED)
            old = await sign_in.with_password(here.services, Browser().request, "new", PASSWORD)
            assert old == Refused(Refusal.WRONG)
            new = await sign_in.with_password(here.services, Browser().request, "new", "four-brown-kettles")
            assert isinstance(new, SignedIn)
            assert "password.changed" in kinds(here)

    asyncio.run(story())


def test_the_new_password_comes_after_the_second_factor(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser = Browser()
            _, secret = await add_totp(here, browser, await sign_in_with_password(here, browser))
            admin_people.set_password(here.storage, "alice", "four-brown-kettles", passwords=here.services.passwords)
            assert await sessions.current(here.services, browser.request) is None
            here.clock.now += 60
            step = await sign_in.with_password(here.services, browser.request, "alice", "four-brown-kettles")
            assert isinstance(step, NextStep)
            assert step.purpose is Purpose.SECOND_FACTOR
            browser.take(*step.cookies)
            code = pyotp.TOTP(secret).at(int(here.clock()))
            step = await sign_in.with_code(here.services, browser.request, code)
            assert isinstance(step, NextStep)
            assert step.purpose is Purpose.NEW_PASSWORD
            browser.take(*step.cookies)
            done = await sign_in.with_new_password(here.services, browser.request, "five-brown-kettles")
            assert isinstance(done, SignedIn)
            assert done.session.acr == "mfa"

    asyncio.run(story())


def test_a_session_of_one_factor_steps_up_in_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await sign_in_with_password(here, browser)
            _, secret = await add_totp(here, Browser(), session)
            weak, cookie = await sessions.begin(here.services, browser.request, here.fresh(user), ("pwd",))
            browser.take(cookie)
            here.clock.now += 90
            assert sign_in.methods(here.services, weak.user, "mfa") == (Method.TOTP,)
            wrong = await sign_in.step_up_with_code(here.services, browser.request, weak, "000000")
            assert wrong == Refused(Refusal.WRONG)
            code = pyotp.TOTP(secret).at(int(here.clock()))
            raised = await sign_in.step_up_with_code(here.services, browser.request, weak, code)
            assert isinstance(raised, SignedIn)
            assert (raised.session.session_id, raised.session.acr) == (weak.session_id, "mfa")
            assert raised.session.auth_time == weak.auth_time

    asyncio.run(story())


def test_where_a_passkey_is_asked_for_a_code_is_not_offered(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            both = replace(here.user(), has_totp=True, passkeys=1, recovery_codes=3)
            app_only = replace(both, passkeys=0)
            everything = (Method.PASSKEY, Method.TOTP, Method.RECOVERY_CODE)
            assert sign_in.methods(here.services, both, "mfa") == everything
            assert sign_in.methods(here.services, both, None) == everything
            assert sign_in.methods(here.services, both, "phr") == (Method.PASSKEY,)
            # Nothing better is there: the endpoint decides what that is worth.
            assert sign_in.methods(here.services, app_only, "phr") == (Method.TOTP, Method.RECOVERY_CODE)

    asyncio.run(story())


def test_changing_the_password_takes_a_fresh_session_and_ends_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, other = Browser(), Browser()
            session, _ = await sign_in_with_password(here, browser), await sign_in_with_password(here, other)
            services = here.services
            refused = await users.change_password(services, browser.request, session, "alice-in-wonderland")
            assert refused is PasswordProblem.HOLDS_NAME
            before = browser.cookies[SESSION]
            changed = await users.change_password(services, browser.request, session, "four-brown-kettles")
            assert isinstance(changed, tuple)
            browser.take(changed[1])
            assert browser.cookies[SESSION] != before
            assert await sessions.current(services, browser.request) is not None
            assert await sessions.current(services, other.request) is None
            # Setting a password shows none: the sign-in is no younger for it.
            assert (changed[0].auth_time, changed[0].amr) == (session.auth_time, ("pwd",))
            assert kinds(here).count("sign_in.succeeded") == 2
            here.clock.now += 901
            late = await users.change_password(services, browser.request, changed[0], "five-brown-kettles")
            assert late is None
            old = await sign_in.with_password(services, browser.request, "alice", PASSWORD)
            assert old == Refused(Refusal.WRONG)

    asyncio.run(story())


def test_a_hash_of_weaker_parameters_is_replaced_at_the_next_sign_in(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user = here.user()
            here.services.passwords = Passwords(hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
            await sign_in_with_password(here, Browser())
            stored = here.read(lambda connection: password_hash(connection, user.user_id))
            assert stored.startswith("$argon2id$v=19$m=16,t=2,p=1$")
            await sign_in_with_password(here, Browser())

    asyncio.run(story())


@pytest.mark.parametrize("username", ["", " ", "two words", "x" * 129, "nul\x00", "zero\u200bwidth", "\ufdfa" * 60])
def test_a_name_that_nobody_can_have_is_refused_without_work(tmp_path: Path, username: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            outcome = await sign_in.with_password(here.services, Browser().request, username, PASSWORD)
            assert outcome == Refused(Refusal.WRONG)
            assert here.services.passwords.computed == 0
            with pytest.raises(AdministrationError):
                here.user(username)

    asyncio.run(story())


def test_names_that_look_alike_to_a_machine_are_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user("Stra\u00dfe")
            for same in ("STRASSE", "strasse", "\uff33trasse"):
                with pytest.raises(AlreadyThereError):
                    here.user(same)
                await sign_in_with_password(here, Browser(), same)

    asyncio.run(story())


def test_an_app_is_set_up_by_its_first_code_and_taken_away_when_confirmed(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await sign_in_with_password(here, browser)
            services, request = here.services, browser.request
            enrolment = await totp.begin(services, request, session)
            assert isinstance(enrolment, totp.TotpEnrolment)
            assert enrolment.uri.startswith("otpauth://totp/Stockade:alice?secret=" + enrolment.secret)
            assert len(enrolment.secret) == 32
            # With a size of its own a page that shows it smaller would cut the code off.
            assert re.match(r'<svg xmlns="[^"]+" viewBox="0 0 (\d+) \1">', enrolment.svg)
            assert not re.search(r"style|script|onload|<!DOCTYPE|<\?xml", enrolment.svg)
            assert enrolment.secret not in repr(enrolment)
            wrong = await totp.confirm(services, request, session, enrolment.ticket, "000000")
            assert wrong is FactorProblem.WRONG
            assert not here.fresh(user).has_totp
            code = pyotp.TOTP(enrolment.secret).at(int(here.clock()))
            assert (
                await totp.confirm(services, Browser().request, session, enrolment.ticket, code)
                is FactorProblem.EXPIRED
            )
            assert await totp.confirm(services, request, session, "x" * 43, code) is FactorProblem.EXPIRED
            done = await totp.confirm(services, request, session, enrolment.ticket, code)
            assert not isinstance(done, FactorProblem)
            assert here.fresh(user).has_totp
            twice = await totp.confirm(services, request, done[0], enrolment.ticket, code)
            assert twice is FactorProblem.EXPIRED
            # The session from before knows of no second factor, so it may not take it away.
            weak = replace(session, user=here.fresh(user))
            assert await totp.remove(services, request, weak, confirmed=True) is FactorProblem.REAUTHENTICATE
            strong = replace(done[0], user=here.fresh(user))
            codes = await recovery.regenerate(services, request, strong)
            assert len(codes) == 10
            assert await totp.remove(services, request, strong) is FactorProblem.CONFIRM_LAST
            assert await totp.remove(services, request, strong, confirmed=True) is None
            assert await totp.remove(services, request, strong, confirmed=True) is FactorProblem.UNKNOWN
            left = here.fresh(user)
            assert (left.has_totp, left.recovery_codes) == (False, 0)
            assert kinds(here).count("factor.added") == 2
            assert kinds(here).count("factor.removed") == 1
            here.clock.now += 901
            for late in (totp.begin(services, request, strong), recovery.regenerate(services, request, strong)):
                assert await late is FactorProblem.REAUTHENTICATE

    asyncio.run(story())
