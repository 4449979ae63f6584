"""The page where a device's code is typed (RFC 8628 §3.3). What follows is an interaction like any other."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from stockade.identity.device import TooManyGuessesError, find
from stockade.identity.interactions import continue_url, start
from stockade.identity.pages.naming import printable
from stockade.identity.pages.outcome import Told

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit

MAX_SHOWN_CHARS = 32


async def show(visit: Visit) -> Response:
    """The form. RFC 8628 §3.3.1: a code that came with the address still has to be sent by the person."""
    return _form(visit, visit.request.query_params.get("user_code", ""))


async def enter(visit: Visit) -> Response:
    """Find what the code stands for, and begin to ask the person about it."""
    typed = visit.form.optional("user_code") or ""
    try:
        found = await find(visit.services, typed, visit.address)
    except TooManyGuessesError as error:
        seconds = max(1, ceil(error.wait_seconds))
        return _form(visit, typed, Told(visit.locale.text("device.slow", seconds=seconds), 429, seconds))
    if found is None:
        return _form(visit, typed, Told(visit.locale.text("device.failed")))
    begun = await start(visit.services, found.request, found.client, visit.browser, visit.session)
    return visit.onward(continue_url(visit.services, begun.secret))


async def done(visit: Visit) -> Response:
    """Nothing is left to do here; the device goes on by itself."""
    text = visit.locale.text
    return visit.page(
        "message.html", heading=text("device.done_title"), text=text("device.done_text"), technical="", link=None
    )


def _form(visit: Visit, typed: str, error: Told | None = None) -> Response:
    response = visit.page(
        "device.html",
        status=error.status if error else 200,
        errors={"user_code": error.text} if error else {},
        user_code=printable(typed)[:MAX_SHOWN_CHARS],
    )
    return error.on(response) if error else response
