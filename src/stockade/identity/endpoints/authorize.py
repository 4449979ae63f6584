"""`/oauth2/authorize` (RFC 6749 §3.1, OIDC Core §3.1.2) and `/oauth2/authorize/continue`.

A request is read, then `next_step` says what is left to ask of the user. Where nothing is, or it may not be asked, the
answer goes to the redirect URI; else an interaction begins, and the pages send the browser back to `continue`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import RedirectResponse

from stockade.identity.audit import AuditEvent, record
from stockade.identity.browser import ensure_browser, read_browser
from stockade.identity.endpoints.authorization_request import (
    Asked,
    Parameters,
    ReturnAddress,
    parse_parameters,
    read_request,
    read_return_address,
)
from stockade.identity.endpoints.beginnings import take_one
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.html import PRIVATE, form_post_page, shown_to_people
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.interactions import (
    DeviceRequest,
    Step,
    consented,
    csp_source,
    interaction_digest,
    load,
    move,
    next_step,
    page_url,
    start,
    unsaved,
)
from stockade.identity.observability import log
from stockade.identity.people.client import origin_of
from stockade.identity.people.sessions import current
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.interactions import end_interaction
from stockade.identity.storage.pushed import find_pushed, spend_pushed
from stockade.identity.tokens.code import make_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.config import Config
    from stockade.identity.interactions import AuthorizationRequest, Interaction
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.pushed import PushedRequest

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"
_OVER = "this sign-in is over, has expired, or belongs to another browser"


@shown_to_people
async def authorize(services: Services, request: Request) -> Response:
    """Read a request and answer it, or begin to ask the user."""
    asked = await _asked(services, parse_parameters(request.url.query))
    try:
        wanted = read_request(services, asked)
    except OAuthError as error:
        services.metrics.count("authorizations", result=error.error)
        if asked.pushed is not None:
            await services.lanes.write(lambda connection: _spend(connection, asked.pushed, services.clock()))
        return _refusal(services.config, asked.address, error)
    session = await current(services, request)
    return await _carry_on(services, request, unsaved(wanted, asked.client, session, services.clock()), session)


@shown_to_people
async def authorize_by_form(services: Services, request: Request) -> Response:
    """OIDC Core §3.1.2.1: POST is the same. Another site's form brings no cookies (SameSite), its redirect does."""
    form = await read_form(request)
    return _redirect(f"{services.config.issuer}/oauth2/authorize?{urlencode(form.values)}")


@shown_to_people
async def proceed(services: Services, request: Request) -> Response:
    """The pages send the browser here after each step."""
    interaction = await load(services, parse_parameters(request.url.query).optional("i") or "", read_browser(request))
    if interaction is None:
        raise invalid_request(_OVER)
    return await _carry_on(services, request, interaction, await current(services, request))


async def _asked(services: Services, outer: Parameters) -> Asked:
    """Who asks, and where an answer may go. Raises OAuthError that is shown, and sent nowhere."""
    now = services.clock()
    client_id = outer.optional("client_id")
    if client_id is None:
        raise invalid_request("`client_id` is missing or repeated")
    client = await services.lanes.read(lambda connection: find_client(connection, client_id, now))
    if client is None or client.disabled_at is not None:
        raise invalid_request("the client is unknown")
    pushed = await _pushed(services, client_id, outer)
    if pushed is None:
        return Asked(client, read_return_address(services.config, client, outer), outer)
    # RFC 9126 §4, RFC 9101 §6.3: only what was pushed counts, whatever stands beside it.
    inner = Parameters(pushed.parameters)
    address = read_return_address(services.config, client, inner)
    return Asked(client, address, inner, pushed.digest.hex(), pushed.dpop_jkt)


async def _pushed(services: Services, client_id: str, outer: Parameters) -> PushedRequest | None:
    """The pushed request that is meant. RFC 9126 §2.2, §4: this client's own, once, and not for long."""
    uri = outer.optional("request_uri")
    if uri is None and "request_uri" not in outer.repeated:
        return None
    found = None
    if uri is not None and uri.startswith(REQUEST_URI_PREFIX):
        now, secret_digest = services.clock(), request_uri_digest(uri)
        found = await services.lanes.read(lambda connection: find_pushed(connection, secret_digest, client_id, now))
    if found is None:
        # RFC 9101 §6.1: a `request_uri` is never fetched.
        raise OAuthError("invalid_request_uri", "`request_uri` is unknown, expired or used")
    return found


def request_uri_digest(uri: str) -> bytes:
    """What the database has of a `request_uri`."""
    return sha256(uri.encode()).digest()


async def _carry_on(
    services: Services, request: Request, interaction: Interaction, session: Session | None
) -> Response:
    allowed = await consented(services, interaction.client, session)
    step = next_step(interaction, session, allowed, services.clock())
    if isinstance(step, Step):
        return await _ask(services, request, interaction, session, step)
    if isinstance(interaction.request, DeviceRequest):
        await _end(services, interaction)
        return _redirect(f"{services.config.issuer}/device/done")
    address = ReturnAddress(
        interaction.request.redirect_uri, interaction.request.state, interaction.request.response_mode
    )
    if step is None and session is not None:
        code = await _give_code(services, interaction, interaction.request, session, origin_of(request).address)
        return _respond(services.config, address, {"code": code})
    await _end(services, interaction)
    error = step or OAuthError("login_required", "the user must sign in")
    services.metrics.count("authorizations", result=error.error)
    return _refusal(services.config, address, error)


async def _ask(
    services: Services, request: Request, interaction: Interaction, session: Session | None, step: Step
) -> Response:
    if interaction.secret:
        await move(services, interaction, step)
        return _redirect(page_url(services, step, interaction.secret))
    take_one(services, request, interaction.client)
    browser = ensure_browser(request)
    begun = await start(services, interaction.request, interaction.client, browser, session, step)
    response = _redirect(page_url(services, step, begun.secret))
    browser.remember(response)
    return response


async def _give_code(
    services: Services, interaction: Interaction, wanted: AuthorizationRequest, session: Session, address: str
) -> str:
    """Make a code: grant, code and audit row in one transaction, with what they use up. Raises OAuthError."""
    now = services.clock()
    made = make_code(services, wanted, interaction.client, session, int(now))
    event = AuditEvent(
        "authorization.granted",
        user_id=session.user.user_id,
        client_id=interaction.client.client_id,
        session_id=session.session_id,
        address=address,
        detail={"grant_id": made.grant.grant_id, "scopes": list(wanted.scopes), "acr": session.acr},
    )

    def work(connection: Connection) -> bool:
        if not _use_up(connection, interaction, now):
            return False
        made.store(connection)
        record(connection, event, now)
        return True

    if not await services.lanes.write(work):
        raise invalid_request(_OVER)
    services.metrics.count("authorizations", result="granted")
    log("debug", "authorization_granted", client_id=interaction.client.client_id, grant_id=made.grant.grant_id)
    return made.code


async def _end(services: Services, interaction: Interaction) -> None:
    """Without a code, the interaction and the pushed request are over too. Raises OAuthError if they were before."""
    now = services.clock()
    if not await services.lanes.write(lambda connection: _use_up(connection, interaction, now)):
        raise invalid_request(_OVER)


def _use_up(connection: Connection, interaction: Interaction, now: float) -> bool:
    """One answer each. FAPI 2.0 §5.3.2.2: a `request_uri` is spent with the answer, not when a page is loaded."""
    if interaction.secret and not end_interaction(connection, interaction_digest(interaction), now):
        return False
    pushed = None if isinstance(interaction.request, DeviceRequest) else interaction.request.pushed
    return _spend(connection, pushed, now)


def _spend(connection: Connection, pushed: str | None, now: float) -> bool:
    return pushed is None or spend_pushed(connection, bytes.fromhex(pushed), now)


def _refusal(config: Config, address: ReturnAddress, error: OAuthError) -> Response:
    """RFC 6749 §4.1.2.1."""
    return _respond(config, address, {"error": error.error, "error_description": error.description})


def _respond(config: Config, address: ReturnAddress, answer: Mapping[str, str]) -> Response:
    """RFC 6749 §4.1.2; RFC 9207 §2: `iss` in every answer, errors too, so that a client knows whose it is (mix-up)."""
    fields = {**answer, **({"state": address.state} if address.state is not None else {}), "iss": config.issuer}
    if address.response_mode == "form_post":
        return form_post_page(config, address.redirect_uri, csp_source(address.redirect_uri), fields)
    separator = "&" if "?" in address.redirect_uri else "?"
    return _redirect(f"{address.redirect_uri}{separator}{urlencode(fields)}")


def _redirect(url: str) -> Response:
    """RFC 9700 §4.12: 303, so that a form that came before is not sent on."""
    return RedirectResponse(url, 303, PRIVATE)
