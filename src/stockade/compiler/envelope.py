"""The signed file around a payload: four lines, then the bytes (`docs/contracts.md` §1)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stockade.errors import BundleError

MAX_BYTES = 128 << 20
_MAX_HEADER_BYTES = 512
_HEADER = re.compile(
    rb"(stockade-bundle 1\nserial (0|[1-9][0-9]{0,19})\nsha256 ([0-9a-f]{64})\n)"
    rb"ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n"
)
_MAX_SERIAL = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """An opened bundle. `public_key` is the one that it was checked against."""

    serial: int
    sha256: str
    public_key: bytes
    payload: bytes


def payload_digest(payload: bytes) -> str:
    """SHA-256 in hex: what the bundle is called in logs, events and admin answers."""
    return hashlib.sha256(payload).hexdigest()


def sign(payload: bytes, serial: int, private_key: Ed25519PrivateKey) -> bytes:
    """The bundle file. RFC 8032 signatures are deterministic: the same inputs give the same bytes."""
    if not 0 <= serial <= _MAX_SERIAL:
        raise BundleError(f"the serial {serial} is out of range")
    signed = f"stockade-bundle 1\nserial {serial}\nsha256 {payload_digest(payload)}\n".encode()
    public_key = private_key.public_key().public_bytes_raw().hex()
    bundle = signed + f"ed25519 {public_key} {private_key.sign(signed).hex()}\n".encode() + payload
    if len(bundle) > MAX_BYTES:
        raise BundleError(f"the bundle is larger than {MAX_BYTES} bytes", hint="split the description")
    return bundle


def read_envelope(bundle: bytes, public_key: bytes | None = None) -> Envelope:
    """Open a bundle: digest and signature hold, by `public_key` (32 bytes) where given. Raises BundleError.

    Without `public_key` the file vouches for itself only: good for showing it, not for trusting it.
    """
    if len(bundle) > MAX_BYTES:
        raise BundleError(f"the bundle is larger than {MAX_BYTES} bytes")
    header = _HEADER.match(bundle[:_MAX_HEADER_BYTES])
    if header is None:
        raise BundleError("the file is not a Stockade bundle")
    signed, serial, digest, key, signature = header.groups()
    payload = bundle[header.end() :]
    if payload_digest(payload).encode() != digest:
        raise BundleError("the bundle's digest does not match its payload")
    own_key = bytes.fromhex(key.decode())
    if public_key is not None and own_key != public_key:
        raise BundleError("the bundle is signed with another key")
    if int(serial) > _MAX_SERIAL:
        raise BundleError("the bundle's serial is out of range")
    try:
        Ed25519PublicKey.from_public_bytes(own_key).verify(bytes.fromhex(signature.decode()), signed)
    except (InvalidSignature, ValueError):
        raise BundleError("the bundle's signature does not hold") from None
    return Envelope(int(serial), digest.decode(), own_key, payload)
