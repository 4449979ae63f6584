"""JSON Web Signatures: the one place where they are made and checked.

The rules of RFC 8725 for every JWT that comes in: an allow-list of asymmetric algorithms, the key chosen by us among
keys we already trust, one key one algorithm family, `crit` refused, and nothing in the header that names or carries
a key (`jku`, `jwk`, `x5u`, `x5c`) is ever looked at.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry, deserialize_compact, serialize_compact

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from joserfc._rfc7515.model import JWSAlgModel

# Algorithm → key type and, where it has one, curve. What is not here does not exist: no `none`, no HMAC.
_FAMILIES: Mapping[str, tuple[str, str | None]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
}
ALGORITHMS = tuple(_FAMILIES)
MAX_TOKEN_CHARS = 16_384
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
MAX_KEYS = 16
_RSA_BITS = range(2_048, 8_193)
# Of base64url: a modulus outside these bounds is not even handed to the library.
_RSA_MODULUS_CHARS = range(342, 1_368)
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class InvalidTokenError(ValueError):
    """A JWT that may not be believed. The message is for the log; it holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A JWT taken apart, before its signature is checked: good for choosing a key, for nothing else."""

    text: str
    alg: str
    kid: str | None
    typ: str | None
    claims: Mapping[str, Any]


class _Registry(JWSRegistry):
    """Only the algorithms of `_FAMILIES`, whatever the library registers or recommends."""

    max_header_length = 8_192

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in _FAMILIES or name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


@cache
def _registry(algorithm: str) -> _Registry:
    return _Registry(algorithms=(algorithm,), strict_check_header=False)


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], key: Key) -> str:
    """A compact JWS over the claims."""
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False)
    return serialize_compact(dict(header), payload, key, registry=_registry(header["alg"]))


def parse(text: str) -> Unverified:
    """Take a compact JWT apart. Raises InvalidTokenError."""
    if len(text) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(text):
        raise InvalidTokenError("not a compact JWS")
    encoded_header, encoded_claims, _ = text.split(".")
    header = _json_object(encoded_header)
    alg, kid, typ = (header.get(name) for name in ("alg", "kid", "typ"))
    if not isinstance(alg, str) or not isinstance(kid, str | None) or not isinstance(typ, str | None):
        raise InvalidTokenError("header parameter of the wrong type")
    if "crit" in header or "b64" in header:
        raise InvalidTokenError("critical header parameters are not understood")
    return Unverified(text, alg, kid, typ, _json_object(encoded_claims))


def verify(token: Unverified, keys: Sequence[Key], algorithms: Collection[str]) -> None:
    """Check the signature with the one key among `keys` that the header can mean. Raises InvalidTokenError.

    Whatever is wrong, one signature is computed: how long a refusal takes does not tell which keys exist.
    """
    if token.alg not in _FAMILIES or token.alg not in algorithms:
        raise InvalidTokenError("algorithm not allowed")
    candidates = [key for key in keys if _fits(key, token)]
    # Without a `kid` a set with several fitting keys is ambiguous; trying them all would invite guessing.
    key = candidates[0] if len(candidates) == 1 else None
    try:
        deserialize_compact(token.text, key or _decoy(token.alg), registry=_registry(token.alg))
    except (JoseError, ValueError, TypeError) as error:
        raise InvalidTokenError("signature does not verify" if key else "no registered key fits") from error
    if key is None:
        raise InvalidTokenError("no registered key fits")


def embedded_key(text: str, alg: str, algorithms: Collection[str]) -> Key:
    """The public key in the header of a proof of possession (RFC 9449 §4.2 `jwk`), for a token that `parse` took.

    It proves nothing but that the caller has its private half; no token of identity or authority may be checked with
    it. Raises InvalidTokenError when it is missing, private, symmetric, or not a signature key of this algorithm.
    """
    entry = _json_object(text.partition(".")[0]).get("jwk")
    if alg not in _FAMILIES or alg not in algorithms:
        raise InvalidTokenError("algorithm not allowed")
    if not isinstance(entry, dict) or PRIVATE_MEMBERS & entry.keys():
        raise InvalidTokenError("the header holds no public key, or a private one")
    # What else the key says of itself (`kid`, `use`, a certificate) has no meaning here.
    key = _import_public({name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}, (alg,))
    if key is None:
        raise InvalidTokenError("the key in the header does not fit the algorithm")
    return key


def import_public_keys(jwks: Mapping[str, Any], algorithms: Collection[str] = ALGORITHMS) -> list[Key]:
    """Read the usable keys of a JWK Set (RFC 7517 §5): signature keys of the allowed kinds; others are passed over.

    Raises InvalidTokenError when it is no JWK Set, holds too many keys, or two of them share a `kid`.
    """
    entries = jwks.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS * 4:
        raise InvalidTokenError("not a JWK Set of reasonable size")
    keys = [key for entry in entries if (key := _import_public(entry, algorithms)) is not None]
    kids = [key.kid for key in keys if key.kid is not None]
    if len(keys) > MAX_KEYS or len(kids) != len(set(kids)):
        raise InvalidTokenError("too many keys, or two with the same `kid`")
    return keys


def numeric_date(value: Any) -> float | None:
    """A NumericDate (RFC 7519 §2): a finite JSON number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _fits(key: Key, token: Unverified) -> bool:
    key_type, curve = _FAMILIES[token.alg]
    return (
        key.key_type == key_type
        and (curve is None or key.get("crv") == curve)
        and key.get("alg") in (None, token.alg)
        and (token.kid is None or key.kid == token.kid)
    )


def _import_public(entry: Any, algorithms: Collection[str]) -> Key | None:
    if not isinstance(entry, dict) or not _is_signature_key(entry, algorithms):
        return None
    # Only these members reach the library; a certificate chain or URL in a JWK is of no interest.
    members = ("kty", "crv", "x", "y", "n", "e", "kid", "alg")
    try:
        key = import_key({name: entry[name] for name in members if name in entry})
        native = key.public_key
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and getattr(native, "key_size", 0) not in _RSA_BITS:
        return None
    return key


def _is_signature_key(entry: Mapping[str, Any], algorithms: Collection[str]) -> bool:
    families = {_FAMILIES[name] for name in algorithms}
    curve = None if entry.get("kty") == "RSA" else entry.get("crv")
    operations = entry.get("key_ops")
    if entry.get("kty") == "RSA" and len(str(entry.get("n"))) not in _RSA_MODULUS_CHARS:
        return False
    return (
        (entry.get("kty"), curve) in families
        and entry.get("use") in (None, "sig")
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        and entry.get("alg") in (None, *algorithms)
    )


@cache
def _decoy(algorithm: str) -> Key:
    """A public key of the right kind that nothing was ever signed with."""
    key_type, curve = _FAMILIES[algorithm]
    if key_type == "EC":
        return ECKey.generate_key("P-256" if curve == "P-256" else "P-384")
    if key_type == "OKP":
        return OKPKey.generate_key("Ed25519")
    # Any odd number of the right length costs a verifier the same; a real key would cost us start-up time.
    modulus = secrets.randbits(2_048) | (1 << 2_047) | 1
    encoded = urlsafe_b64encode(modulus.to_bytes(256, "big")).rstrip(b"=").decode()
    return RSAKey.import_key({"kty": "RSA", "n": encoded, "e": "AQAB"})


def _json_object(encoded: str) -> dict[str, Any]:
    """Decode a base64url JSON object: duplicate names, NaN, lone surrogates and anything but an object are refused."""
    try:
        text = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        if "\\u" in text:
            # Half a character is no text (RFC 8259 §8.2): nothing after this could write it down.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("not base64url JSON") from error
    if not isinstance(value, dict):
        raise InvalidTokenError("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate name")
    return result


def _refuse(_: str) -> Any:
    raise ValueError("not a JSON number")
