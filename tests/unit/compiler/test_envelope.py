"""The signed file."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.compiler import payload_digest, read_envelope, sign
from stockade.errors import BundleError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


@given(payload=st.binary(max_size=200), serial=st.integers(0, 2**64 - 1))
def test_what_is_signed_is_read_back(payload: bytes, serial: int) -> None:
    envelope = read_envelope(sign(payload, serial, KEY), PUBLIC)
    assert (envelope.payload, envelope.serial, envelope.public_key) == (payload, serial, PUBLIC)
    assert envelope.sha256 == payload_digest(payload)


def test_the_file_is_four_lines_and_the_payload() -> None:
    bundle = sign(b"{}", 7, KEY)
    lines = bundle.split(b"\n", 4)
    assert lines[0] == b"stockade-bundle 1"
    assert lines[1] == b"serial 7"
    assert lines[2] == b"sha256 " + payload_digest(b"{}").encode()
    assert lines[3].startswith(b"ed25519 " + PUBLIC.hex().encode() + b" ")
    assert lines[4] == b"{}"
    assert bundle == sign(b"{}", 7, KEY)


@settings(max_examples=200)
@given(position=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(position: Any, change: Any) -> None:
    bundle = bytearray(sign(b'{"format": 1}', 3, KEY))
    bundle[position % len(bundle)] ^= change
    with pytest.raises(BundleError):
        read_envelope(bytes(bundle), PUBLIC)


@given(st.binary(max_size=400))
def test_no_bytes_escape_as_another_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        read_envelope(data)


def test_another_key_is_refused() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(BundleError, match="another key"):
        read_envelope(sign(b"{}", 1, other), PUBLIC)


@pytest.mark.parametrize("serial", [-1, 2**64])
def test_a_serial_out_of_range_is_refused(serial: int) -> None:
    with pytest.raises(BundleError, match="serial"):
        sign(b"{}", serial, KEY)
