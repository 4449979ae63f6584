"""The edge at which a caller shows what it holds: where tokens are asked for, and where they are used."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stockade.identity import profile
from stockade.identity.binding import dpop
from stockade.identity.binding.mtls import certificate_binding, peer_certificate
from stockade.identity.errors import OAuthError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.binding import Binding
    from stockade.identity.endpoints.guard import Handler
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.storage.tokens import StoredCredential


async def prove(services: Services, request: Request, client: ClientRecord) -> Binding | None:
    """What a token for this client will be bound to: the key of a DPoP proof, else the connection's certificate.

    RFC 9449 §5.2 and RFC 8705 §3.4: a client that is registered for bound tokens gets no others; nor does any where
    the server or the profile requires it. Raises OAuthError. Nothing but a proof in this very request counts.
    """
    offered = await offer(services, request) or _by_certificate(services, request, client)
    if offered is None and profile.must_bind(services.config, client):
        raise OAuthError(
            "invalid_request",
            "tokens for this client are bound to a key: send a DPoP proof, or come by mutual TLS if registered for it",
            headers=dpop.nonce_headers(services),
        )
    return offered


def _by_certificate(services: Services, request: Request, client: ClientRecord) -> Binding | None:
    """RFC 8705 §3, for clients that registered for it, and for those that must be bound and did not choose DPoP."""
    metadata = client.metadata
    required = profile.must_bind(services.config, client) and not metadata.dpop_bound_access_tokens
    certificate = peer_certificate(request)
    if certificate is None or not (metadata.tls_client_certificate_bound_access_tokens or required):
        return None
    return certificate_binding(certificate)


async def offer(services: Services, request: Request) -> Binding | None:
    """The key of the request's DPoP proof, where there is one: for PAR, which takes proofs but needs none (§10.1)."""
    proof = await dpop.take_proof(services, request)
    return None if proof is None else proof.binding


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """The `Authorization` header of a request to a resource of this server."""

    scheme: str
    text: str = field(repr=False)


def presented_token(request: Request) -> PresentedToken:
    """RFC 6750 §2.1, RFC 9449 §7.1: one header, `Bearer` or `DPoP`. Raises 401 with the challenges of both."""
    headers = request.headers.getlist("authorization")
    if not headers:
        raise OAuthError("invalid_token", "an access token is needed", 401, {"WWW-Authenticate": _CHALLENGE})
    scheme, _, text = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() not in ("bearer", "dpop") or not text.strip():
        raise refused_token("the access token cannot be read")
    return PresentedToken(scheme.lower(), text.strip())


async def require_possession(services: Services, request: Request, credential: StoredCredential) -> None:
    """Refuse a bound token whose holder does not prove the key, and a bearer token that claims to have one.

    RFC 9449 §7.1 and §7.2 (a DPoP-bound token as `Bearer` is refused), check 12 of §4.3: `ath` is this token's and the
    key is the token's. RFC 8705 §3: the certificate of the connection is the token's. Raises 401.
    """
    presented = presented_token(request)
    binding = credential.binding
    if binding is None or binding.kind != "jkt":
        if presented.scheme != "bearer":
            raise refused_token("the access token is not bound to a DPoP key")
        certificate = peer_certificate(request)
        if binding is not None and (certificate is None or certificate_binding(certificate) != binding):
            raise refused_token("the access token is bound to another certificate")
        return
    if presented.scheme != "dpop":
        raise refused_token("the access token is bound to a DPoP key")
    await _require_proof(services, request, presented.text, binding)


async def _require_proof(services: Services, request: Request, access_token: str, binding: Binding) -> None:
    try:
        proof = _require_hash(await dpop.take_proof(services, request), access_token)
    except OAuthError as error:
        challenge = f'DPoP error="{error.error}", error_description="{error.description}", algs="{_ALGORITHMS}"'
        raise replace(error, status=401, headers={**error.headers, "WWW-Authenticate": challenge}) from None
    if proof.binding != binding:
        raise refused_token("the access token is bound to another key")


def _require_hash(proof: dpop.Proof | None, access_token: str) -> dpop.Proof:
    if proof is None:
        raise OAuthError("invalid_dpop_proof", "the access token needs a DPoP proof")
    expected = dpop.access_token_hash(access_token)
    if proof.ath is None or not hmac.compare_digest(proof.ath.encode(), expected.encode()):
        raise OAuthError("invalid_dpop_proof", "the proof is for another access token")
    return proof


def refused_token(description: str) -> OAuthError:
    """401 `invalid_token` (RFC 6750 §3.1) with the challenges of both schemes."""
    challenges = f'Bearer error="invalid_token", DPoP error="invalid_token", algs="{_ALGORITHMS}"'
    return OAuthError("invalid_token", description, 401, {"WWW-Authenticate": challenges})


_ALGORITHMS = " ".join(dpop.ALGORITHMS)
_CHALLENGE = f'Bearer, DPoP algs="{_ALGORITHMS}"'


def offers_nonce(handler: Handler) -> Handler:
    """Give a caller that sends proofs, or should, a fresh nonce with every answer (RFC 9449 §8.2)."""

    async def answered(services: Services, request: Request) -> Response:
        try:
            response = await handler(services, request)
        except OAuthError as error:
            if "dpop" not in request.headers:
                raise
            raise replace(error, headers={**error.headers, **dpop.nonce_headers(services)}) from None
        if "dpop" in request.headers:
            response.headers.update(dpop.nonce_headers(services))
        return response

    return answered
