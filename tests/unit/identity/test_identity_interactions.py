"""What is left to ask of a user, decided purely."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.errors import OAuthError
from stockade.identity.interactions import (
    AuthorizationRequest,
    Decision,
    DeviceRequest,
    Interaction,
    Step,
    next_step,
    unsaved,
)
from stockade.identity.people.assurance import ACRS, satisfies
from stockade.identity.people.sessions import Session
from stockade.identity.storage.clients import AuthMethod, ClientRecord
from stockade.identity.storage.users import UserRecord

NOW = int(time.time())
SCOPES = ("openid", "orders:read")


def client(method: AuthMethod = AuthMethod.CLIENT_SECRET_BASIC, **metadata: Any) -> ClientRecord:
    return ClientRecord("c_1", "one", method, None, SCOPES, 0, NOW, None, metadata=ClientMetadata(**metadata))


def user(user_id: str = "u_1") -> UserRecord:
    return UserRecord(
        user_id, "ada", None, None, False, None, (), 0, NOW, None, True, False, False, 0, 0
    )  # fmt: skip


def session(user_id: str = "u_1", *, acr: str = "pwd", auth_time: int = NOW - 60, session_id: str = "s_1") -> Session:
    return Session(session_id, user(user_id), auth_time, acr, ("pwd",), auth_time, NOW, NOW + 3_600, "", "")


def request(**changes: Any) -> AuthorizationRequest:
    return AuthorizationRequest("c_1", "https://app.example/cb", SCOPES, "https://api.example", "x" * 43, **changes)


def interaction(there: Session | None = None, of: ClientRecord | None = None, **changes: Any) -> Interaction:
    return unsaved(request(**changes), of or client(), there, NOW)


def error_of(outcome: object) -> str:
    assert isinstance(outcome, OAuthError)
    return outcome.error


def test_nobody_signed_in_signs_in_first() -> None:
    assert next_step(interaction(), None, SCOPES, NOW) is Step.SIGN_IN


def test_who_agreed_before_is_asked_nothing() -> None:
    assert next_step(interaction(session()), session(), SCOPES, NOW) is None
    assert next_step(interaction(session()), session(), SCOPES[:1], NOW) is Step.CONSENT


def test_a_first_party_client_asks_for_no_consent_unless_it_wants_to() -> None:
    first = client(first_party=True)
    assert next_step(interaction(session(), first), session(), (), NOW) is None
    again = interaction(session(), first, prompt=frozenset({"consent"}))
    assert next_step(again, session(), SCOPES, NOW) is Step.CONSENT


@pytest.mark.parametrize("decided_by", ["u_1", "u_2"])
def test_a_decision_counts_for_the_user_who_made_it(decided_by: str) -> None:
    decided = replace(interaction(session()), decision=Decision.ALLOWED, decided_by=decided_by)
    assert next_step(decided, session("u_1"), (), NOW) is (None if decided_by == "u_1" else Step.CONSENT)


def test_a_refusal_stands_whoever_is_there() -> None:
    for decision, error in (
        (Decision.REFUSED, "access_denied"),
        (Decision.UNMET, "unmet_authentication_requirements"),
    ):
        refused = replace(interaction(), decision=decision, decided_by="u_1")
        for there in (None, session("u_1"), session("u_2")):
            assert error_of(next_step(refused, there, SCOPES, NOW)) == error


@pytest.mark.parametrize(
    ("after", "step"),
    [
        (session(), Step.SIGN_IN),
        (session(auth_time=NOW - 1), Step.SIGN_IN),
        (session(auth_time=NOW), None),
        (session(auth_time=NOW + 5), None),
        (session(auth_time=NOW + 5, session_id="s_2"), None),
    ],
)
def test_prompt_login_wants_a_sign_in_since_the_request(after: Session, step: Step | None) -> None:
    asked = interaction(session(), prompt=frozenset({"login"}))
    assert next_step(asked, after, SCOPES, NOW + 6) is step


def test_within_one_second_only_another_sign_in_is_new() -> None:
    there = session(auth_time=NOW)
    asked = interaction(there, prompt=frozenset({"login"}))
    assert next_step(asked, there, SCOPES, NOW) is Step.SIGN_IN
    assert next_step(asked, session(auth_time=NOW, session_id="s_2"), SCOPES, NOW) is None


def test_max_age_zero_is_satisfied_by_signing_in() -> None:
    asked = interaction(session(), max_age=0)
    assert next_step(asked, session(), SCOPES, NOW) is Step.SIGN_IN
    assert next_step(asked, session(auth_time=NOW + 1), SCOPES, NOW + 30) is None


def test_a_device_is_always_asked_about() -> None:
    asked = unsaved(DeviceRequest("c_1", SCOPES, "https://api.example", "00"), client(first_party=True), session(), NOW)
    assert next_step(asked, session(), SCOPES, NOW) is Step.CONSENT


@pytest.mark.parametrize(
    ("of", "uri", "silent"),
    [
        (client(), "http://127.0.0.1:5000/cb", True),
        (client(AuthMethod.NONE), "https://app.example/cb", True),
        (client(AuthMethod.NONE), "http://127.0.0.1:5000/cb", False),
        (client(AuthMethod.NONE), "com.example.app:/cb", False),
    ],
)
def test_remembered_consent_is_for_clients_that_can_be_recognised(of: ClientRecord, uri: str, *, silent: bool) -> None:
    asked = unsaved(replace(request(), redirect_uri=uri), of, session(), NOW)
    assert next_step(asked, session(), SCOPES, NOW) is (None if silent else Step.CONSENT)


_ACR = st.sampled_from(ACRS)
_SESSIONS = st.none() | st.builds(
    session, st.sampled_from(["u_1", "u_2"]), acr=_ACR, auth_time=st.integers(NOW - 1_000, NOW + 10)
)
_PROMPTS = st.frozensets(st.sampled_from(["login", "consent", "select_account"]))


@given(
    there=_SESSIONS,
    after=_SESSIONS,
    prompt=_PROMPTS,
    max_age=st.none() | st.integers(0, 2_000),
    acr_values=st.lists(_ACR).map(tuple),
    subject=st.sampled_from([None, "u_1", "u_2"]),
    allowed=st.lists(st.sampled_from(SCOPES)),
    decision=st.sampled_from([None, *Decision]),
    decided_by=st.sampled_from(["u_1", "u_2"]),
)
def test_a_code_is_given_only_where_everything_that_was_asked_for_holds(
    there: Session | None,
    after: Session | None,
    prompt: frozenset[str],
    max_age: int | None,
    acr_values: tuple[str, ...],
    subject: str | None,
    allowed: list[str],
    decision: Decision | None,
    decided_by: str,
) -> None:
    asked = interaction(there, prompt=prompt, max_age=max_age, acr_values=acr_values, subject=subject)
    asked = replace(asked, decision=decision, decided_by=decided_by if decision else None)
    now = NOW + 10
    outcome = next_step(asked, after, allowed, now)
    silent = next_step(replace(asked, request=replace(asked.request, prompt=frozenset({"none"}))), after, allowed, now)
    assert not isinstance(silent, Step)
    if outcome is not None:
        return
    assert after is not None
    assert decision in (None, Decision.ALLOWED)
    assert subject in (None, after.user.user_id)
    assert not acr_values or any(satisfies(after.acr, acr) for acr in acr_values)
    assert "login" not in prompt or after.auth_time >= asked.started_at
    assert max_age is None or now - after.auth_time <= max_age or after.auth_time >= asked.started_at
    agreed = decision is Decision.ALLOWED and decided_by == after.user.user_id
    assert agreed or (set(SCOPES) <= set(allowed) and "consent" not in prompt)
