"""Which browser asks: a random name in a cookie, to which interactions and CSRF tokens are bound.

It says nothing about who sits there, and signing in does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.identity.people.cookies import BROWSER, Cookie, new_secret, read_secret, secret_digest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Browser:
    """`secret` is the cookie's value; `new` where the browser does not have it yet: then `remember` it."""

    secret: str = field(repr=False)
    new: bool

    @property
    def digest(self) -> bytes:
        """What the database has of it."""
        return secret_digest(self.secret)

    def remember(self, response: Response) -> None:
        """Set the cookie, unless the browser has it."""
        if self.new:
            response.headers.append("set-cookie", Cookie(BROWSER, self.secret).header)


def read_browser(request: Request) -> Browser | None:
    """The browser that asks; None where it sent no cookie of ours."""
    secret = read_secret(request, BROWSER)
    return None if secret is None else Browser(secret, new=False)


def ensure_browser(request: Request) -> Browser:
    """The browser that asks, under a new name where it has none."""
    return read_browser(request) or Browser(new_secret(), new=True)
