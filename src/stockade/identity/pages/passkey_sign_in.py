"""Signing in with a passkey: both factors at once, and the page does not ask whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.mfa.passkeys import authentication_options
from stockade.identity.pages.account_passkeys import options_answer
from stockade.identity.pages.outcome import Told, needed_acr, settle
from stockade.identity.pages.sign_in import form
from stockade.identity.people.sign_in import with_passkey

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit


async def options(visit: Visit) -> Response:
    """For passkeys.js: the challenge."""
    return options_answer(authentication_options(visit.services, visit.request))


async def sign_in(visit: Visit) -> Response:
    """Check what the browser answered."""
    credential = visit.form.optional("credential") or ""
    outcome = await with_passkey(visit.services, visit.request, credential, needed_acr(visit))
    told = settle(visit, outcome, "sign_in.passkey_failed")
    return form(visit, error=told) if isinstance(told, Told) else told
