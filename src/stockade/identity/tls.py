"""TLS of the two listeners."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from stockade.errors import StateError

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from stockade.identity.config import InternalListener, PublicListener

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
