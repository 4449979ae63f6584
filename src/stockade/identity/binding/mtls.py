"""Mutual TLS (RFC 8705): the certificate of the connection, and what a token is bound to by it.

The listener proves possession of the key in the handshake; whose certificates it takes is told in tls.py. Its
connections carry the peer's certificate (DER) in the ASGI state, others carry none.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stockade.identity.binding import Binding

if TYPE_CHECKING:
    from starlette.requests import Request

    from stockade.identity.config import Config, MutualTlsListener

# Names in the ASGI state of a connection to the mutual-TLS listener.
LISTENER_STATE = "mutual_tls"
CERTIFICATE_STATE = "peer_certificate"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What the handshake proved. `by_ca`: its chain ended in the configured `ca`, not in a registered certificate."""

    der: bytes = field(repr=False)
    by_ca: bool


def peer_certificate(request: Request) -> PeerCertificate | None:
    """The certificate whose key the peer proved to hold; None without one, and on the public listener."""
    certificate: PeerCertificate | None = request.scope.get("state", {}).get(CERTIFICATE_STATE)
    return certificate


def certificate_binding(certificate: PeerCertificate) -> Binding:
    """RFC 8705 §3.1: SHA-256 over the DER."""
    return Binding("x5t#S256", urlsafe_b64encode(sha256(certificate.der).digest()).rstrip(b"=").decode())


def origin(config: Config, request: Request) -> str:
    """Scheme, host and port by which clients know the listener that the request came to."""
    if request.scope.get("state", {}).get(LISTENER_STATE) and config.mtls is not None:
        return mtls_origin(config, config.mtls)
    parts = urlsplit(config.issuer)
    return f"{parts.scheme}://{parts.netloc}"


def mtls_origin(config: Config, listener: MutualTlsListener) -> str:
    """Where the metadata sends clients with certificates (RFC 8705 §5). TLS ends here, so only the host can differ."""
    if listener.url is not None:
        parts = urlsplit(listener.url)
        return f"{parts.scheme}://{parts.netloc}"
    host = urlsplit(config.issuer).hostname or ""
    port = listener.address.rpartition(":")[2]
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"
