"""`/oauth2/logout` (OIDC RP-Initiated Logout 1.0): a client ends the session of the browser, with its user's consent.

An ID token of this very session is consent enough (§2). Otherwise the page `/sign-out` asks, and where to go then
travels with the browser in a sealed ticket.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import RedirectResponse

from stockade.identity.endpoints.authorization_request import parse_parameters
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.html import PRIVATE, shown_to_people
from stockade.identity.errors import invalid_request
from stockade.identity.keys.seal import Seal
from stockade.identity.people.cookies import SESSION, forget
from stockade.identity.people.sessions import current, end
from stockade.identity.storage.clients import find_client
from stockade.identity.tokens.id_token import read_hint

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.authorization_request import Parameters
    from stockade.identity.services import Services
    from stockade.identity.tokens.id_token import Hint

TICKET_SECONDS = 600
_PURPOSE = "logout ticket"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the browser goes once nobody is signed in: a registered URI with the client's `state`, or our own page."""

    uri: str | None = None
    state: str | None = None

    def url(self, services: Services) -> str:
        """§3: `state` is passed back unchanged."""
        if self.uri is None:
            return f"{services.config.issuer}/signed-out"
        if self.state is None:
            return self.uri
        return self.uri + ("&" if "?" in self.uri else "?") + urlencode({"state": self.state})


@shown_to_people
async def logout(services: Services, request: Request) -> Response:
    """End the session if the client shows that it is its own; else ask the user."""
    parameters = parse_parameters(request.url.query)
    if parameters.repeated:
        raise invalid_request("a parameter is repeated")
    text = parameters.optional("id_token_hint")
    hint = None if text is None else read_hint(services, text)
    destination = await _destination(services, parameters, hint)
    session = await current(services, request)
    if session is None:
        return _see(destination.url(services) if hint else f"{services.config.issuer}/signed-out")
    if hint is None or not hint.is_of(session):
        return _see(f"{services.config.issuer}/sign-out?l={_ticket(services, destination)}")
    await end(services, session, "signed_out", request)
    response = _see(destination.url(services))
    response.headers.append("set-cookie", forget(SESSION).header)
    return response


@shown_to_people
async def logout_by_form(services: Services, request: Request) -> Response:
    """§2: POST is the same. Another site's form brings no cookies (SameSite), its redirect does."""
    form = await read_form(request)
    return _see(f"{services.config.issuer}/oauth2/logout?{urlencode(form.values)}")


@shown_to_people
async def logged_out(services: Services, request: Request) -> Response:
    """The page `/sign-out` sends the browser here, with the ticket that it came with."""
    ticket = parse_parameters(request.url.query).optional("l") or ""
    destination = _read_ticket(services, ticket)
    if await current(services, request) is not None:
        return _see(f"{services.config.issuer}/sign-out?{urlencode({'l': ticket})}")
    return _see(destination.url(services))


async def _destination(services: Services, parameters: Parameters, hint: Hint | None) -> Destination:
    """§3: only to a URI that the client registered, letter by letter. Raises `invalid_request`, which is shown."""
    uri, client_id = parameters.optional("post_logout_redirect_uri"), parameters.optional("client_id")
    if hint is not None and client_id not in (None, hint.client_id):
        raise invalid_request("`client_id` is not the client of `id_token_hint`")
    if uri is None:
        return Destination()
    now, named = services.clock(), hint.client_id if hint else client_id
    client = await services.lanes.read(lambda connection: find_client(connection, named or "", now))
    if client is None or client.disabled_at is not None or uri not in client.metadata.post_logout_redirect_uris:
        raise invalid_request("`post_logout_redirect_uri` is not registered for the client")
    return Destination(uri, parameters.optional("state"))


def _ticket(services: Services, destination: Destination) -> str:
    body = {**asdict(destination), "exp": int(services.clock()) + TICKET_SECONDS}
    return urlsafe_b64encode(_seal(services).close(json.dumps(body).encode(), _PURPOSE)).rstrip(b"=").decode()


def _read_ticket(services: Services, ticket: str) -> Destination:
    """Where a ticket leads; our own page for one that is not ours, or old."""
    try:
        body = json.loads(_seal(services).open(urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4)), _PURPOSE))
    except ValueError:
        return Destination()
    return Destination(body["uri"], body["state"]) if body["exp"] > services.clock() else Destination()


def _seal(services: Services) -> Seal:
    return Seal(services.derived.key(_PURPOSE))


def _see(url: str) -> Response:
    return RedirectResponse(url, 303, PRIVATE)
