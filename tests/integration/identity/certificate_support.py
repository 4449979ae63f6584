"""Client certificates: a CA of a test's own, leaves of it, and self-signed ones."""

from __future__ import annotations

import datetime as dt
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stockade.identity.client_rules import certificate_jwk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_support import Server


@dataclass
class Certificate:
    """A certificate with its key, in one PEM file."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def thumbprint(self) -> str:
        return urlsafe_b64encode(sha256(self.der).digest()).rstrip(b"=").decode()

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [certificate_jwk(self.certificate)]}

    @property
    def x5c(self) -> list[str]:
        return [b64encode(self.der).decode()]


def make_certificate(
    path: Path,
    subject: str = "CN=client",
    issuer: Certificate | None = None,
    names: Sequence[x509.GeneralName] = (),
    *,
    authority: bool = False,
    days: tuple[float, float] = (-1, 1),
) -> Certificate:
    """Without `issuer` it is self-signed. `days`: from when until when, seen from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(subject)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return Certificate(certificate, key, path)


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(text: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ip_address(text))]


def with_certificate(server: Server, certificate: Certificate | None) -> httpx.Client:
    """A client of the mutual-TLS listener."""
    context = server.trust()
    if certificate is not None:
        context.load_cert_chain(str(certificate.path))
    url = f"https://localhost:{server.mtls_port}"
    return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=15)


def ask_with(http: httpx.Client, client_id: str, **fields: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_id": client_id, **fields}
    return http.post("/oauth2/token", data=form)
