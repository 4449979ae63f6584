"""The same promises on PostgreSQL, with two servers on one database."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pyotp
import pytest
from authenticator_support import Authenticator
from people_world import PASSWORD, Browser, World, world

from stockade.identity import admin_people
from stockade.identity.keys.seal import Seal
from stockade.identity.mfa import passkeys, recovery, totp
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people import sessions, sign_in
from stockade.identity.people.sign_in import NextStep, Refusal, Refused, SignedIn
from stockade.identity.storage.passkeys import PasskeyRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from identity_support import Cluster

    from stockade.identity.people.sessions import Session


@pytest.fixture(scope="module")
def seal() -> Seal:
    """The key-encryption key of the one database."""
    return Seal(secrets.token_bytes(32))


@asynccontextmanager
async def two_servers(folder: Path, cluster: Cluster, seal: Seal) -> AsyncIterator[tuple[World, World]]:
    async with (
        world(folder, seal=seal, database_url=cluster.url) as one,
        world(folder, seal=seal, database_url=cluster.url) as two,
    ):
        two.clock = two.services.clock = one.clock  # type: ignore[assignment]
        yield one, two


async def with_everything(here: World, browser: Browser, username: str) -> tuple[Session, str, tuple[str, ...]]:
    here.user(username)
    outcome = await sign_in.with_password(here.services, browser.request, username, PASSWORD)
    assert isinstance(outcome, SignedIn), outcome
    browser.take(*outcome.cookies)
    enrolment = await totp.begin(here.services, browser.request, outcome.session)
    assert isinstance(enrolment, totp.TotpEnrolment)
    code = pyotp.TOTP(enrolment.secret).at(int(here.clock()))
    done = await totp.confirm(here.services, browser.request, outcome.session, enrolment.ticket, code)
    assert not isinstance(done, FactorProblem)
    browser.take(done[1])
    codes = await recovery.regenerate(here.services, browser.request, done[0])
    assert not isinstance(codes, FactorProblem)
    here.clock.now += 60
    return done[0], enrolment.secret, codes


def test_one_code_is_good_once_whichever_server_is_asked(tmp_path: Path, cluster: Cluster, seal: Seal) -> None:
    async def story() -> None:
        async with two_servers(tmp_path, cluster, seal) as (one, two):
            _, secret, codes = await with_everything(one, Browser(), "racer")
            for code in (pyotp.TOTP(secret).at(int(one.clock())), codes[0]):
                tries = []
                for n in range(6):
                    here, browser = (one, two)[n % 2], Browser(address=f"192.0.2.{n + 50}")
                    step = await sign_in.with_password(here.services, browser.request, "racer", PASSWORD)
                    assert isinstance(step, NextStep)
                    browser.take(*step.cookies)
                    tries.append(sign_in.with_code((two, one)[n % 2].services, browser.request, code))
                outcomes = await asyncio.gather(*tries)
                assert sum(isinstance(outcome, SignedIn) for outcome in outcomes) == 1, outcomes

    asyncio.run(story())


def test_a_passkey_answer_is_good_once_whichever_server_is_asked(tmp_path: Path, cluster: Cluster, seal: Seal) -> None:
    async def story() -> None:
        async with two_servers(tmp_path, cluster, seal) as (one, two):
            browser, phone = Browser(), Authenticator(counter=None)
            session, _, _ = await with_everything(one, browser, "walker")
            options = await passkeys.registration_options(one.services, browser.request, session)
            assert isinstance(options, dict)
            response = phone.create(options)
            made = await asyncio.gather(
                *[passkeys.register(here.services, browser.request, session, response, "x") for here in (one, two)]
            )
            assert sum(isinstance(record, PasskeyRecord) for record in made) == 1
            asked = passkeys.authentication_options(one.services, browser.request)
            assert isinstance(asked, dict)
            answer = phone.get(asked)
            tries = [sign_in.with_passkey(here.services, browser.request, answer) for here in (one, two, one, two)]
            assert sum(isinstance(outcome, SignedIn) for outcome in await asyncio.gather(*tries)) == 1

    asyncio.run(story())


def test_failures_count_across_servers(tmp_path: Path, cluster: Cluster, seal: Seal) -> None:
    async def story() -> None:
        async with two_servers(tmp_path, cluster, seal) as (one, two):
            one.user("target")
            tries = [
                sign_in.with_password((one, two)[n % 2].services, Browser().request, "target", "wrong-guess-9")
                for n in range(12)
            ]
            outcomes = await asyncio.gather(*tries)
            assert outcomes.count(Refused(Refusal.WRONG)) == 5
            assert sum(isinstance(one, Refused) and one.reason is Refusal.WAIT for one in outcomes) == 7

    asyncio.run(story())


def test_two_servers_under_load_do_not_wait_for_each_other(tmp_path: Path, cluster: Cluster, seal: Seal) -> None:
    """Batches lock names, networks and the audit record in the order of their callers: a deadlock, if two could."""

    async def story() -> None:
        async with two_servers(tmp_path, cluster, seal) as (one, two):
            for n in range(6):
                one.user(f"busy{n}")
            for _ in range(3):
                tries = [
                    sign_in.with_password(
                        here.services,
                        Browser(address=f"198.51.{n % 5}.{n}").request,
                        f"busy{(n * step) % 6}",
                        PASSWORD if n % 2 else "wrong-guess-9",
                    )
                    for n in range(30)
                    for step, here in ((1, one), (5, two))
                ]
                # Raises where a deadlock was broken: the database then refused one of the two.
                outcomes = await asyncio.gather(*tries)
                assert any(isinstance(outcome, SignedIn) for outcome in outcomes)

    asyncio.run(story())


def test_what_one_server_ends_is_ended_at_the_other_and_recorded_in_one_chain(
    tmp_path: Path, cluster: Cluster, seal: Seal
) -> None:
    async def story() -> None:
        async with two_servers(tmp_path, cluster, seal) as (one, two):
            browser = Browser()
            session, _, _ = await with_everything(one, browser, "leaver")
            assert await sessions.current(two.services, browser.request) is not None
            await sessions.end(one.services, session, "signed_out", browser.request)
            assert await sessions.current(two.services, browser.request) is None
            admin_people.disable_user(two.storage, "leaver")
            await asyncio.gather(
                *[
                    sign_in.with_password(here.services, Browser(f"198.51.100.{n}").request, "leaver", "wrong-guess-9")
                    for n, here in enumerate((one, two) * 10)
                ]
            )
            assert admin_people.verify_audit(one.storage) == admin_people.verify_audit(two.storage)

    asyncio.run(story())
