"""Where a person is signed in, and ending it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stockade.identity.people import sessions

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.languages import Locale
    from stockade.identity.pages.visit import Visit


async def show(visit: Visit) -> Response:
    """The live sessions, the last seen first."""
    mine = await sessions.list_sessions(visit.services, visit.here().user)
    rows = [(one, browser_name(one.user_agent, visit.locale)) for one in mine]
    return visit.account("account_sessions.html", "sessions", rows=rows)


async def revoke(visit: Visit) -> Response:
    """End one of one's own. What is not one's own is not there."""
    await sessions.end_by_id(visit.services, visit.here(), visit.form.optional("session") or "", visit.request)
    return visit.see_other("/account/sessions", done="session_ended")


async def revoke_others(visit: Visit) -> Response:
    """End all but this one."""
    await sessions.end_others(visit.services, visit.here(), visit.request)
    return visit.see_other("/account/sessions", done="sessions_ended")


# In this order: most browsers also carry the names of others.
_BROWSERS = (
    (r"\bEdgA?/", "Edge"),
    (r"\bOPR/", "Opera"),
    (r"\bFirefox/|\bFxiOS/", "Firefox"),
    (r"\bChrom(e|ium)/|\bHeadlessChrome/|\bCriOS/", "Chrome"),
    (r"\bSafari/", "Safari"),
)
_SYSTEMS = (
    (r"\b(iPhone|iPad)\b", "iOS"),
    (r"\bAndroid\b", "Android"),
    (r"\bWindows\b", "Windows"),
    (r"\bMac OS X\b", "macOS"),
    (r"\bCrOS\b", "ChromeOS"),
    (r"\bLinux\b", "Linux"),
)


def browser_name(user_agent: str, locale: Locale) -> str:
    """`Firefox on Linux`: enough to know one's own again. It is what the browser says, no proof of anything."""
    browser = _first(_BROWSERS, user_agent)
    system = _first(_SYSTEMS, user_agent)
    if browser and system:
        return locale.text("sessions.browser_on", browser=browser, system=system)
    return browser or system or user_agent[:60] or locale.text("sessions.unknown")


def _first(known: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for pattern, name in known if re.search(pattern, user_agent)), "")
