"""Registering a passkey takes what was asked for, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from authenticator_support import UP, UV, Authenticator
from people_world import PASSWORD, Browser, world

from stockade.identity.mfa import passkeys
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people import sign_in
from stockade.identity.people.sign_in import SignedIn
from stockade.identity.storage.passkeys import PasskeyRecord

if TYPE_CHECKING:
    from pathlib import Path


def registered(tmp_path: Path, phone: Authenticator, changes: dict[str, Any], **client_data: Any) -> object:
    """What comes of a registration; `changes` are members of the options that the authenticator gets."""

    async def story() -> object:
        async with world(tmp_path) as here:
            here.user()
            browser = Browser()
            outcome = await sign_in.with_password(here.services, browser.request, "alice", PASSWORD)
            assert isinstance(outcome, SignedIn)
            browser.take(*outcome.cookies)
            options = await passkeys.registration_options(here.services, browser.request, outcome.session)
            assert isinstance(options, dict)
            assert options["authenticatorSelection"]["userVerification"] == "required"
            response = phone.create({**options, **changes}, **client_data)
            return await passkeys.register(here.services, browser.request, outcome.session, response, "phone")

    return asyncio.run(story())


@pytest.mark.standard("WebAuthn §7.1 (1)", "WebAuthn §7.1 (2)")
@pytest.mark.parametrize(
    ("phone", "changes", "client_data"),
    [
        ({"origin": "https://id.example.com.evil.example"}, {}, {}),
        ({"origin": "http://id.example.com"}, {}, {}),
        ({}, {"rp": {"id": "evil.example"}}, {}),
        ({}, {"challenge": "AAAA"}, {}),
        ({}, {}, {"type": "webauthn.get"}),
        ({"flags": UP}, {}, {}),
        ({"flags": UV}, {}, {}),
    ],
    ids=["phishing site", "plain http", "another party", "another challenge", "another ceremony", "nobody verified",
         "nobody present"],
)  # fmt: skip
def test_what_was_not_asked_for_is_not_registered(
    tmp_path: Path, phone: dict[str, Any], changes: dict[str, Any], client_data: dict[str, Any]
) -> None:
    assert isinstance(registered(tmp_path, Authenticator(**phone), changes, **client_data), FactorProblem)


@pytest.mark.standard("WebAuthn §7.1 (3)")
def test_a_key_of_an_algorithm_that_was_not_offered_is_not_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import authenticator_support

    def es384(key: dict[int, Any]) -> bytes:
        return real({**key, 3: -35} if 3 in key else key)

    real = authenticator_support.cbor2.dumps
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    assert isinstance(registered(tmp_path / "right", Authenticator(), {}), PasskeyRecord)
    monkeypatch.setattr(authenticator_support.cbor2, "dumps", es384)
    assert registered(tmp_path / "wrong", Authenticator(), {}) is FactorProblem.WRONG
