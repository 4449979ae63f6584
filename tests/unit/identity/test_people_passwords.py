"""Passwords: which may be chosen, what is stored, and that checking them cannot pile up."""

from __future__ import annotations

import asyncio
import threading
from importlib.resources import files

import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st
from people_world import QUICK

from stockade.identity.errors import PasswordsBusy
from stockade.identity.people.breached import WIDTH
from stockade.identity.people.passwords import (
    MAX_CHARS,
    WAITING_EACH,
    PasswordProblem,
    Passwords,
    normalised,
    problem_of,
    usable,
)

NAMES = ("alice", "Alice Liddell", "a.liddell@example.com", "Stockade")


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("short", PasswordProblem.TOO_SHORT),
        ("x" * (MAX_CHARS + 1), PasswordProblem.TOO_LONG),
        ("tab\tin-the-middle", PasswordProblem.UNUSABLE),
        ("password1", PasswordProblem.COMMON),
        ("P@ssw0rd123!", PasswordProblem.COMMON),
        ("Trustno1!!", PasswordProblem.COMMON),
        ("qwertyuiop", PasswordProblem.COMMON),
        ("iloveyou2", PasswordProblem.COMMON),
        ("elephant", PasswordProblem.COMMON),
        ("Alice-rules-9x", PasswordProblem.HOLDS_NAME),
        ("my-LIDDELL-cat7", PasswordProblem.HOLDS_NAME),
        ("stockade-9qx4w", PasswordProblem.HOLDS_NAME),
        ("aaaaaaaaaaaa", PasswordProblem.PATTERN),
        ("12345678901234", PasswordProblem.PATTERN),
        ("98765432", PasswordProblem.PATTERN),
        ("abcdefghij", PasswordProblem.PATTERN),
        ("xyzwxyzwxyzw", PasswordProblem.PATTERN),
        ("correct horse battery staple", None),
        ("seven-green-kettles", None),
        ("zq8rk2mv", None),
        ("пароль-из-слов", None),
        ("   spaces count   ", None),
    ],
)
def test_what_may_be_chosen(password: str, problem: PasswordProblem | None) -> None:
    assert problem_of(password, NAMES) is problem


def test_the_only_factor_can_be_asked_to_be_longer() -> None:
    assert problem_of("zq8rk2mv", NAMES, 15) is PasswordProblem.TOO_SHORT
    assert problem_of("zq8rk2mv-zq8rk2m", NAMES, 15) is None


def test_the_list_is_sorted_whole_and_large() -> None:
    """A binary search in an unsorted list finds little, and says nothing of it."""
    data = files("stockade.identity.people").joinpath("breached.bin").read_bytes()
    assert len(data) % WIDTH == 0
    entries = [data[at : at + WIDTH] for at in range(0, len(data), WIDTH)]
    assert len(entries) > 80_000
    assert entries == sorted(set(entries))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=12, max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_judged_and_random_long_ones_are_rarely_common(text: str) -> None:
    assert problem_of(text, NAMES) in (None, *PasswordProblem)


def test_the_same_word_typed_differently_is_the_same_password() -> None:
    passwords = Passwords(hasher=QUICK)
    composed, decomposed = "Gr\u00fc\u00dfe-aus-\u00d6sterreich", "Gru\u0308\u00dfe-aus-O\u0308sterreich"
    wide = "\uff41\uff42\uff43-long-enough"
    assert passwords.verify_now(passwords.hash_now(composed), decomposed)
    assert passwords.verify_now(passwords.hash_now(wide), "abc-long-enough")
    assert not passwords.verify_now(passwords.hash_now(composed), composed.upper())


def test_hashes_are_argon2id_with_at_least_19_mebibytes_and_a_salt_each() -> None:
    passwords = Passwords()
    one, two = passwords.hash_now("seven-green-kettles"), passwords.hash_now("seven-green-kettles")
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != two
    assert passwords.verify_now(one, "seven-green-kettles")


def test_a_hash_of_weaker_parameters_is_told() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(normalised("x"))
    assert Passwords().outdated(weak)
    assert not Passwords(hasher=QUICK).outdated(weak)


def test_nobody_has_no_password_and_a_broken_hash_matches_nothing() -> None:
    passwords = Passwords(hasher=QUICK)
    assert not passwords.verify_now(None, "anything")
    assert not passwords.verify_now("", "anything")
    assert not passwords.verify_now("$argon2id$broken", "anything")


def test_more_callers_than_fit_are_turned_away_and_the_rest_served() -> None:
    gate = threading.Event()

    class Slow(PasswordHasher):
        def verify(self, *_: object, **__: object) -> bool:
            assert gate.wait(10)
            return True

    async def story() -> None:
        passwords = Passwords(workers=1, hasher=Slow(time_cost=1, memory_cost=8, parallelism=1))
        room = 1 + WAITING_EACH
        tasks = [asyncio.create_task(passwords.verify("hash", "x")) for _ in range(room)]
        await asyncio.sleep(0)
        with pytest.raises(PasswordsBusy):
            await passwords.verify("hash", "x")
        # Whoever goes away does not make room before the work has ended.
        tasks[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(PasswordsBusy):
            await passwords.verify("hash", "x")
        gate.set()
        assert await asyncio.gather(*tasks[1:]) == [True] * (room - 1)
        assert await passwords.verify("hash", "x")

    asyncio.run(story())


def test_the_event_loop_goes_on_while_a_password_is_hashed() -> None:
    async def story() -> None:
        passwords, turns = Passwords(), 0
        task = asyncio.create_task(passwords.hash("seven-green-kettles"))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert turns > 3

    asyncio.run(story())


def test_bounds_hold_before_and_after_normalisation() -> None:
    assert usable("x" * MAX_CHARS)
    assert not usable("")
    # U+FDFA becomes 18 characters.
    assert not usable("\ufdfa" * MAX_CHARS)
