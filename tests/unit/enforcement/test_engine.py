"""The Python face of the engine: bundles, schemas, masking."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from vectors import NOW, load

from stockade.enforcement.engine import Engine, Request, check_schemas, open_bundle
from stockade.errors import BundleError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PAYLOAD = next(file.payload for file in load() if file.name == "routing")


def bundle(payload: bytes, serial: int = 7) -> bytes:
    signed = f"stockade-bundle 1\nserial {serial}\nsha256 {hashlib.sha256(payload).hexdigest()}\n".encode()
    return signed + f"ed25519 {PUBLIC.hex()} {KEY.sign(signed).hex()}\n".encode() + payload


def test_a_signed_bundle_opens() -> None:
    serial, digest, payload = open_bundle(bundle(PAYLOAD), PUBLIC)
    assert (serial, digest, payload) == (7, hashlib.sha256(PAYLOAD).digest(), PAYLOAD)
    assert Engine.from_bundle(bundle(PAYLOAD), PUBLIC).serial == 7


def test_a_bundle_with_another_payload_is_refused() -> None:
    with pytest.raises(BundleError, match="sha256"):
        Engine.from_bundle(bundle(PAYLOAD) + b" ", PUBLIC)


def test_a_bundle_of_another_key_is_refused() -> None:
    with pytest.raises(BundleError, match="another key"):
        open_bundle(bundle(PAYLOAD), bytes(32))


def test_a_raised_serial_is_refused() -> None:
    with pytest.raises(BundleError, match="signature"):
        open_bundle(bundle(PAYLOAD).replace(b"serial 7", b"serial 8"), PUBLIC)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(BundleError, match="unknown field"):
        Engine.from_payload(PAYLOAD.replace(b'"format"', b'"surprise": 1, "format"', 1))


def test_schemas_that_cannot_be_built_are_named() -> None:
    schemas = {
        "good": {"type": "string", "pattern": "^a+$"},
        "look_behind": {"pattern": "(?<=a)b"},
        "dangling": {"$ref": "#/$defs/nowhere"},
    }
    assert {problem.schema for problem in check_schemas("draft2020-12", schemas)} == {"look_behind", "dangling"}


def test_a_host_that_is_no_text_is_refused() -> None:
    decision = Engine.from_payload(PAYLOAD).decide_request(Request("GET", "/", [("Host", b"\xff")]), now=NOW)
    assert decision.denial is not None
    assert decision.denial.reason == "bad_host"


def test_credentials_do_not_enter_denials() -> None:
    file = next(file for file in load() if file.name == "security")
    secret = file.credentials["reader"]["secret"]
    request = Request("GET", "/orders", [("Host", "a"), ("Authorization", f"Bearer {secret}")])
    decision = Engine.from_payload(file.payload).decide_request(request, now=NOW)
    assert decision.denial is not None
    assert secret not in repr(decision)
