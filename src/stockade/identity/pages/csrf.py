"""That a form was filled in on our page, in this browser, by this person.

Two things must both hold. The token in the form is keyed to the browser's cookies, which other sites can neither read
nor set (`__Host-`, so not from a subdomain either). And what the browser itself says about where the request comes from
must not say: from elsewhere. The token changes with the session, so a form from before a sign-in is void after it.
Login CSRF is covered by the same: a browser without a session has a cookie of its own.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from stockade.identity.keys.derive import DerivedKeys

FIELD = "csrf"


def csrf_token(derived: DerivedKeys, browser: str, session: str) -> str:
    """The token of every form that this browser gets; `browser` and `session` are its cookies' values."""
    digest = hmac.new(derived.key("csrf"), f"{browser}\n{session}".encode(), sha256).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def same_token(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def comes_from_here(headers: Headers, origin: str) -> bool:
    """What the browser says about the request's source (Fetch Metadata §2.1, RFC 6454 §7).

    Our pages ask for no referrer, which makes browsers send `Origin: null` with their forms; alone it proves nothing
    and contradicts nothing. Old browsers send neither header, and the token alone decides.
    """
    site = headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and headers.get("origin", "null") in ("null", origin)
