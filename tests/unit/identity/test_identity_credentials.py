"""The form of credentials (docs/contracts.md §8)."""

from __future__ import annotations

import binascii
import hashlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.identity.credentials import Kind, digest, generate, kind_of

# Written out from the contract, so that the gateway's authors can hold theirs against it.
VECTOR = "stk_at_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def checksum(body: str) -> str:
    return urlsafe_b64encode(binascii.crc32(body.encode()).to_bytes(4, "big")).decode().rstrip("=")


@pytest.mark.parametrize("kind", Kind)
def test_a_generated_credential_is_of_its_kind(kind: Kind) -> None:
    text = generate(kind)
    assert len(text) == 56
    assert kind_of(text) is kind
    assert text[:50] + checksum(text[:50]) == text


def test_the_checksum_is_crc32_of_all_before_it() -> None:
    text = VECTOR + checksum(VECTOR)
    assert kind_of(text) is Kind.ACCESS_TOKEN
    assert len(checksum(VECTOR)) == 6


def test_no_two_credentials_are_alike() -> None:
    assert len({generate(Kind.ACCESS_TOKEN) for _ in range(1_000)}) == 1_000


@given(st.integers(0, 55), st.characters(codec="utf-8"))
def test_any_one_changed_character_is_noticed(position: int, replacement: str) -> None:
    text = VECTOR + checksum(VECTOR)
    changed = text[:position] + replacement + text[position + 1 :]
    assert changed == text or kind_of(changed) is None


@given(st.text())
def test_any_text_has_a_kind_or_none(text: str) -> None:
    assert kind_of(text) in (None, *Kind)


def test_a_digest_is_sha256_of_the_whole() -> None:
    assert digest("stk_at_x") == hashlib.sha256(b"stk_at_x").digest()
