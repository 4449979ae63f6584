"""What an endpoint itself shows to people: an error that may not be sent anywhere (pages/refusal.py), and `form_post`.

Everything else that people see is in `pages`. The browser is allowed nothing but what stands in the page.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from stockade.identity.errors import OAuthError, Unavailable
from stockade.identity.observability import log
from stockade.identity.pages.refusal import refusal_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.config import Config
    from stockade.identity.endpoints.guard import Handler
    from stockade.identity.services import Services

_STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}"
_SUBMIT = "document.forms[0].submit()"


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STYLE_SOURCE, _SUBMIT_SOURCE = _source(_STYLE), _source(_SUBMIT)
# RFC 9700 §4.2.4: no referrer; §4.16: no framing. What is answered here is for one browser, once.
PRIVATE = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def shown_to_people(handler: Handler) -> Handler:
    """Show what goes wrong as a page: there is a person at the other end."""

    async def shown(services: Services, request: Request) -> Response:
        try:
            return await handler(services, request)
        except OAuthError as error:
            return refusal_page(services, request, error)
        except Unavailable as error:
            services.metrics.count("unavailable", dependency=error.metric)
            log("error", "dependency_unavailable", dependency=error.metric, reason=error.reason, path=request.url.path)
            busy = OAuthError("temporarily_unavailable", "please try again in a moment", 503, {"Retry-After": "2"})
            return refusal_page(services, request, busy)

    return shown


def form_post_page(config: Config, action: str, source: str, fields: Mapping[str, str]) -> Response:
    """OAuth 2.0 Form Post Response Mode §2. Without JavaScript, the button does it. `source`: its CSP word."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )
    body = (
        f'<form method="post" action="{escape(action)}">{hidden}'
        f'<p><button type="submit">Continue</button></p></form><script>{_SUBMIT}</script>'
    )
    policy = (
        f"default-src 'none'; style-src {_STYLE_SOURCE}; script-src {_SUBMIT_SOURCE}; form-action {source}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    return _page(config, body, policy, 200, {})


def _page(config: Config, body: str, policy: str, status: int, headers: Mapping[str, str]) -> Response:
    title = escape(config.people.title)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )
    return HTMLResponse(text, status, {**PRIVATE, "Content-Security-Policy": policy, **headers})
