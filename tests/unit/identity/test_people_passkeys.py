"""Passkeys: ours alone, once, from the browser that asked, and with the person verified."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from authenticator_support import UP, Authenticator
from people_world import PASSWORD, Browser, World, config_for, kinds, world

from stockade.identity.mfa import passkeys
from stockade.identity.mfa.changes import RECENT_SECONDS, FactorProblem
from stockade.identity.people import sign_in
from stockade.identity.people.sign_in import Method, NextStep, Refusal, Refused, SignedIn
from stockade.identity.storage.passkeys import PasskeyRecord, find_passkey

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.identity.people.sessions import Session


async def begin(here: World, browser: Browser, username: str = "alice") -> Session:
    outcome = await sign_in.with_password(here.services, browser.request, username, PASSWORD)
    assert isinstance(outcome, SignedIn), outcome
    browser.take(*outcome.cookies)
    return outcome.session


async def register(
    here: World, browser: Browser, session: Session, authenticator: Authenticator, name: str = "phone"
) -> PasskeyRecord:
    options = await passkeys.registration_options(here.services, browser.request, session)
    assert isinstance(options, dict), options
    made = await passkeys.register(here.services, browser.request, session, authenticator.create(options), name)
    assert isinstance(made, PasskeyRecord), made
    return made


def challenge(here: World, browser: Browser) -> dict[str, Any]:
    options = passkeys.authentication_options(here.services, browser.request)
    assert isinstance(options, dict)
    return options


async def show(here: World, browser: Browser, authenticator: Authenticator, **client_data: Any) -> sign_in.Outcome:
    response = authenticator.get(challenge(here, browser), **client_data)
    return await sign_in.with_passkey(here.services, browser.request, response)


def test_a_passkey_alone_is_a_phishing_resistant_sign_in(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            first, phone = Browser(), Authenticator()
            made = await register(here, first, await begin(here, first), phone)
            assert made.transports == ("internal",)
            browser = Browser()
            outcome = await show(here, browser, phone)
            assert isinstance(outcome, SignedIn)
            assert outcome.session.acr == "phr"
            assert outcome.session.amr == ("hwk", "user", "mfa")
            assert here.read(lambda connection: find_passkey(connection, phone.credential_id)).last_used_at

    asyncio.run(story())


def test_options_ask_for_what_the_server_checks_and_name_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user, browser = here.user(), Browser()
            session = await begin(here, browser)
            await register(here, browser, session, phone := Authenticator())
            made = await passkeys.registration_options(here.services, browser.request, session)
            assert isinstance(made, dict)
            assert made["rp"] == {"name": "Stockade", "id": "id.example.com"}
            assert made["authenticatorSelection"]["residentKey"] == "required"
            assert made["authenticatorSelection"]["userVerification"] == "required"
            assert made["attestation"] == "none"
            assert len(made["excludeCredentials"]) == 1
            asked = challenge(here, browser)
            assert asked["userVerification"] == "required"
            assert not asked.get("allowCredentials")
            assert user.username not in json.dumps(asked)
            assert phone.user_handle not in json.dumps(asked)

    asyncio.run(story())


def test_a_passkey_as_second_step_counts_the_password_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            first, phone = Browser(), Authenticator()
            await register(here, first, await begin(here, first), phone)
            browser = Browser()
            step = await sign_in.with_password(here.services, browser.request, "alice", PASSWORD)
            assert isinstance(step, NextStep)
            browser.take(*step.cookies)
            waiting = await sign_in.waiting(here.services, browser.request)
            assert waiting is not None
            assert waiting.methods == (Method.PASSKEY,)
            outcome = await show(here, browser, phone)
            assert isinstance(outcome, SignedIn)
            assert outcome.session.amr == ("pwd", "hwk", "user", "mfa")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("authenticator", "client_data"),
    [
        ({"origin": "https://id.example.com.evil.example"}, {}),
        ({"origin": "http://id.example.com"}, {}),
        ({"flags": UP}, {}),
        ({}, {"type": "webauthn.create"}),
        ({}, {"challenge": "AAAA"}),
    ],
    ids=["phishing site", "plain http", "nobody verified", "another ceremony", "another challenge"],
)
def test_what_was_not_asked_for_signs_nobody_in(
    tmp_path: Path, authenticator: dict[str, Any], client_data: dict[str, Any]
) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            first, phone = Browser(), Authenticator()
            await register(here, first, await begin(here, first), phone)
            for name, value in authenticator.items():
                setattr(phone, name, value)
            assert await show(here, Browser(), phone, **client_data) == Refused(Refusal.WRONG)
            assert kinds(here)[-1] == "sign_in.failed"

    asyncio.run(story())


def test_a_passkey_answer_is_good_once_and_in_its_browser_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, thief, phone = Browser(), Browser(), Authenticator(counter=None)
            await register(here, browser, await begin(here, browser), phone)
            answer = phone.get(challenge(here, browser))
            assert await sign_in.with_passkey(here.services, thief.request, answer) == Refused(Refusal.WRONG)
            race = [sign_in.with_passkey(here.services, browser.request, answer) for _ in range(5)]
            outcomes = await asyncio.gather(*race)
            assert sum(isinstance(one, SignedIn) for one in outcomes) == 1

    asyncio.run(story())


def test_a_challenge_does_not_outlive_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, phone = Browser(), Authenticator()
            await register(here, browser, await begin(here, browser), phone)
            answer = phone.get(challenge(here, browser))
            here.clock.now += passkeys.TIMEOUT_SECONDS
            assert await sign_in.with_passkey(here.services, browser.request, answer) == Refused(Refusal.WRONG)

    asyncio.run(story())


def test_a_counter_that_does_not_rise_is_taken_for_a_clone(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, phone = Browser(), Authenticator()
            await register(here, browser, await begin(here, browser), phone)
            for _ in range(2):
                assert isinstance(await show(here, browser, phone), SignedIn)
            assert phone.counter is not None
            phone.counter -= 1
            assert await show(here, browser, phone) == Refused(Refusal.WRONG)
            assert "passkey.clone_suspected" in kinds(here)

    asyncio.run(story())


def test_a_person_who_was_disabled_has_no_use_for_a_passkey(tmp_path: Path) -> None:
    async def story() -> None:
        from stockade.identity import admin_people

        async with world(tmp_path) as here:
            here.user()
            browser, phone = Browser(), Authenticator()
            await register(here, browser, await begin(here, browser), phone)
            admin_people.disable_user(here.storage, "alice")
            assert await show(here, Browser(), phone) == Refused(Refusal.WRONG)

    asyncio.run(story())


def test_another_persons_passkey_neither_registers_twice_nor_steps_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            here.user("bob")
            alice, bob, phone = Browser(), Browser(), Authenticator()
            await register(here, alice, await begin(here, alice), phone)
            session = await begin(here, bob, "bob")
            options = await passkeys.registration_options(here.services, bob.request, session)
            assert isinstance(options, dict)
            taken = await passkeys.register(here.services, bob.request, session, phone.create(options), "mine")
            assert taken is FactorProblem.WRONG
            response = phone.get(challenge(here, bob))
            refused = await sign_in.step_up_with_passkey(here.services, bob.request, session, response)
            assert refused == Refused(Refusal.WRONG)

    asyncio.run(story())


def test_registration_takes_a_fresh_session_and_leaves_its_assurance(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, phone = Browser(), Authenticator()
            session = await begin(here, browser)
            options = await passkeys.registration_options(here.services, browser.request, session)
            assert isinstance(options, dict)
            response = phone.create(options)
            made = await passkeys.register(here.services, browser.request, session, response, "a\x00b" * 99)
            assert isinstance(made, PasskeyRecord)
            assert made.name == ("ab" * 99)[: passkeys.MAX_NAME_CHARS]
            again = await passkeys.register(here.services, browser.request, session, response, "twice")
            assert again is FactorProblem.EXPIRED
            raised = await sign_in.step_up_with_passkey(
                here.services, browser.request, session, phone.get(challenge(here, browser))
            )
            assert isinstance(raised, SignedIn)
            assert (session.acr, raised.session.acr) == ("pwd", "phr")
            assert raised.session.session_id == session.session_id
            here.clock.now += RECENT_SECONDS + 1
            late = await passkeys.registration_options(here.services, browser.request, raised.session)
            assert late is FactorProblem.REAUTHENTICATE

    asyncio.run(story())


def test_the_last_factor_goes_only_when_that_was_confirmed_and_never_the_only_way_in(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            user = here.user()
            browser, phone, key = Browser(), Authenticator(), Authenticator()
            session = await begin(here, browser)
            one = await register(here, browser, session, phone)
            outcome = await show(here, browser, phone)
            assert isinstance(outcome, SignedIn)
            browser.take(*outcome.cookies)
            session = outcome.session
            two = await register(here, browser, session, key, "key")
            services, request = here.services, browser.request
            assert await passkeys.rename(services, session, two.id, "spare") is None
            assert [one.name for one in await passkeys.list_passkeys(services, user)] in (
                ["phone", "spare"], ["spare", "phone"],
            )  # fmt: skip
            assert await passkeys.remove(services, request, session, one.id) is None
            assert await passkeys.remove(services, request, session, one.id) is FactorProblem.UNKNOWN
            assert await passkeys.remove(services, request, session, two.id) is FactorProblem.CONFIRM_LAST
            with here.storage.write() as connection:
                from sqlalchemy import update

                from stockade.identity.storage.schema import users

                connection.execute(update(users).values(password_hash=None))
            only = await passkeys.remove(services, request, session, two.id, confirmed=True)
            assert only is FactorProblem.ONLY_WAY_IN

    asyncio.run(story())


def test_nobody_changes_another_persons_passkeys(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            here.user("bob")
            alice, bob, phone = Browser(), Browser(), Authenticator()
            made = await register(here, alice, await begin(here, alice), phone)
            session = await begin(here, bob, "bob")
            assert await passkeys.rename(here.services, session, made.id, "x") is FactorProblem.UNKNOWN
            removed = await passkeys.remove(here.services, bob.request, session, made.id, confirmed=True)
            assert removed is FactorProblem.UNKNOWN

    asyncio.run(story())


@pytest.mark.parametrize(
    "response",
    ["", "{", "[]", "null", '{"id": 1}', "[" * 20_000, '{"response": {"clientDataJSON": "!"}}', '{"response": []}'],
)
def test_any_answer_is_refused_rather_than_raised(tmp_path: Path, response: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            refused = await sign_in.with_passkey(here.services, Browser().request, response)
            assert refused == Refused(Refusal.WRONG)

    asyncio.run(story())


def test_damaged_answers_are_refused_rather_than_raised(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            here.user()
            browser, phone = Browser(), Authenticator(counter=None)
            session = await begin(here, browser)
            options = await passkeys.registration_options(here.services, browser.request, session)
            assert isinstance(options, dict)
            good = json.loads(phone.create(options))
            for value in ("", "AAAA", "!!", 7, None, [], "oGZub25l"):
                bad = {**good, "response": {**good["response"], "attestationObject": value}}
                made = await passkeys.register(here.services, browser.request, session, json.dumps(bad), "x")
                assert isinstance(made, FactorProblem)

    asyncio.run(story())


def test_there_are_no_passkeys_where_the_issuer_has_no_name(tmp_path: Path) -> None:
    assert passkeys.available(config_for(tmp_path))
    assert passkeys.available(config_for(tmp_path, issuer="https://localhost:8444"))
    assert not passkeys.available(config_for(tmp_path, issuer="https://127.0.0.1:8444"))
    assert not passkeys.available(config_for(tmp_path, issuer="https://[::1]:8444"))
