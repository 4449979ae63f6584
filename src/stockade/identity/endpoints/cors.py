"""Which other sites' scripts may read an answer (Fetch Standard, CORS): those of applications that run in browsers.

What is public is for every site. Token, revocation and userinfo are for the origins of public clients' redirect URIs.
Never with credentials: a script has its tokens, not the user's cookies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import Response

from stockade.identity.errors import Unavailable
from stockade.identity.storage.origins import public_redirect_uris

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from stockade.identity.services import Services

    Endpoint = Callable[[Request], Awaitable[Response]]

KNOWN_SECONDS = 10.0
_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, DPoP",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = {"Access-Control-Expose-Headers": "DPoP-Nonce, WWW-Authenticate, Retry-After"}


class RegisteredOrigins:
    """The origins of public clients, read again when they are older than KNOWN_SECONDS."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    async def holds(self, origin: str) -> bool:
        """Whether a public client is at home there. Raises StorageUnavailable."""
        now = self._services.clock()
        if not 0 <= now - self._read_at < KNOWN_SECONDS:
            uris = await self._services.lanes.read(public_redirect_uris)
            self._known, self._read_at = frozenset(filter(None, map(origin_of_uri, uris))), now
        return origin in self._known


def origin_of_uri(uri: str) -> str | None:
    """The origin of an http(s) URI as browsers write it (RFC 6454 §6.1); None for a scheme without one."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def for_every_site(endpoint: Endpoint) -> Endpoint:
    """What is no secret."""

    async def answered(request: Request) -> Response:
        response = _preflight(request) or await endpoint(request)
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    return answered


def for_registered_origins(origins: RegisteredOrigins, endpoint: Endpoint) -> Endpoint:
    """What only applications that are registered have business with."""

    async def answered(request: Request) -> Response:
        origin = request.headers.get("origin")
        known = origin is not None and await _holds(origins, origin)
        response = _preflight(request) or await endpoint(request)
        response.headers.add_vary_header("Origin")
        if origin is not None and known:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers.update(_EXPOSED)
        elif request.method == "OPTIONS":
            return Response(status_code=403, headers={"Vary": "Origin"})
        return response

    return answered


async def _holds(origins: RegisteredOrigins, origin: str) -> bool:
    """While the database cannot be asked, no site is known: the endpoint says the rest."""
    try:
        return await origins.holds(origin)
    except Unavailable:
        return False


def _preflight(request: Request) -> Response | None:
    return Response(status_code=204, headers=_ALLOWED) if request.method == "OPTIONS" else None
