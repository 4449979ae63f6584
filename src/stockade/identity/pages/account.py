"""The account at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit


@dataclass(frozen=True, slots=True)
class Way:
    """One way to sign in: its name in the locales, its page, how it stands."""

    name: str
    path: str
    text: str


async def show(visit: Visit) -> Response:
    """Who is signed in, and by what they could be."""
    user, text = visit.here().user, visit.locale.text
    ways = (
        Way(
            "password",
            "/account/password",
            text("account.has_password" if user.has_password else "account.no_password"),
        ),
        Way("passkeys", "/account/passkeys", text("account.passkeys_count", count=user.passkeys)),
        Way(
            "authenticator", "/account/authenticator", text("account.totp_on" if user.has_totp else "account.totp_off")
        ),
        Way("recovery", "/account/recovery-codes", text("account.codes_count", count=user.recovery_codes)),
    )
    return visit.account("account.html", "overview", ways=ways)
