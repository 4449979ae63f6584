"""What must hold between the parts of a client's registration, whoever registers it.

A single value is checked by its type (clients_metadata.py). Here stands what only several together can break: a grant
without the redirect URI that it needs, a public client that should prove itself, a profile that is not kept.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.errors import JoseError
from joserfc.jwk import import_key

from stockade.identity.client_auth.private_key_jwt import ALGORITHMS
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.errors import AdministrationError
from stockade.identity.jose import InvalidTokenError, import_public_keys
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant's name
SUBJECTS = tuple(f"tls_client_auth_{name}" for name in ("subject_dn", "san_dns", "san_uri", "san_ip", "san_email"))
MAX_CERTIFICATES = 16
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
FAPI_METHODS = (AuthMethod.PRIVATE_KEY_JWT, AuthMethod.TLS_CLIENT_AUTH, AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH)


def require_coherent(method: AuthMethod, metadata: ClientMetadata) -> None:
    """Refuse a registration that could not work, or would be less safe than it says. Raises AdministrationError."""
    _require_redirects(metadata)
    _require_grants(method, metadata)
    _require_certificate_subject(method, metadata)
    if metadata.profile == "fapi2":
        _require_fapi(method, metadata)


def _require_redirects(metadata: ClientMetadata) -> None:
    """RFC 9700 §2.1, §4.1: a redirect URI is registered, never guessed. RFC 8252 §7.1: schemes of apps are for apps."""
    if "authorization_code" in metadata.grant_types and not metadata.redirect_uris:
        raise AdministrationError(
            "`authorization_code` needs a redirect URI",
            hint="say where the browser goes back to: --redirect-uri https://app.example.com/callback",
        )
    if "authorization_code" not in metadata.grant_types and metadata.redirect_uris:
        raise AdministrationError(
            "a redirect URI goes with the grant `authorization_code`", hint="add --grant authorization_code"
        )
    for uri in (*metadata.redirect_uris, *metadata.post_logout_redirect_uris):
        if metadata.application_type != "native" and not uri.startswith(("https:", "http:")):
            raise AdministrationError(f"`{uri}` is for a native application", hint="add --native")


def _require_grants(method: AuthMethod, metadata: ClientMetadata) -> None:
    grants = metadata.grant_types
    if "refresh_token" in grants and not {"authorization_code", DEVICE_CODE} & set(grants):
        raise AdministrationError(
            "`refresh_token` follows another grant", hint="add --grant authorization_code, or --grant device_code"
        )
    # RFC 6749 §4.4: client_credentials is for confidential clients; what RFC 8693 gives is worth no less.
    alone = [grant for grant in ("client_credentials", TOKEN_EXCHANGE) if grant in grants]
    if method is AuthMethod.NONE and alone:
        raise AdministrationError(
            f"a public client cannot use `{alone[0]}`", hint="it proves nothing: leave --public away, or the grant"
        )
    if metadata.exchange_audiences and TOKEN_EXCHANGE not in grants:
        raise AdministrationError("an audience to exchange towards needs the grant", hint="add --grant token_exchange")


def _require_certificate_subject(method: AuthMethod, metadata: ClientMetadata) -> None:
    """RFC 8705 §2.1.2: exactly one of the five, and for `tls_client_auth` alone."""
    given = [name for name in SUBJECTS if getattr(metadata, name) is not None]
    if method is AuthMethod.TLS_CLIENT_AUTH and len(given) != 1:
        raise AdministrationError(
            "`tls_client_auth` needs exactly one name of the certificate", hint="such as --san-dns billing.example.com"
        )
    if method is not AuthMethod.TLS_CLIENT_AUTH and given:
        raise AdministrationError(f"a certificate's name goes with `tls_client_auth`, not with `{method.value}`")


def _require_fapi(method: AuthMethod, metadata: ClientMetadata) -> None:
    """FAPI 2.0 Security Profile §5.3.2.1: confidential, by key or certificate, sender-constrained, pushed."""
    if method not in FAPI_METHODS:
        raise AdministrationError(
            f"the profile `fapi2` does not take `{method.value}`",
            hint="prove the client by a key, --jwks FILE, or by a certificate, --certificate FILE",
        )
    if not metadata.must_bind:
        raise AdministrationError(
            "the profile `fapi2` needs bound tokens", hint="add --dpop-bound or --certificate-bound"
        )
    if "authorization_code" in metadata.grant_types and not metadata.require_pushed_authorization_requests:
        raise AdministrationError("the profile `fapi2` needs pushed requests", hint="add --require-par")
    if any(uri.startswith("http:") for uri in metadata.redirect_uris):
        raise AdministrationError("the profile `fapi2` takes no http redirect URI", hint="use https")


def check_keys(method: AuthMethod, jwks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The JWK Set to store (RFC 7517): public parts only. Raises AdministrationError.

    `private_key_jwt` needs signature keys, `self_signed_tls_client_auth` certificates (`x5c`, RFC 8705 §2.2.2).
    """
    if method not in (AuthMethod.PRIVATE_KEY_JWT, AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH):
        if jwks is not None:
            raise AdministrationError("a JWK Set goes with `private_key_jwt` only")
        return None
    entries = (jwks or {}).get("keys")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise AdministrationError(f"`{method.value}` needs a JWK Set with at least one key")
    if any(_PRIVATE_MEMBERS & entry.keys() for entry in entries):
        raise AdministrationError("the JWK Set holds a private key", hint="register public keys only")
    if method is AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
        return _certificates(entries)
    return _signature_keys(entries)


def _signature_keys(entries: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        keys = import_public_keys({"keys": entries}, ALGORITHMS)
    except InvalidTokenError as error:
        raise AdministrationError(f"the JWK Set cannot be used: {error}") from error
    if len(keys) != len(entries):
        raise AdministrationError(
            "the JWK Set has a key that cannot be used",
            hint="use P-256, Ed25519, or RSA from 2048 bits, for signatures, each with its own `kid`",
        )
    return {"keys": [key.as_dict(private=False) for key in keys]}


def _certificates(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Each key anew from its certificate, so that the two cannot differ."""
    if len(entries) > MAX_CERTIFICATES:
        raise AdministrationError(f"a client has at most {MAX_CERTIFICATES} certificates")
    kept = []
    for entry in entries:
        try:
            chain: list[str] = entry["x5c"]
            (encoded,) = chain
            certificate = x509.load_der_x509_certificate(b64decode(encoded, validate=True))
        except (KeyError, ValueError, TypeError) as error:
            raise AdministrationError("each key needs its certificate: `x5c` with one entry") from error
        kept.append(certificate_jwk(certificate))
    return {"keys": kept}


def certificate_jwk(certificate: x509.Certificate) -> dict[str, Any]:
    """The certificate's public key as JWK, the certificate in `x5c` (RFC 7517 §4.7). Raises AdministrationError."""
    try:
        public = certificate.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        key = import_key(pem, _key_type(public)).as_dict(private=False)
    except (JoseError, ValueError, UnsupportedAlgorithm) as error:
        raise AdministrationError("the certificate's key is of a kind that is not supported") from error
    return key | {"x5c": [b64encode(certificate.public_bytes(Encoding.DER)).decode()]}


def _key_type(public: object) -> Literal["RSA", "EC", "OKP"]:
    if isinstance(public, RSAPublicKey):
        return "RSA"
    if isinstance(public, EllipticCurvePublicKey):
        return "EC"
    if isinstance(public, Ed25519PublicKey):
        return "OKP"
    raise ValueError("no such key type")
