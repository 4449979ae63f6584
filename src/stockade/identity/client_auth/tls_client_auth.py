"""`tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2): the certificate of the connection.

The two do not mix. A certificate counts for the first only where the handshake led to the configured `ca`, and for the
second only where its very bytes are registered: a client that registers a certificate in another's name gains nothing.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stockade.identity.binding.mtls import PeerCertificate
    from stockade.identity.clients_metadata import ClientMetadata
    from stockade.identity.storage.clients import ClientRecord

# RFC 4514 §3 and the names in use beyond it; their letter case means nothing, so each stands in three forms.
_NAMES = {
    "CN": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "businessCategory": NameOID.BUSINESS_CATEGORY,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}
_ATTRIBUTES = {form: oid for name, oid in _NAMES.items() for form in (name, name.upper(), name.lower())}


@dataclass(frozen=True, slots=True)
class CertificateCredential:
    """A client id and the certificate of the connection that it came by. `now` is when: an expired one is refused."""

    client_id: str
    certificate: PeerCertificate = field(repr=False)
    now: float

    @property
    def method(self) -> AuthMethod:
        """Which of the two it can be."""
        return AuthMethod.TLS_CLIENT_AUTH if self.certificate.by_ca else AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH

    def proves(self, client: ClientRecord | None) -> bool:
        """Whether it is the certificate that is registered for the client.

        A public client may come with a certificate, to have its tokens bound to it (RFC 8705 §4).
        """
        if client is None or not is_in_force(self.certificate.der, self.now):
            return False
        if client.auth_method is AuthMethod.TLS_CLIENT_AUTH:
            return self.certificate.by_ca and names_client(self.certificate.der, client.metadata)
        if client.auth_method is AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            return self.certificate.der in registered_certificates(client.jwks)
        return client.auth_method is AuthMethod.NONE


def registered_certificates(jwks: Mapping[str, Any] | None) -> frozenset[bytes]:
    """DER of the certificates in a JWK Set (RFC 8705 §2.2.2: the first of each `x5c`). What cannot be read is none."""
    entries = (jwks or {}).get("keys")
    chains = [entry.get("x5c") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    found = set()
    for chain in chains:
        if isinstance(chain, list) and chain and isinstance(chain[0], str):
            try:
                found.add(b64decode(chain[0], validate=True))
            except ValueError:
                continue
    return frozenset(found)


def is_in_force(der: bytes, now: float) -> bool:
    """RFC 5280 §4.1.2.5. The handshake looks too, but a connection can outlive its certificate."""
    certificate = _parsed(der)
    if certificate is None:
        return False
    return certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp()


def names_client(der: bytes, metadata: ClientMetadata) -> bool:
    """RFC 8705 §2.1.2: exactly one kind of name is registered, and the certificate has it."""
    registered = [
        (matches, value) for name, matches in _KINDS.items() if (value := getattr(metadata, name)) is not None
    ]
    certificate = _parsed(der)
    if certificate is None or len(registered) != 1:
        return False
    matches, value = registered[0]
    return matches(certificate, value)


def normal_dn(text: str) -> tuple[frozenset[tuple[str, str]], ...] | None:
    """A distinguished name by what it says, not how it is spelled (RFC 4514); None when it is none.

    Attribute names or numbers, escapes, string types and the order within one multi-valued RDN make no difference.
    Letter case and the order of RDNs do: two names that a CA may give to two parties are two.
    """
    try:
        return _normal_name(x509.Name.from_rfc4514_string(text, _ATTRIBUTES))
    except ValueError:
        return None


def _normal_name(name: x509.Name) -> tuple[frozenset[tuple[str, str]], ...]:
    return tuple(
        frozenset((attribute.oid.dotted_string, str(attribute.value)) for attribute in rdn) for rdn in name.rdns
    )


def _has_subject_dn(certificate: x509.Certificate, registered: str) -> bool:
    wanted = normal_dn(registered)
    return bool(wanted) and wanted == _normal_name(certificate.subject)


def _has_dns(certificate: x509.Certificate, registered: str) -> bool:
    return registered.lower() in (value.lower() for value in _alternative_names(certificate, x509.DNSName))


def _has_uri(certificate: x509.Certificate, registered: str) -> bool:
    return registered in _alternative_names(certificate, x509.UniformResourceIdentifier)


def _has_ip(certificate: x509.Certificate, registered: str) -> bool:
    try:
        return ip_address(registered) in _alternative_names(certificate, x509.IPAddress)
    except ValueError:
        return False


def _has_email(certificate: x509.Certificate, registered: str) -> bool:
    return registered in _alternative_names(certificate, x509.RFC822Name)


_KINDS: Mapping[str, Callable[[x509.Certificate, str], bool]] = {
    "tls_client_auth_subject_dn": _has_subject_dn,
    "tls_client_auth_san_dns": _has_dns,
    "tls_client_auth_san_uri": _has_uri,
    "tls_client_auth_san_ip": _has_ip,
    "tls_client_auth_san_email": _has_email,
}


def _alternative_names(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> Iterator[Any]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return iter(())
    return (name.value for name in names if isinstance(name, kind))


@lru_cache(maxsize=256)
def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None
