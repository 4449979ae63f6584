"""The form of tokens, client secrets and API keys (docs/contracts.md §8).

`<prefix>_<43 base64url characters of 256 random bits><6 characters of CRC-32>`. The prefix and checksum let secret
scanners find leaks and let anyone refuse a typo without asking; they add no secrecy. The database knows digests only.
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64encode
from enum import StrEnum
from hashlib import sha256


class Kind(StrEnum):
    """What a credential is for; the value is its prefix on the wire."""

    ACCESS_TOKEN = "stk_at"  # noqa: S105 - a prefix, not a secret
    CLIENT_SECRET = "stk_cs"  # noqa: S105
    API_KEY = "stk_ak"
    REFRESH_TOKEN = "stk_rt"  # noqa: S105
    AUTHORIZATION_CODE = "stk_ac"
    DEVICE_CODE = "stk_dc"
    INITIAL_ACCESS_TOKEN = "stk_it"  # noqa: S105
    REGISTRATION_ACCESS_TOKEN = "stk_ra"  # noqa: S105


def generate(kind: Kind) -> str:
    """Make a fresh credential of 256 random bits, 56 characters long."""
    body = f"{kind.value}_{_base64url(secrets.token_bytes(32))}"
    return body + _checksum(body)


def kind_of(text: str) -> Kind | None:
    """Tell the kind of a well-formed credential; None when prefix, alphabet, length or checksum is wrong."""
    match = _SHAPE.fullmatch(text)
    if match is None or _checksum(match["body"]) != match["checksum"]:
        return None
    return Kind(match["prefix"])


def digest(text: str) -> bytes:
    """SHA-256 of the whole credential: all that the database and the gateway's cache ever hold.

    A plain hash is enough: 256 random bits cannot be guessed, however fast each guess is.
    """
    return sha256(text.encode()).digest()


_PREFIXES = "|".join(kind.value for kind in Kind)
_SHAPE = re.compile(rf"(?P<body>(?P<prefix>{_PREFIXES})_[A-Za-z0-9_-]{{43}})(?P<checksum>[A-Za-z0-9_-]{{6}})")


def _checksum(body: str) -> str:
    return _base64url(binascii.crc32(body.encode()).to_bytes(4, "big"))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
