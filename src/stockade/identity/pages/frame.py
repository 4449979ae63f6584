"""The frame round every page: who may come in, and what is said when something does not fit.

In this order: the host, the form's source, the session, the interaction; only then the page itself. GET changes
nothing, so only POST is asked where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from stockade.identity.browser import ensure_browser
from stockade.identity.endpoints.form import read_form
from stockade.identity.errors import OAuthError, Unavailable
from stockade.identity.interactions import load
from stockade.identity.observability import log, log_defect
from stockade.identity.pages.csrf import FIELD, comes_from_here, csrf_token, same_token
from stockade.identity.pages.errors import PageError, form_refused, interaction_gone
from stockade.identity.pages.languages import choose
from stockade.identity.pages.visit import Visit
from stockade.identity.people.assurance import MFA, satisfies
from stockade.identity.people.cookies import SESSION, read_secret
from stockade.identity.people.sessions import current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from stockade.identity.services import Services

    PageHandler = Callable[[Visit], Awaitable[Response]]

FRESH_SECONDS = 300
RETRY_AFTER_SECONDS = 2


class Access(Enum):
    """Who may come to a page."""

    ANYONE = auto()
    # Others are sent to sign in, and come back to `Page.back`.
    SIGNED_IN = auto()
    # Those who signed in within FRESH_SECONDS with all that their account has: what changes here outlives the session.
    FRESH = auto()


@dataclass(frozen=True, slots=True)
class Page:
    """A line of the route table. `back` names the page (outcome.RETURNS) to come back to after a sign-in."""

    method: Literal["GET", "POST"]
    path: str
    handler: PageHandler
    access: Access = Access.ANYONE
    back: str = ""


def framed(services: Services, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Make a Starlette endpoint of a page."""

    async def endpoint(request: Request) -> Response:
        visit = enter(services, request)
        try:
            response = await _serve(visit, page)
        except PageError as error:
            response = _refusal(visit, error)
        except Unavailable as error:
            services.metrics.count("unavailable", dependency=error.metric)
            log("error", "dependency_unavailable", dependency=error.metric, reason=error.reason, path=page.path)
            response = _refusal(visit, PageError("unavailable", 503))
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            services.metrics.count("internal_errors")
            log_defect("internal_error", error)
            response = _refusal(visit, PageError("defect", 500))
        visit.browser.remember(response)
        for cookie in visit.cookies:
            response.headers.append("set-cookie", cookie.header)
        return response

    return endpoint


def enter(services: Services, request: Request) -> Visit:
    """What can be known without asking anyone."""
    default = services.config.people.locale
    return Visit(
        services=services,
        request=request,
        locale=choose((), request.headers.get("accept-language", ""), default),
        browser=ensure_browser(request),
        session_secret=read_secret(request, SESSION) or "",
    )


async def _serve(visit: Visit, page: Page) -> Response:
    _check_host(visit)
    if page.method == "POST":
        await _read_form(visit)
    visit.session = await current(visit.services, visit.request)
    await _load_interaction(visit)
    if page.access is not Access.ANYONE and not _may_come(visit, page.access):
        visit.interaction = None
        return visit.see_other("/sign-in", to=page.back)
    return await page.handler(visit)


def _check_host(visit: Visit) -> None:
    """Answer under the issuer's own name alone: links and cookies must not be drawn to another (RFC 9110 §7.4)."""
    hosts = visit.request.headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in _authorities(visit.services.config.issuer):
        raise PageError("host", 421)


def _authorities(issuer: str) -> tuple[str, ...]:
    netloc = urlsplit(issuer).netloc.lower()
    if netloc.endswith(":443"):
        return netloc, netloc.removesuffix(":443")
    return (netloc,) if urlsplit(issuer).port else (netloc, f"{netloc}:443")


async def _read_form(visit: Visit) -> None:
    """RFC 6749 §10.12, RFC 9700 §2.1: a form counts only from our page, in the browser that it was given to."""
    parts = urlsplit(visit.services.config.issuer)
    if not comes_from_here(visit.request.headers, f"{parts.scheme}://{parts.netloc}"):
        raise _refused(visit, "origin")
    # Forms carry everything in their body; what stands in the query of the page's address is of no concern here.
    visit.request.scope["query_string"] = b""
    try:
        visit.form = await read_form(visit.request)
    except OAuthError as error:
        raise PageError("too_large" if error.status == 413 else "bad_request", error.status) from None  # noqa: PLR2004
    expected = csrf_token(visit.services.derived, visit.browser.secret, visit.session_secret)
    if visit.browser.new or not same_token(visit.form.optional(FIELD) or "", expected):
        raise _refused(visit, "token")


def _refused(visit: Visit, reason: str) -> PageError:
    visit.services.metrics.count("forms_refused", reason=reason)
    return form_refused()


async def _load_interaction(visit: Visit) -> None:
    secret = visit.given("i")
    if secret is None:
        return
    visit.interaction = await load(visit.services, secret, visit.browser)
    if visit.interaction is None:
        raise interaction_gone()
    wanted = visit.interaction.request.ui_locales
    accepted = visit.request.headers.get("accept-language", "")
    visit.locale = choose(wanted, accepted, visit.services.config.people.locale)


def _may_come(visit: Visit, access: Access) -> bool:
    session = visit.session
    if session is None:
        return False
    if access is Access.SIGNED_IN:
        return True
    strong = not session.user.has_second_factor or satisfies(session.acr, MFA)
    return strong and visit.services.clock() - session.auth_time <= FRESH_SECONDS


def _refusal(visit: Visit, error: PageError) -> Response:
    visit.interaction = None
    return visit.page(
        "message.html",
        status=error.status,
        heading=visit.locale.text(f"error.{error.name}.title"),
        text=visit.locale.text(f"error.{error.name}.text"),
        technical="",
        link=None if error.name == "host" else ("/account", visit.locale.text("error.link")),
    )
