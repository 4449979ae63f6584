"""Every page that there is. A form that is not in this table cannot be sent, and tests walk through the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from stockade.identity.pages import (
    account,
    account_activity,
    account_apps,
    account_authenticator,
    account_passkeys,
    account_password,
    account_recovery,
    account_sessions,
    assets,
    consent,
    device,
    passkey_sign_in,
    second_factor,
    sign_in,
    sign_out,
)
from stockade.identity.pages.errors import PageError
from stockade.identity.pages.frame import Access, Page, framed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit
    from stockade.identity.services import Services

_IN, _FRESH = Access.SIGNED_IN, Access.FRESH

PAGES: tuple[Page, ...] = (
    Page("GET", "/sign-in", sign_in.show),
    Page("POST", "/sign-in", sign_in.password),
    Page("POST", "/sign-in/continue", sign_in.go_on),
    Page("POST", "/sign-in/passkey/options", passkey_sign_in.options),
    Page("POST", "/sign-in/passkey", passkey_sign_in.sign_in),
    Page("GET", "/sign-in/second-factor", second_factor.show),
    Page("POST", "/sign-in/second-factor", second_factor.code),
    Page("POST", "/sign-in/second-factor/passkey/options", second_factor.passkey_options),
    Page("POST", "/sign-in/second-factor/passkey", second_factor.passkey),
    Page("POST", "/sign-in/second-factor/missing", second_factor.give_up),
    Page("GET", "/sign-in/recovery", second_factor.show_recovery),
    Page("POST", "/sign-in/recovery", second_factor.recovery),
    Page("GET", "/sign-in/password", sign_in.show_change),
    Page("POST", "/sign-in/password", sign_in.change),
    Page("GET", "/consent", consent.show),
    Page("POST", "/consent", consent.decide),
    Page("GET", "/device", device.show),
    Page("POST", "/device", device.enter),
    Page("GET", "/device/done", device.done),
    Page("GET", "/sign-out", sign_out.ask),
    Page("POST", "/sign-out", sign_out.sign_out),
    Page("GET", "/signed-out", sign_out.done),
    Page("GET", "/account", account.show, _IN, "overview"),
    Page("GET", "/account/password", account_password.show, _FRESH, "password"),
    Page("POST", "/account/password", account_password.change, _FRESH, "password"),
    # Seen by a session that its first passkey has just made the weaker of the two.
    Page("GET", "/account/passkeys", account_passkeys.show, _IN, "passkeys"),
    Page("POST", "/account/passkeys/options", account_passkeys.options, _FRESH, "passkeys"),
    Page("POST", "/account/passkeys", account_passkeys.add, _FRESH, "passkeys"),
    Page("POST", "/account/passkeys/remove", account_passkeys.remove, _FRESH, "passkeys"),
    Page("GET", "/account/authenticator", account_authenticator.show, _FRESH, "authenticator"),
    Page("POST", "/account/authenticator/start", account_authenticator.start, _FRESH, "authenticator"),
    Page("POST", "/account/authenticator", account_authenticator.confirm, _FRESH, "authenticator"),
    Page("POST", "/account/authenticator/remove", account_authenticator.remove, _FRESH, "authenticator"),
    Page("GET", "/account/recovery-codes", account_recovery.show, _FRESH, "recovery"),
    Page("POST", "/account/recovery-codes", account_recovery.renew, _FRESH, "recovery"),
    Page("GET", "/account/sessions", account_sessions.show, _IN, "sessions"),
    Page("POST", "/account/sessions/revoke", account_sessions.revoke, _IN, "sessions"),
    Page("POST", "/account/sessions/revoke-others", account_sessions.revoke_others, _IN, "sessions"),
    Page("GET", "/account/apps", account_apps.show, _IN, "apps"),
    Page("POST", "/account/apps/revoke", account_apps.revoke, _IN, "apps"),
    Page("GET", "/account/activity", account_activity.show, _IN, "activity"),
)


def page_routes(services: Services) -> list[Route]:
    """All of them below the issuer's path, and the static files."""
    base = services.config.base_path

    async def static(request: Request) -> Response:
        found = assets.asset(request.url.path.removeprefix(base))
        return found or await framed(services, _MISSING)(request)

    pages = [Route(base + page.path, framed(services, page), methods=[page.method]) for page in PAGES]
    return [*pages, Route(f"{base}/static/{{name}}", static, methods=["GET"])]


async def _missing(_visit: Visit) -> Response:
    raise PageError("not_found", 404)


_MISSING = Page("GET", "/static", _missing)
