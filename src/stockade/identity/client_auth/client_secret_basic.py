"""`client_secret_basic` (RFC 6749 §2.3.1): form-urlencoded id and secret in HTTP Basic."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from stockade.identity.credentials import digest
from stockade.identity.errors import invalid_client
from stockade.identity.storage.clients import MAX_SECRETS, AuthMethod

if TYPE_CHECKING:
    from stockade.identity.storage.clients import ClientRecord

_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class BasicCredential:
    """A client id and the digest of the secret that came with it."""

    client_id: str
    secret_digest: bytes = field(repr=False)
    method = AuthMethod.CLIENT_SECRET_BASIC

    @staticmethod
    def read(header: str) -> BasicCredential:
        """Decode an `Authorization` header. Raises `invalid_client`."""
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            raise invalid_client()
        try:
            text = b64decode(encoded.strip(), validate=True).decode()
            client_id, colon, secret = text.partition(":")
            client_id, secret = (unquote_plus(part, errors="strict") for part in (client_id, secret))
        except (binascii.Error, ValueError):
            raise invalid_client() from None
        if not colon or not client_id or "\x00" in client_id:
            raise invalid_client()
        return BasicCredential(client_id, digest(secret))

    def proves(self, client: ClientRecord | None) -> bool:
        """Compare digests in constant time, always with MAX_SECRETS of them, whether the client exists or not."""
        known = client.secret_digests if client is not None and client.auth_method is self.method else ()
        padded = (*known, *[_NO_DIGEST] * MAX_SECRETS)[:MAX_SECRETS]
        matches = [hmac.compare_digest(self.secret_digest, candidate) for candidate in padded]
        return any(matches)
