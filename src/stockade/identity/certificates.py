"""Certificates that Stockade makes for itself: the internal channel's, and the development ones of `tls: auto`.

Everything is ECDSA P-256. Each call finds what is there, makes what is missing and renews what is near its end, so it
may be called at every start. Keys have mode 0600 and every file appears whole or not at all.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockade.errors import StateError
from stockade.identity.tls import GATEWAY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

CA_DAYS = 3_650
LEAF_DAYS = 90
RENEW_DAYS = 30
_CLOCK_SKEW = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class InternalCertificates:
    """Paths of PEM files for both ends of the internal channel. `ca` is what both trust."""

    ca: Path
    server_certificate: Path
    server_key: Path
    gateway_certificate: Path
    gateway_key: Path


@dataclass(frozen=True, slots=True)
class DevelopmentCertificates:
    """Paths of PEM files for `tls: auto`. `ca` is what a developer may choose to trust."""

    ca: Path
    certificate: Path
    key: Path


def make_internal_ca(folder: Path) -> InternalCertificates:
    """Make or renew the internal CA, the server's certificate and the gateway's. Raises StateError.

    The CA issues exactly two certificates: one for servers only (`localhost`, 127.0.0.1, ::1), one for clients only,
    with the common name that the internal listener asks for.
    """
    with _locked(folder):
        authority = _authority(folder / "ca.pem", folder / "ca.key", "Stockade internal CA", None)
        server = _leaf(authority, folder / "server.pem", folder / "server.key", "stockade-authorization-server", _LOCAL)
        gateway = _leaf(authority, folder / "gateway.pem", folder / "gateway.key", GATEWAY_NAME, ())
    return InternalCertificates(authority.path, *server, *gateway)


def make_development_ca(folder: Path, names: Sequence[str]) -> DevelopmentCertificates:
    """Make or renew a development CA and a server certificate for `names` (DNS names or addresses). Raises StateError.

    The CA is constrained to these names (RFC 5280 §4.2.1.10): whoever trusts it has not trusted it with the rest of
    the web. `localhost` and the loopback addresses are always among them. A name that the CA may not certify makes a
    new CA, which must be trusted anew.
    """
    wanted = tuple(dict.fromkeys((*_LOCAL, *names)))
    with _locked(folder):
        authority = _authority(folder / "ca.pem", folder / "ca.key", "Stockade development CA", wanted)
        leaf = _leaf(authority, folder / "server.pem", folder / "server.key", "stockade-development", wanted)
    return DevelopmentCertificates(authority.path, *leaf)


_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _Authority:
    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the folder is closed to others."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"cannot keep certificates in `{folder}`: {(error.strerror or 'unknown').lower()}") from error


def _authority(path: Path, key_path: Path, name: str, permitted: tuple[str, ...] | None) -> _Authority:
    found = _load(path, key_path)
    # A CA must outlive what it signs from now on.
    if found and _remaining(found[0]).days > LEAF_DAYS and _permits(found[0], permitted):
        return _Authority(path, *found)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    if permitted is not None:
        constraints = x509.NameConstraints([_constraint(item) for item in permitted], None)
        builder = builder.add_extension(constraints, critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    _store(path, certificate, key_path, key)
    return _Authority(path, certificate, key)


def _leaf(authority: _Authority, path: Path, key_path: Path, name: str, names: tuple[str, ...]) -> tuple[Path, Path]:
    """A certificate for a server when it has `names`, else for a client."""
    found = _load(path, key_path)
    current = (
        found
        and _issued_by(found[0], authority)
        and _remaining(found[0]).days > RENEW_DAYS
        and _alternative_names(found[0]) == {_general_name(item) for item in names}
    )
    if not current:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, authority.certificate.subject, key.public_key(), LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
        )
        if names:
            alternative = x509.SubjectAlternativeName([_general_name(item) for item in names])
            builder = builder.add_extension(alternative, critical=False)
        _store(path, builder.sign(authority.key, hashes.SHA256()), key_path, key)
    return path, key_path


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode())
    except (UnicodeError, ValueError) as error:
        raise StateError(f"`{name}` is neither a host name nor an address") from error


def _constraint(name: str) -> x509.GeneralName:
    """What the CA may certify for a name: that name and names below it, or that one address."""
    general = _general_name(name)
    if isinstance(general, x509.IPAddress):
        return x509.IPAddress(ip_network(name))
    return x509.DNSName(str(general.value).removeprefix("*."))


def _permits(certificate: x509.Certificate, permitted: tuple[str, ...] | None) -> bool:
    if permitted is None:
        return True
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    return {_constraint(name) for name in permitted} <= set(constraints.permitted_subtrees or ())


def _alternative_names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _issued_by(certificate: x509.Certificate, authority: _Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _remaining(certificate: x509.Certificate) -> dt.timedelta:
    return certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)


def _load(path: Path, key_path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """A certificate with its key; None when one is missing, broken, or they do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return certificate, key


def _store(path: Path, certificate: x509.Certificate, key_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Key first: a crash between the two leaves a pair that does not match, which is made anew."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key_path, encoded, 0o600)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    opener: Callable[[str, int], int] = lambda name, flags: os.open(name, flags | os.O_CLOEXEC, mode)  # noqa: E731
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=opener) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
