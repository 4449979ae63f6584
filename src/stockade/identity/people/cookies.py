"""The cookies of people: all `__Host-`, so that no other host and no plain HTTP can set them (RFC 6265bis §4.1.3.2)."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

SESSION = "__Host-stockade_session"
BROWSER = "__Host-stockade_browser"
SIGN_IN = "__Host-stockade_sign_in"
DEVICE = "__Host-stockade_device"

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie to set, or to delete where `value` is empty. Without `max_age` it ends with the browser."""

    name: str
    value: str = field(repr=False)
    max_age: int | None = None
    same_site: str = "Lax"

    @property
    def header(self) -> str:
        """The value of `Set-Cookie`: `response.headers.append("set-cookie", cookie.header)`."""
        age = 0 if not self.value else self.max_age
        lasting = "" if age is None else f"; Max-Age={age}"
        return f"{self.name}={self.value}; Path=/; Secure; HttpOnly; SameSite={self.same_site}{lasting}"


def forget(name: str) -> Cookie:
    """Deletes a cookie."""
    return Cookie(name, "")


def new_secret() -> str:
    """256 random bits, 43 characters."""
    return secrets.token_urlsafe(32)


def secret_digest(secret: str) -> bytes:
    """What the database knows of a cookie's secret."""
    return sha256(secret.encode()).digest()


def read_secret(request: HTTPConnection, name: str) -> str | None:
    """The secret in a cookie; None where there is none, or something that we never gave."""
    value = request.cookies.get(name, "")
    return value if _SECRET.fullmatch(value) else None


def read_digest(request: HTTPConnection, name: str) -> bytes | None:
    """The digest of the secret in a cookie."""
    secret = read_secret(request, name)
    return None if secret is None else secret_digest(secret)


def browser_digest(request: HTTPConnection) -> bytes | None:
    """What interactions, challenges and pending sign-ins are bound to. None: give the browser `new_browser()` first."""
    return read_digest(request, BROWSER)


def new_browser() -> Cookie:
    """Names a browser before anybody signed in. Keep it once it is there: what is pending hangs on it."""
    return Cookie(BROWSER, new_secret())
