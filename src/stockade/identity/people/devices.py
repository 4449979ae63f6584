"""Device cookies: a browser from which a person has signed in before is told from a stranger's.

It proves nothing and opens nothing; it only has a budget of failures of its own, so that strangers who use up the
name's cannot keep its owner out.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from stockade.identity.people.cookies import DEVICE, Cookie

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from stockade.identity.services import Services

SECONDS = 365 * 86_400
MAX_PEOPLE = 5
_ENTRY = re.compile(r"(?P<nonce>[A-Za-z0-9_-]{16})\.(?P<expires>[0-9]{1,12})\.(?P<mac>[A-Za-z0-9_-]{43})")


def known_device(services: Services, request: HTTPConnection, user_id: str) -> str | None:
    """The name of this browser among the person's; None for a stranger's. Costs the same for people unknown."""
    return next((entry["nonce"] for entry in _entries(request) if _is_of(services, entry, user_id)), None)


def remember(services: Services, request: HTTPConnection, user_id: str) -> Cookie:
    """Make the browser one of the person's, or keep it one. Up to MAX_PEOPLE share a browser."""
    entries = _entries(request)
    mine = [entry for entry in entries if _is_of(services, entry, user_id)]
    others = [entry[0] for entry in entries if entry not in mine]
    nonce = mine[0]["nonce"] if mine else secrets.token_urlsafe(12)
    expires = str(int(services.clock()) + SECONDS)
    fresh = f"{nonce}.{expires}.{_mac(services, user_id, nonce, expires)}"
    return Cookie(DEVICE, "~".join([fresh, *others][:MAX_PEOPLE]), max_age=SECONDS, same_site="Strict")


def _entries(request: HTTPConnection) -> list[re.Match[str]]:
    parts = request.cookies.get(DEVICE, "").split("~", MAX_PEOPLE)[:MAX_PEOPLE]
    return [match for part in parts if (match := _ENTRY.fullmatch(part))]


def _is_of(services: Services, entry: re.Match[str], user_id: str) -> bool:
    expected = _mac(services, user_id, entry["nonce"], entry["expires"])
    return hmac.compare_digest(expected, entry["mac"]) and int(entry["expires"]) > services.clock()


def _mac(services: Services, user_id: str, nonce: str, expires: str) -> str:
    tag = services.derived.digest("device cookie", f"{user_id}\x00{nonce}\x00{expires}")
    return urlsafe_b64encode(tag).rstrip(b"=").decode()
