"""Signing out: asked first, since a link from anywhere may lead here (OIDC RP-Initiated Logout 1.0 §2).

A client's request comes with a ticket, `l`, that says where the browser goes then; only `/oauth2/logout` can read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.people import sessions
from stockade.identity.people.cookies import SESSION, forget

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit


async def ask(visit: Visit) -> Response:
    """Confirm, unless nobody is signed in."""
    ticket = visit.given("l")
    if visit.session is None:
        return visit.see_other("/oauth2/logout/continue", l=ticket) if ticket else visit.see_other("/signed-out")
    return visit.page("sign_out.html", ticket=ticket)


async def sign_out(visit: Visit) -> Response:
    """End the session; the gateways hear of it."""
    if visit.session is not None:
        await sessions.end(visit.services, visit.session, "signed_out", visit.request)
    visit.cookies.append(forget(SESSION))
    if (ticket := visit.given("l")) is not None:
        visit.session = None
        return visit.onward(visit.url("/oauth2/logout/continue", l=ticket))
    return visit.see_other("/signed-out")


async def done(visit: Visit) -> Response:
    """Says so."""
    text = visit.locale.text
    return visit.page(
        "message.html",
        heading=text("sign_out.done_title"),
        text=text("sign_out.done_text"),
        technical="",
        link=("/sign-in", text("sign_out.again")),
    )
