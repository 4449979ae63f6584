"""Languages: complete, alike in their placeholders, and given to whoever asks for them."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.pages import languages
from stockade.identity.pages.languages import Locale, choose, locales
from stockade.identity.people.assurance import ACRS
from stockade.identity.people.passwords import PasswordProblem

PAGES = Path(languages.__file__).parent
SOURCE = PAGES.parent
ENGLISH = locales()["en"]
# Keys that are put together: a part that varies follows.
PUT_TOGETHER = (
    "account.nav_",
    "account.title_",
    "acr.",
    "consent.unverified_",
    "done.",
    "error.",
    "event.",
    "factor.",
    "password.",
    "problem.",
    "scope.",
)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("tag", sorted(locales()))
def test_every_language_has_every_text_with_the_same_placeholders(tag: str) -> None:
    locale = locales()[tag]
    assert set(locale.texts) == set(ENGLISH.texts)
    for key, text in locale.texts.items():
        assert text.strip() == text != "", key
        assert "<" not in text, f"{key} holds markup"
        assert placeholders(text) == placeholders(ENGLISH.texts[key]), key
    assert len(locale.texts["time.months"].split(" ")) == 12


def test_english_and_german_are_there() -> None:
    assert {"en", "de"} <= set(locales())


def test_a_translation_is_not_the_original() -> None:
    """Copied texts would pass for translated ones."""
    for tag, locale in locales().items():
        sentences = {key: text for key, text in locale.texts.items() if len(text) > 20 and key != "time.moment"}
        assert tag == "en" or [key for key, text in sentences.items() if text == ENGLISH.texts[key]] == []


def used_keys() -> set[str]:
    texts = [path.read_text() for suffix in ("py", "html") for path in PAGES.rglob(f"*.{suffix}")]
    return {key for text in texts for key in re.findall(r"""["']([a-z_]+\.[a-z_.]+)["']""", text)}


def test_every_text_is_used_and_none_is_missing() -> None:
    used = used_keys()
    assert {key for key in ENGLISH.texts if key not in used and not key.startswith(PUT_TOGETHER)} == set()
    tables = {key.partition(".")[0] for key in ENGLISH.texts}
    named = {key for key in used if key.partition(".")[0] in tables and not key.endswith((".html", ".js", ".css"))}
    # `consent.revoked` is an event's kind.
    assert {key for key in named if not ENGLISH.known(key) and key not in (*PUT_TOGETHER, "consent.revoked")} == set()


def test_every_problem_and_assurance_has_words() -> None:
    for problem in FactorProblem:
        assert ENGLISH.known(f"problem.{problem.value}")
    for password in PasswordProblem:
        assert ENGLISH.known(f"password.{password.value}")
    for acr in ACRS:
        assert ENGLISH.known(f"acr.{acr}")


def test_every_event_of_a_person_has_words() -> None:
    """What the audit record holds about a person, the person can read."""
    about = "sign_in|sign_out|password|factor|recovery_code|session|consent|token|code|authorization|passkey|user"
    texts = [path.read_text() for path in SOURCE.rglob("*.py") if path.parent != PAGES or path.stem == "account_apps"]
    kinds = {kind for text in texts for kind in re.findall(rf'"((?:{about})\.[a-z_]+)"', text)}
    assert {"sign_in.failed", "password.changed", "consent.revoked"} <= kinds
    assert {kind for kind in kinds if not ENGLISH.known(f"event.{kind.replace('.', '_')}")} == set()


@pytest.mark.parametrize(
    ("wanted", "header", "default", "tag"),
    [
        ((), "", "en", "en"),
        ((), "", "de", "de"),
        ((), "", "xx", "en"),
        ((), "de", "en", "de"),
        ((), "de-AT,en;q=0.5", "en", "de"),
        ((), "en;q=0.5, de;q=0.9", "en", "de"),
        ((), "en;q=0, de;q=0.1", "en", "de"),
        ((), "ja, de", "en", "de"),
        (("de",), "en", "en", "de"),
        (("xx", "DE-ch"), "en", "en", "de"),
        (("xx",), "fr", "de", "fr"),
        ((), "*;q=1, \x00, de;q=x, ;;;, en-", "de", "de"),
        ((), "a" * 100_000, "de", "de"),
        ((), "de;q=0." + "9" * 900, "en", "en"),
    ],
)
def test_who_asks_for_a_language_gets_it(wanted: tuple[str, ...], header: str, default: str, tag: str) -> None:
    assert choose(wanted, header, default).tag == tag


def test_moments_say_their_zone() -> None:
    assert ENGLISH.moment(1_764_030_600.5) == "25 November 2025, 00:30 UTC"
    assert locales()["de"].moment(0) == "1. Januar 1970, 00:00 UTC"


def test_a_missing_text_is_a_defect_not_a_gap() -> None:
    with pytest.raises(KeyError):
        Locale("xx", {}).text("sign_in.title")
