"""TLS of the listeners."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from stockade.errors import StateError
from stockade.identity.binding.mtls import CERTIFICATE_STATE, LISTENER_STATE, PeerCertificate
from stockade.identity.observability import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection
    from pathlib import Path

    from stockade.identity.config import InternalListener, MutualTlsListener, PublicListener

GATEWAY_NAME = "stockade-gateway"


def public_context(listener: PublicListener) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with the given certificate. Raises StateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, listener.certificate, listener.key)
    return context


def internal_context(listener: InternalListener) -> ssl.SSLContext:
    """TLS 1.3; the peer must show a certificate of the internal CA.

    OpenSSL checks a peer of a server for the purpose `clientAuth`, so the server's own certificate is not good enough.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cafile=str(listener.ca))
    except (OSError, ssl.SSLError) as error:
        raise StateError(f"cannot read the internal CA `{listener.ca}`") from error
    load_certificate(context, listener.certificate, listener.key)
    return context


class ClientCertificates:
    """TLS of the listener for client certificates (RFC 8705 §2), which takes those of `ca` and the registered ones.

    OpenSSL believes a self-signed certificate only if it is in its store, and a store cannot forget. So each
    handshake runs with the newest of a row of contexts: `register` makes another when registrations have changed. TLS
    1.3 without tickets: each connection is a full handshake, whose chain can be looked at.
    """

    def __init__(self, public: PublicListener, mtls: MutualTlsListener) -> None:
        self._public = public
        self._registered: frozenset[bytes] = frozenset()
        self._authorities = _read_authorities(mtls.ca)
        self._newest = self._make()
        # The listener's own; a handshake that has begun moves on to `_newest`.
        self.context = self._make()
        self.context.sni_callback = self._choose

    def register(self, certificates: Collection[bytes]) -> None:
        """Take these self-signed certificates (DER) and no others, from the next handshake on."""
        if self._registered != frozenset(certificates):
            self._registered = frozenset(certificates)
            self._newest = self._make()

    def reload(self, public: PublicListener, mtls: MutualTlsListener) -> None:
        """Use other files. Raises StateError and then goes on with what it had."""
        before = (self._public, self._authorities)
        self._public, self._authorities = public, _read_authorities(mtls.ca)
        try:
            self._newest = self._make()
        except StateError:
            self._public, self._authorities = before
            raise

    def describe(self, transport: asyncio.Transport) -> dict[str, Any]:
        """What endpoints may know of a connection, for its ASGI state."""
        chain = _verified_chain(transport.get_extra_info("ssl_object"))
        if not chain:
            return {LISTENER_STATE: True}
        return {LISTENER_STATE: True, CERTIFICATE_STATE: PeerCertificate(chain[0], chain[-1] in self._authorities)}

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _make(self) -> ssl.SSLContext:
        context = public_context(self._public)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        # Without a certificate it is for the endpoint to say what is missing.
        context.verify_mode = ssl.CERT_OPTIONAL
        # RFC 8705 §2.2: a registered certificate is believed for itself; who signed it does not matter.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for der in (*self._authorities, *_usable(self._registered, self._authorities)):
            context.load_verify_locations(cadata=der)
        return context


def _read_authorities(path: Path | None) -> frozenset[bytes]:
    if path is None:
        return frozenset()
    try:
        return frozenset(
            certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(path.read_bytes())
        )
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read the client CA `{path}`", hint="it must be PEM") from error


def _usable(registered: Collection[bytes], authorities: Collection[bytes]) -> list[bytes]:
    """Those that OpenSSL can read and that do not bear an authority's name.

    OpenSSL looks an issuer up by name: a registered certificate with the name of `ca` could come in its way, and lock
    out every client of `ca`.
    """
    reserved = {x509.load_der_x509_certificate(der).subject for der in authorities}
    usable = []
    for der in registered:
        try:
            subject = x509.load_der_x509_certificate(der).subject
            ssl.create_default_context(cadata=der)
        except (ValueError, ssl.SSLError):
            log("warning", "registered_certificate_unusable", reason="it cannot be read")
            continue
        if subject in reserved:
            log("warning", "registered_certificate_unusable", reason="it bears the name of the client CA")
        else:
            usable.append(der)
    return usable


def _verified_chain(connection: Any) -> list[bytes]:
    """DER from the peer's certificate to the one that was believed; empty without a certificate."""
    if hasattr(connection, "get_verified_chain"):
        return list(connection.get_verified_chain())
    # Before Python 3.13 only the object within has it; its certificates give DER for the number 2 (_ssl.ENCODING_DER).
    chain = connection._sslobj.get_verified_chain() or ()  # noqa: SLF001
    return [certificate.public_bytes(_ENCODING_DER) for certificate in chain]


_ENCODING_DER = 2


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Use this certificate for handshakes from now on. Raises StateError."""
    try:
        context.load_cert_chain(str(certificate), str(key), password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise StateError(
            f"cannot use the certificate `{certificate}` with the key `{key}`",
            hint="both must be PEM, the key unencrypted and belonging to the certificate",
        ) from error


def is_gateway(transport: asyncio.Transport) -> bool:
    """Whether the verified peer certificate has exactly one common name, the gateway's."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return names == [GATEWAY_NAME]


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal."""
    raise ssl.SSLError("the key is encrypted")
