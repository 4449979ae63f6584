"""What an endpoint refuses, shown to the person whose browser asked (RFC 6749 §4.1.2.1: and to nobody else)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.pages.frame import enter

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.errors import OAuthError
    from stockade.identity.services import Services


def refusal_page(services: Services, request: Request, error: OAuthError) -> Response:
    """In the person's language what that means, and for the application's makers the error itself."""
    visit = enter(services, request)
    name = "unavailable" if error.error == "temporarily_unavailable" else "client"
    response = visit.page(
        "message.html",
        status=error.status,
        heading=visit.locale.text(f"error.{name}.title"),
        text=visit.locale.text(f"error.{name}.text"),
        technical=f"{error.error}: {error.description}",
        link=None,
    )
    response.headers.update(error.headers)
    return response
