"""DPoP (RFC 9449): a JWT by which the caller shows, for this one request, that it holds a private key.

The checks of §4.3 are numbered as there. A proof is good once: its `jti` is spent durably before anything is done for
it, so neither a restart nor a second server forgets. Nonces (§8) are the time under a MAC of ours: every server with
the same database makes and knows them, and none is stored.
"""

from __future__ import annotations

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

from stockade.identity.binding import Binding
from stockade.identity.binding.mtls import origin
from stockade.identity.errors import OAuthError
from stockade.identity.jose import InvalidTokenError, embedded_key, numeric_date, parse, verify
from stockade.identity.storage.assertions import use_assertion

if TYPE_CHECKING:
    from starlette.requests import Request

    from stockade.identity.keys.derive import DerivedKeys
    from stockade.identity.services import Services

# Asymmetric ones only (check 5), and none that FAPI 2.0 §5.4.1 leaves out.
ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "PS256")
# How far ahead a client's clock may be. FAPI 2.0 §5.3.2.1: up to 10 seconds must be taken, more than 60 must not.
LEEWAY_SECONDS = 10
MAX_JTI_CHARS = 256
MAX_URI_CHARS = 2_048
MAX_PROOF_CHARS = 8_192


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that verifies, for the method and URI that were asked for; not spent yet. Times are NumericDate."""

    jkt: str
    jti: str
    iat: float
    nonce: str | None
    ath: str | None

    @property
    def binding(self) -> Binding:
        """What a token is bound to by it (RFC 9449 §6.1)."""
        return Binding("jkt", self.jkt)


async def take_proof(services: Services, request: Request) -> Proof | None:
    """Check the request's proof and spend it; None where there is none.

    Raises OAuthError `invalid_dpop_proof`, or `use_dpop_nonce` (§8) with the nonce to use in `DPoP-Nonce`.
    """
    headers = request.headers.getlist("dpop")
    if not headers:
        return None
    if len(headers) > 1:  # check 1
        raise _refused(services, "there must be one proof")
    try:
        proof = read_proof(headers[0], request.method, request_uri(services, request))
    except InvalidTokenError as error:
        raise _refused(services, str(error)) from None
    require_nonce(services, proof)
    age = services.clock() - proof.iat
    if not -LEEWAY_SECONDS <= age <= services.config.dpop.max_age_seconds:  # check 11
        raise _refused(services, "the proof is too old, or from the future")
    if not await _spend(services, proof):
        raise _refused(services, "the proof was used before")
    return proof


def read_proof(text: str, method: str, uri: str) -> Proof:
    """Checks 2 to 9 of RFC 9449 §4.3. Raises InvalidTokenError, whose message holds nothing of the proof."""
    if len(text) > MAX_PROOF_CHARS:
        raise InvalidTokenError("the proof is too large")
    token = parse(text)
    if token.typ != "dpop+jwt":
        raise InvalidTokenError("the proof's `typ` is not dpop+jwt")
    # Checks 5 and 7 before 6: a key is only used once it is known to be a public one of an allowed kind.
    key = embedded_key(text, token.alg, ALGORITHMS)
    claims = token.claims
    jti, iat = claims.get("jti"), numeric_date(claims.get("iat"))
    if not _is_text(jti, MAX_JTI_CHARS) or iat is None or not _is_text(claims.get("htm"), 16):
        raise InvalidTokenError("a required claim of the proof is missing or malformed")
    nonce, ath = (_optional_text(claims, name) for name in ("nonce", "ath"))
    verify(token, [key], ALGORITHMS)
    if claims["htm"] != method:
        raise InvalidTokenError("the proof is for another method")
    if normal_uri(claims.get("htu")) != normal_uri(uri):
        raise InvalidTokenError("the proof is for another URI")
    return Proof(key.thumbprint(), jti, iat, nonce, ath)


def request_uri(services: Services, request: Request) -> str:
    """The URI that clients call this endpoint by. The `Host` header has no say: who forwards a proof writes it."""
    return origin(services.config, request) + request.url.path


def normal_uri(value: Any) -> str:
    """Check 9: without query and fragment, normalized by syntax and scheme (RFC 3986 §6.2.2, §6.2.3).

    Raises InvalidTokenError for what is no absolute http(s) URI.
    """
    if not _is_text(value, MAX_URI_CHARS) or not _URI.fullmatch(value):
        raise InvalidTokenError("the proof's `htu` is not a URI")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidTokenError("the proof's `htu` is not a URI") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host or parts.username is not None:
        raise InvalidTokenError("the proof's `htu` is not a URI")
    authority = f"[{host}]" if ":" in host else host
    if port not in (None, _PORTS[scheme]):
        authority += f":{port}"
    return f"{scheme}://{authority}{_ESCAPED.sub(_unescape, parts.path) or '/'}"


_PORTS = {"https": 443, "http": 80}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]+")
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")


def _unescape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if _UNRESERVED.fullmatch(character) else match[0].upper()


def require_nonce(services: Services, proof: Proof) -> None:
    """Check 10. RFC 9449 §8: `use_dpop_nonce` with a fresh nonce when there is none, or one that is not ours or old."""
    if services.config.dpop.nonce and not is_nonce(services, proof.nonce):
        services.metrics.count("dpop_nonces_demanded")
        raise OAuthError(
            "use_dpop_nonce", "the proof needs the nonce of the DPoP-Nonce header", headers=nonce_headers(services)
        )


def nonce_headers(services: Services) -> dict[str, str]:
    """The header that gives a client its next nonce (§8.2)."""
    return {"DPoP-Nonce": make_nonce(services)} if services.config.dpop.nonce else {}


def make_nonce(services: Services) -> str:
    """A nonce for now: the second and its MAC."""
    moment = struct.pack(">Q", int(services.clock()))
    return urlsafe_b64encode(moment + _mac(services.derived, moment)).rstrip(b"=").decode()


def is_nonce(services: Services, nonce: str | None) -> bool:
    """Whether a server of this database made it, at most `dpop.max_age_seconds` ago."""
    if nonce is None or not _NONCE.fullmatch(nonce):
        return False
    try:
        raw = urlsafe_b64decode(nonce)
    except Base64Error:
        return False
    moment, mac = raw[:8], raw[8:]
    if not hmac.compare_digest(mac, _mac(services.derived, moment)):
        return False
    (second,) = struct.unpack(">Q", moment)
    age: float = services.clock() - second
    return -LEEWAY_SECONDS <= age <= services.config.dpop.max_age_seconds


# 24 bytes: no padding, no spare bits, so each nonce has one spelling.
_NONCE = re.compile(r"[A-Za-z0-9_-]{32}")


def _mac(derived: DerivedKeys, moment: bytes) -> bytes:
    return hmac.new(_nonce_key(derived), moment, sha256).digest()[:16]


@lru_cache(maxsize=4)
def _nonce_key(derived: DerivedKeys) -> bytes:
    return derived.key("authorization server dpop nonce")


def access_token_hash(access_token: str) -> str:
    """`ath` (RFC 9449 §4.2)."""
    return urlsafe_b64encode(sha256(access_token.encode()).digest()).rstrip(b"=").decode()


async def _spend(services: Services, proof: Proof) -> bool:
    """RFC 9449 §11.1: once. Kept for as long as the proof could pass check 11, whatever the request's clock says."""
    expires_at = int(proof.iat) + services.config.dpop.max_age_seconds + 1
    return await services.lanes.write(
        lambda connection: use_assertion(connection, f"dpop:{proof.jkt}", proof.jti, expires_at)
    )


def _refused(services: Services, description: str) -> OAuthError:
    services.metrics.count("dpop_proofs_refused")
    return OAuthError("invalid_dpop_proof", description, headers=nonce_headers(services))


def _is_text(value: Any, max_chars: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= max_chars and "\x00" not in value


def _optional_text(claims: Any, name: str) -> str | None:
    value: str | None = claims.get(name)
    if value is not None and not _is_text(value, 256):
        raise InvalidTokenError("a claim of the proof is malformed")
    return value
