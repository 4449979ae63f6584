"""The device page's side of the device grant (RFC 8628 §3.3, §5): finding a code, deciding, and being guessed at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from people_world import Browser, World, world

from stockade.identity import admin, audit, device
from stockade.identity.browser import ensure_browser
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.interactions import Decision, DeviceRequest, Step, load, next_step, start
from stockade.identity.people import sessions
from stockade.identity.storage import device_codes as table
from stockade.identity.storage.clients import find_client

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from stockade.identity.interactions import Interaction
    from stockade.identity.people.sessions import Session

    Story = Callable[[World], Coroutine[Any, Any, None]]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ADDRESS = "192.0.2.9"


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], None]:
    def run(story: Story) -> None:
        async def told() -> None:
            async with world(tmp_path, scopes=["orders:read"]) as here:
                await story(here)

        asyncio.run(told())

    return run


def pending(here: World) -> tuple[str, str]:
    """A device code and its user code."""
    client = admin.create_client(
        here.storage,
        f"tv-{generate(Kind.DEVICE_CODE)[-8:]}",
        ["orders:read"],
        "none",
        metadata=ClientMetadata(grant_types=(GRANT,), first_party=True),
    )
    device_code, user_code = generate(Kind.DEVICE_CODE), device.make_user_code()
    row = table.NewDeviceCode(
        digest=digest(device_code),
        user_code_digest=device.user_code_digest(here.services, user_code),
        client_id=client.client_id,
        client_generation=0,
        scopes=("orders:read",),
        audience="https://api.example.com",
        acr_values=(),
        dpop_jkt=None,
        interval_seconds=5,
        expires_at=int(here.clock()) + 600,
    )
    with here.storage.write() as connection:
        table.insert_device_code(connection, row)
    return device_code, user_code


async def begin(here: World, user_code: str) -> tuple[Interaction, Session]:
    """The person signs in, types the code, and sees the question."""
    browser = Browser()
    session, cookie = await sessions.begin(here.services, browser.request, here.user(f"u{user_code.lower()}"), ("pwd",))
    browser.take(cookie)
    found = await device.find(here.services, device.shown(user_code).lower(), ADDRESS)
    assert found is not None
    interaction = await start(here.services, found.request, found.client, ensure_browser(browser.request), session)
    return interaction, session


def status(here: World, device_code: str) -> str:
    found = here.read(lambda connection: table.find_device_code(connection, digest(device_code), here.clock()))
    assert found is not None
    return str(found.status)


def test_an_approval_says_who_gave_it_and_is_in_the_record(play: Callable[[Story], None]) -> None:
    async def story(here: World) -> None:
        device_code, user_code = pending(here)
        interaction, session = await begin(here, user_code)
        assert await device.decide(here.services, interaction, session, Decision.ALLOWED, ADDRESS)
        found = here.read(lambda connection: table.find_device_code(connection, digest(device_code), here.clock()))
        assert found.status == table.APPROVED
        assert (found.authorization.user_id, found.authorization.acr) == (session.user.user_id, "pwd")
        kinds = here.read(lambda connection: [row.event.kind for row in audit.read(connection)])
        assert "consent.given" in kinds

    play(story)


@pytest.mark.parametrize("decision", [Decision.REFUSED, Decision.UNMET])
def test_every_other_decision_denies(play: Callable[[Story], None], decision: Decision) -> None:
    async def story(here: World) -> None:
        device_code, user_code = pending(here)
        interaction, session = await begin(here, user_code)
        assert await device.decide(here.services, interaction, session, decision)
        assert status(here, device_code) == table.DENIED

    play(story)


def test_consent_is_always_asked_even_for_a_first_party_client(play: Callable[[Story], None]) -> None:
    """RFC 8628 §5.4: a code that a stranger sent along says nothing about whose device it is."""

    async def story(here: World) -> None:
        _, user_code = pending(here)
        interaction, session = await begin(here, user_code)
        assert next_step(interaction, session, ["orders:read"], here.clock()) is Step.CONSENT

    play(story)


def test_a_code_that_expired_while_the_person_thought_gives_the_device_nothing(play: Callable[[Story], None]) -> None:
    """And the interaction's decision is not recorded either."""

    async def story(here: World) -> None:
        device_code, user_code = pending(here)
        browser = Browser()
        session, cookie = await sessions.begin(here.services, browser.request, here.user(), ("pwd",))
        browser.take(cookie)
        here.clock.now += 300
        found = await device.find(here.services, user_code, ADDRESS)
        assert found is not None
        asked = await start(here.services, found.request, found.client, ensure_browser(browser.request), session)
        here.clock.now += 301
        assert not await device.decide(here.services, asked, session, Decision.ALLOWED)
        assert status(here, device_code) == table.PENDING
        kept = await load(here.services, asked.secret, ensure_browser(browser.request))
        assert kept is not None
        assert kept.decision is None

    play(story)


def test_a_code_is_decided_once(play: Callable[[Story], None]) -> None:
    """Two people who were sent the same code: the first decides."""

    async def story(here: World) -> None:
        device_code, user_code = pending(here)
        one, session = await begin(here, user_code)
        found = await device.find(here.services, user_code, ADDRESS)
        assert found is not None
        browser = Browser()
        other, _ = await sessions.begin(here.services, browser.request, here.user("mallory"), ("pwd",))
        two = await start(here.services, found.request, found.client, ensure_browser(browser.request), other)
        assert await device.decide(here.services, one, session, Decision.REFUSED)
        assert not await device.decide(here.services, two, other, Decision.ALLOWED)
        assert status(here, device_code) == table.DENIED
        assert await device.find(here.services, user_code, ADDRESS) is None

    play(story)


def test_guessing_user_codes_is_stopped_by_network(play: Callable[[Story], None]) -> None:
    """RFC 8628 §5.1. Another network goes on, and right codes cost nothing."""

    async def story(here: World) -> None:
        _, user_code = pending(here)
        for _ in range(30):
            assert await device.find(here.services, user_code, "2001:db8::1") is not None
        for last in range(device.GUESSES):
            assert await device.find(here.services, "BCDF-BCDF", f"2001:db8::{last}") is None
        with pytest.raises(device.TooManyGuessesError) as refused:
            await device.find(here.services, user_code, "2001:db8::ffff")
        assert 0 < refused.value.wait_seconds <= device.GUESS_SECONDS
        assert await device.find(here.services, user_code, "2001:db8:0:1::1") is not None
        here.clock.now += device.GUESS_SECONDS
        assert await device.find(here.services, user_code, "2001:db8::1") is not None

    play(story)


def test_the_budget_is_in_the_database_so_a_second_server_gives_no_more(play: Callable[[Story], None]) -> None:
    async def story(here: World) -> None:
        from dataclasses import replace

        from stockade.identity.client_auth.throttle import Throttle

        for _ in range(device.GUESSES):
            await device.find(here.services, "BCDF-BCDF", ADDRESS)
        second = replace(here.services, throttle=Throttle(here.services.config.throttling))
        with pytest.raises(device.TooManyGuessesError):
            await device.find(second, "BCDF-BCDG", ADDRESS)

    play(story)


def test_a_typing_error_costs_no_guess(play: Callable[[Story], None]) -> None:
    async def story(here: World) -> None:
        _, user_code = pending(here)
        for _ in range(2 * device.GUESSES):
            assert await device.find(here.services, "BCDF-BCDA", ADDRESS) is None
        assert await device.find(here.services, user_code, ADDRESS) is not None

    play(story)


def test_the_code_of_a_disabled_client_is_not_found(play: Callable[[Story], None]) -> None:
    async def story(here: World) -> None:
        _, user_code = pending(here)
        found = await device.find(here.services, user_code, ADDRESS)
        assert found is not None
        admin.disable_client(here.storage, found.client.client_id)
        assert await device.find(here.services, user_code, ADDRESS) is None
        admin.enable_client(here.storage, found.client.client_id)
        assert await device.find(here.services, user_code, ADDRESS) is None

    play(story)


def test_only_device_requests_are_decided_here(play: Callable[[Story], None]) -> None:
    async def story(here: World) -> None:
        from dataclasses import replace

        _, user_code = pending(here)
        interaction, session = await begin(here, user_code)
        client = here.read(lambda connection: find_client(connection, interaction.client.client_id, 0))
        assert isinstance(interaction.request, DeviceRequest)
        wrong = replace(interaction, client=client, request=object())  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await device.decide(here.services, wrong, session, Decision.ALLOWED)

    play(story)


def test_user_codes_are_drawn_from_all_letters() -> None:
    drawn = {device.make_user_code() for _ in range(300)}
    assert len(drawn) == 300
    assert {letter for code in drawn for letter in code} == set(device.ALPHABET)
    assert len(device.ALPHABET) == 20
