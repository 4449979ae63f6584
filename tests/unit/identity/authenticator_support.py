"""An authenticator in software: what a browser's WebAuthn would answer, with every part that can be got wrong."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
ORIGIN = "https://id.example.com"


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One passkey. `counter` None: it has none, as synced passkeys do."""

    origin: str = ORIGIN
    flags: int = UP | UV | BE | BS
    counter: int | None = 0
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    user_handle: str = ""

    def create(self, options: dict[str, Any], **client_data: Any) -> str:
        """`RegistrationResponseJSON` for `PublicKeyCredentialCreationOptionsJSON`."""
        self.user_handle = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(cose)
        data = self._authenticator_data(options["rp"]["id"], AT) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        return self._credential(
            {
                "clientDataJSON": b64(self._client_data("webauthn.create", options["challenge"], client_data)),
                "attestationObject": b64(attestation),
                "transports": ["internal", "nonsense"],
            }
        )

    def get(self, options: dict[str, Any], **client_data: Any) -> str:
        """`AuthenticationResponseJSON` for `PublicKeyCredentialRequestOptionsJSON`."""
        if self.counter is not None:
            self.counter += 1
        data = self._authenticator_data(options["rpId"])
        told = self._client_data("webauthn.get", options["challenge"], client_data)
        signature = self.key.sign(data + sha256(told).digest(), ec.ECDSA(SHA256()))
        return self._credential(
            {
                "clientDataJSON": b64(told),
                "authenticatorData": b64(data),
                "signature": b64(signature),
                "userHandle": self.user_handle,
            }
        )

    def _client_data(self, kind: str, challenge: str, changes: dict[str, Any]) -> bytes:
        told = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **changes}
        return json.dumps(told).encode()

    def _authenticator_data(self, rp_id: str, flags: int = 0) -> bytes:
        return sha256(rp_id.encode()).digest() + bytes([self.flags | flags]) + (self.counter or 0).to_bytes(4, "big")

    def _credential(self, response: dict[str, Any]) -> str:
        name = b64(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
