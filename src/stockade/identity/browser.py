"""The browser cookie: a random name for one browser, to which interactions and CSRF tokens are bound.

It says nothing about who sits there, and signing in does not change it. `__Host-` keeps sibling domains from planting
one (RFC 6265bis §4.1.3.2).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "__Host-stockade_browser"
MAX_AGE_SECONDS = 30 * 86_400
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Browser:
    """`secret` is the cookie's value; `new` where the browser does not have it yet: then `remember` it."""

    secret: str = field(repr=False)
    new: bool

    @property
    def digest(self) -> bytes:
        """What the database has of it."""
        return sha256(self.secret.encode()).digest()

    def remember(self, response: Response) -> None:
        """Set the cookie, unless the browser has it."""
        if self.new:
            response.set_cookie(
                COOKIE, self.secret, max_age=MAX_AGE_SECONDS, path="/", secure=True, httponly=True, samesite="lax"
            )


def read_browser(request: Request) -> Browser | None:
    """The browser that asks; None where it sent no cookie of ours."""
    value = request.cookies.get(COOKIE, "")
    return Browser(value, new=False) if _SECRET.fullmatch(value) else None


def ensure_browser(request: Request) -> Browser:
    """The browser that asks, under a new name where it has none."""
    return read_browser(request) or Browser(secrets.token_urlsafe(32), new=True)
