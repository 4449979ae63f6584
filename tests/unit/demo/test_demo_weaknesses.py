"""Every weakness is real: each attack of the list succeeds against the API alone, and each legitimate call works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stockade.demo.attacks import ATTACKS, LEGITIMATE, OWASP, Attack
from stockade.demo.calls import Answer, Call
from stockade.demo.weak_api.wire import tidy_path

if TYPE_CHECKING:
    from stockade.demo.calls import Place

NOT_TO_BE_HAD = {"foreign-token"}  # the test's credentials have none, so that the way round it is tested


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_attack_succeeds_against_the_api_alone(attack: Attack, shop: Place) -> None:
    call = attack.build(shop)
    if attack.id in NOT_TO_BE_HAD:
        assert call is None
        return
    assert call is not None
    answer = shop.send(call)
    assert attack.proof(answer), f"status {answer.status} {answer.error}: {answer.text[:300]}"


REFUSALS = (
    Answer(0, error="RemoteProtocolError"),
    Answer(403, {}, b'{"type": "x", "title": "Forbidden", "status": 403, "instance": "urn:uuid:0"}', (403,)),
    Answer(500, {}, b'{"type": "x", "title": "Internal", "status": 500}', (500,)),
    Answer(502, {}, b"", (502, 502)),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_refusal_is_never_taken_for_success(attack: Attack) -> None:
    assert [attack.proof(answer) for answer in REFUSALS] == [None] * len(REFUSALS)


EMPTY_SUCCESS = Answer(200, {}, b"{}", (200,))


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if attack.harmless], ids=lambda attack: attack.id
)  # fmt: skip
def test_being_served_without_the_booty_is_no_success(attack: Attack) -> None:
    assert attack.proof(EMPTY_SUCCESS) is None


def test_legitimate_calls_work_against_the_api_alone(shop: Place) -> None:
    for legitimate in LEGITIMATE:
        answer = shop.send(legitimate.build(shop))
        assert answer.status == legitimate.status, f"{legitimate.id}: {answer.text[:300]}"
        if legitimate.remember:
            shop.memory[legitimate.remember] = answer.json["id"]


def test_list_is_long_enough_and_ids_are_unique() -> None:
    assert sum(not attack.to_come for attack in ATTACKS) >= 30
    assert len(LEGITIMATE) >= 12
    ids = [entry.id for entry in (*ATTACKS, *LEGITIMATE)]
    assert len(ids) == len(set(ids))
    assert {attack.owasp for attack in ATTACKS} <= set(OWASP)


def test_both_ends_get_the_same_bytes_but_for_who_sends_them(shop: Place) -> None:
    for attack in ATTACKS:
        first, second = attack.build(shop), attack.build(shop)
        assert first == second, attack.id


def test_api_alone_takes_a_new_account_from_a_token_without_checking_it(shop: Place) -> None:
    payload = "eyJzdWIiOiAiYy1uZXcifQ"  # {"sub": "c-new"}
    call = Call("GET", "/users/me", (("Authorization", f"Bearer e30.{payload}.x"),))
    first, second = shop.send(call).json, shop.send(call).json
    assert first == second
    assert first["role"] == "customer"
    assert first["id"] > 3


@pytest.mark.parametrize(
    "raw",
    [b"/internal/debug", b"//Internal/%64ebug/", b"/a/%252e%252e/internal;x=1/debug?q=/", b"/a\\..\\internal/./debug"],
)
def test_tidy_path_folds_every_spelling_into_one(raw: bytes) -> None:
    assert tidy_path(raw) == "/internal/debug"
