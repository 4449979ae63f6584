"""The frame round every endpoint: whatever happens inside, the answer is well-formed and reveals nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from stockade.identity.errors import OAuthError, Unavailable
from stockade.identity.observability import log, log_defect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from stockade.identity.services import Services

    Handler = Callable[[Services, Request], Awaitable[Response]]

RETRY_AFTER_SECONDS = 2


def guarded(services: Services, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Make a Starlette endpoint of a handler.

    OAuthError → RFC 6749 §5.2. Unavailable → 503 with Retry-After. Anything else → 500 without a word of why.
    """

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(services, request)
        except OAuthError as error:
            return private_json(
                {"error": error.error, "error_description": error.description}, error.status, error.headers
            )
        except Unavailable as error:
            services.metrics.count("unavailable", dependency=error.metric)
            log("error", "dependency_unavailable", dependency=error.metric, reason=error.reason, path=request.url.path)
            return _unavailable()
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            services.metrics.count("internal_errors")
            log_defect("internal_error", error)
            return private_json({"error": "server_error"}, 500)

    return endpoint


def private_json(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody may keep (RFC 6749 §5.1)."""
    return JSONResponse(content, status, headers={**_PRIVATE, **(headers or {})})


def public_json(content: Mapping[str, Any], max_age_seconds: int) -> Response:
    """A JSON answer that anyone may keep for a while."""
    return JSONResponse(
        content, headers={"Cache-Control": f"public, max-age={max_age_seconds}", "X-Content-Type-Options": "nosniff"}
    )


_PRIVATE = {"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}


def _unavailable() -> Response:
    return private_json({"error": "temporarily_unavailable"}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
