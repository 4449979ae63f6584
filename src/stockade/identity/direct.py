"""Finding the endpoint of an exact path by one look-up, where Starlette tries its routes one after the other.

The endpoints answer for themselves (endpoints/guard.py), so they need none of what Starlette puts round them. Paths
with parameters, other methods and unknown paths go Starlette's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send


class Direct:
    """An ASGI application that answers as the one it is made from. Its routes must not change any more."""

    def __init__(self, application: Starlette) -> None:
        self._application = application
        self._endpoints: dict[tuple[str, str], Any] = {}
        for route in application.router.routes:
            if isinstance(route, Route) and not route.param_convertors:
                for method in route.methods or ():
                    self._endpoints.setdefault((method, route.path), route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI 3)."""
        endpoint = self._endpoints.get((scope.get("method", ""), scope.get("path", "")))
        if endpoint is None:
            await self._application(scope, receive, send)
            return
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
