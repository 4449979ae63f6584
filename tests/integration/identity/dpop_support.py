"""A client's side of DPoP, written from RFC 9449 apart from the server's."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from identity_support import signing_key

from stockade.identity.jose import sign

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import Key


def sign_exactly(key: Key, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """ES256 over whatever stands there: what a JOSE library would refuse to write, an attacker does not."""
    parts = ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    private: Any = key.private_key  # type: ignore[attr-defined]
    r, s = decode_dss_signature(private.sign(parts.encode(), ECDSA(SHA256())))
    signature = urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
    return f"{parts}.{signature}"


@dataclass
class DpopKey:
    """A key that makes proofs, and remembers the last nonce it was given."""

    key: Key = field(default_factory=signing_key)
    alg: str = "ES256"
    nonce: str | None = None

    @property
    def jkt(self) -> str:
        return self.key.thumbprint()

    def proof(
        self, method: str, uri: str, *, header: dict[str, Any] | None = None, token: str | None = None, **claims: Any
    ) -> str:
        """A proof; a claim or header parameter given as None is left out."""
        standard: dict[str, Any] = {
            "jti": secrets.token_hex(16),
            "htm": method,
            "htu": uri,
            "iat": int(time.time()),
            "nonce": self.nonce,
        }
        if token is not None:
            standard["ath"] = urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()
        present = {name: value for name, value in {**standard, **claims}.items() if value is not None}
        parameters = {"typ": "dpop+jwt", "alg": self.alg, "jwk": self.key.as_dict(private=False), **(header or {})}
        return sign({name: value for name, value in parameters.items() if value is not None}, present, self.key)

    def post(self, http: httpx.Client, path: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """Post with a proof, again with the nonce when the server asks for one."""
        uri = str(http.base_url.join(path))
        for _ in range(2):
            answer = http.post(path, data=form, headers={**(headers or {}), "DPoP": self.proof("POST", uri)})
            self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
            if answer.json().get("error") != "use_dpop_nonce":
                break
        return answer
