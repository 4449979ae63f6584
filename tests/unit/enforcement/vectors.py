"""Reads `vectors/` (format: vectors/README.md) for whatever mount runs them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_private_key

FOLDER = Path(__file__).parents[3] / "vectors"
NOW = 1764018000
OTHER_NONCE = "A" * 22


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a proof of possession is made for, besides its request. `nonce`: the one to use now."""

    now: int = NOW
    nonce: str | None = None
    jti: str = "vector"


@dataclass(frozen=True, slots=True)
class VectorFile:
    """One file of vectors. `payload` is the bundle's, as bytes."""

    name: str
    payload: bytes
    credentials: dict[str, dict[str, Any]]
    cases: list[dict[str, Any]]
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def secrets(self, text: str) -> str:
        """Put the credentials' secrets where `{name}` stands."""
        for name, credential in self.credentials.items():
            text = text.replace("{" + name + "}", credential["secret"])
        return text

    def headers(self, request: dict[str, Any], occasion: Occasion | None = None) -> list[tuple[str, str]]:
        """The request's fields with what the format adds."""
        headers = [(name, self.secrets(value)) for name, value in request.get("headers", [])]
        names = {name.lower() for name, _ in headers}
        if "host" not in names and not request.get("no_host"):
            headers.append(("Host", "api.example"))
        if "as" in request:
            scheme = "DPoP" if "proof" in request else "Bearer"
            headers.append(("Authorization", f"{scheme} {self.credentials[request['as']]['secret']}"))
            headers += [("DPoP", proof) for proof in self._proofs(request, occasion or Occasion())]
        if "body" in request and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(body(request)))))
        return headers

    def _proofs(self, request: dict[str, Any], occasion: Occasion) -> list[str]:
        wanted = request.get("proof")
        if wanted is None:
            return []
        text = wanted.get("text")
        return [self._proof(request, wanted, occasion) if text is None else text] * wanted.get("times", 1)

    def _proof(self, request: dict[str, Any], wanted: dict[str, Any], occasion: Occasion) -> str:
        key = self.keys[wanted["key"]]
        header = _merged({"typ": "dpop+jwt", "alg": key["alg"], "jwk": key["jwk"]}, wanted.get("header", {}))
        secret = self.credentials[request["as"]]["secret"]
        nonces = {"current": occasion.nonce, "none": None, "other": OTHER_NONCE}
        claims = {
            "jti": occasion.jti,
            "htm": request["method"],
            "htu": "https://api.example" + self.secrets(request["target"]).partition("?")[0],
            "iat": occasion.now + wanted.get("iat_offset", 0),
            "ath": _encoded(hashlib.sha256(secret.encode()).digest()),
            "nonce": nonces[wanted.get("nonce", "current")],
        }
        claims = _merged({name: value for name, value in claims.items() if value is not None}, wanted.get("claims", {}))
        text = "{" + wanted.get("raw_claims", "") + json.dumps(claims)[1:]
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(text.encode())}"
        signature = bytearray(_sign(key, signed.encode()))
        if wanted.get("damaged"):
            signature[0] ^= 1
        return f"{signed}.{_encoded(bytes(signature))}"


def _merged(members: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """None takes a member away."""
    return {name: value for name, value in (members | more).items() if value is not None}


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _sign(key: dict[str, Any], signed: bytes) -> bytes:
    private = load_der_private_key(base64.b64decode(key["pkcs8"]), None)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(signed)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA256() if key["alg"] == "ES256" else hashes.SHA384()
        width = (private.key_size + 7) // 8
        r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(digest)))
        return r.to_bytes(width, "big") + s.to_bytes(width, "big")
    assert isinstance(private, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return private.sign(signed, pss if key["alg"] == "PS256" else padding.PKCS1v15(), hashes.SHA256())


def body(message: dict[str, Any]) -> bytes:
    """The message's body as bytes; empty where there is none."""
    found = message.get("body", "")
    return found.encode() if isinstance(found, str) else base64.b64decode(found["base64"])


def response_headers(response: dict[str, Any]) -> list[tuple[str, str]]:
    """The response's fields with what the format adds."""
    headers = [(name, value) for name, value in response.get("headers", [])]
    bodiless = response["status"] < 200 or response["status"] in (204, 304)
    if not bodiless and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("Content-Length", str(len(body(response)))))
    return headers


def load() -> list[VectorFile]:
    """Read every file, by name."""
    files = []
    for path in sorted(FOLDER.glob("*.json")):
        text = json.loads(path.read_text(encoding="utf-8"))
        payload = json.dumps(text["payload"], ensure_ascii=False).encode()
        files.append(VectorFile(path.stem, payload, text["credentials"], text["cases"], text.get("keys", {})))
    return files


def holds(expected: Any, found: Any) -> bool:
    """Whether all that `expected` says is so; objects are compared member by member."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(holds(value, found.get(key)) for key, value in expected.items())
    return bool(expected == found)
