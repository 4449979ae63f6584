"""Client authentication (RFC 6749 §2.3): exactly one method, the one that is registered.

An unknown client, a disabled one, one with another method and a wrong secret cost the same work and get the same
answer. A method is a module with a class that has `client_id` and `proves`; `read_presented` is where they are chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stockade.identity import profile
from stockade.identity.binding.mtls import peer_certificate
from stockade.identity.client_auth.client_secret_basic import BasicCredential
from stockade.identity.client_auth.none import PublicClaim
from stockade.identity.client_auth.private_key_jwt import ClientAssertion
from stockade.identity.client_auth.tls_client_auth import CertificateCredential
from stockade.identity.errors import OAuthError, invalid_client, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage.assertions import use_assertion
from stockade.identity.storage.clients import find_client

if TYPE_CHECKING:
    from starlette.requests import Request

    from stockade.identity.endpoints.form import Form
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import AuthMethod, ClientRecord


class PresentedCredential(Protocol):
    """What a request offers as proof. `client_id` is a claim until `proves` says so."""

    @property
    def method(self) -> AuthMethod:
        """Which kind of proof."""

    @property
    def client_id(self) -> str:
        """Who the caller says it is."""

    def proves(self, client: ClientRecord | None) -> bool:
        """Whether it proves to be this client; does the same work when there is none."""


async def authenticate_client(services: Services, request: Request, form: Form) -> ClientRecord:
    """The client that proved who it is. Raises `invalid_client`, `invalid_request`, or 429 after many failures."""
    presented = read_presented(services, request, form)
    attempt = services.throttle.attempt(request.client.host if request.client else "", presented.client_id)
    if (wait := attempt.refused_for()) is not None:
        services.metrics.count("client_authentication_throttled")
        raise _too_many_failures(wait)
    client = await prove(services, presented)
    if client is None:
        attempt.failed()
        services.metrics.count("client_authentication_failures", method=presented.method.value)
        log("warning", "client_authentication_failed", method=presented.method.value, address=attempt.address)
        raise invalid_client()
    attempt.succeeded()
    return client


def read_presented(services: Services, request: Request, form: Form) -> PresentedCredential:
    """Find the one credential. RFC 6749 §2.3: more than one method in a request is `invalid_request`."""
    headers = request.headers.getlist("authorization")
    offered = [*headers, *(name for name in ("client_secret", "client_assertion") if form.optional(name))]
    if len(offered) > 1:
        raise invalid_request("use one method of client authentication")
    if form.optional("client_assertion") or form.optional("client_assertion_type"):
        presented: PresentedCredential = ClientAssertion.read(form, services.config, services.clock())
    elif headers:
        presented = BasicCredential.read(headers[0])
    elif form.optional("client_secret"):
        # client_secret_post, for which no client is registered: OAuth 2.1 §2.4.1 and RFC 6749 §2.3.1 advise against it.
        raise invalid_client()
    else:
        presented = _by_id_alone(services, request, form)
    if form.optional("client_id") not in (None, presented.client_id):
        raise invalid_request("`client_id` is not the authenticated client")
    return presented


def _by_id_alone(services: Services, request: Request, form: Form) -> PresentedCredential:
    """A name without a proof in the request: the connection may carry it (RFC 8705 §2), or the client is public."""
    client_id = form.optional("client_id")
    if client_id is None:
        raise invalid_client()
    certificate = peer_certificate(request)
    if certificate is None:
        return PublicClaim(client_id)
    return CertificateCredential(client_id, certificate, services.clock())


async def prove(services: Services, presented: PresentedCredential) -> ClientRecord | None:
    """Look the client up, check the proof, and spend it if it may be used only once."""
    now = services.clock()
    client = await services.lanes.read(lambda connection: find_client(connection, presented.client_id, now))
    if not presented.proves(client) or client is None or client.disabled_at is not None:
        return None
    if not profile.allows_client(services.config, client):
        return None
    if isinstance(presented, ClientAssertion) and not await spend(services, presented):
        return None
    return client


async def spend(services: Services, assertion: ClientAssertion) -> bool:
    """Use the assertion up, durably, before anything is done for it. False when it was used before."""
    client_id, jti, exp = assertion.client_id, assertion.jti, assertion.exp
    return await services.lanes.write(lambda connection: use_assertion(connection, client_id, jti, exp))


def _too_many_failures(wait_seconds: float) -> OAuthError:
    return OAuthError(
        "temporarily_unavailable",
        "too many failed attempts; try again later",
        status=429,
        headers={"Retry-After": str(max(1, round(wait_seconds + 0.5)))},
    )
