"""The second factor: between the password and the session, or later, where a client asks for more (RFC 9470)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity.interactions import Decision, continue_url, finish
from stockade.identity.mfa import passkeys
from stockade.identity.pages.account_passkeys import options_answer
from stockade.identity.pages.errors import interaction_gone
from stockade.identity.pages.naming import client_name
from stockade.identity.pages.outcome import Told, needed_acr, settle
from stockade.identity.people.assurance import MFA, PHR, satisfies
from stockade.identity.people.sign_in import (
    Method,
    methods,
    step_up_with_code,
    step_up_with_passkey,
    waiting,
    with_code,
    with_passkey,
)
from stockade.identity.storage.pending import Purpose

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit
    from stockade.identity.people.sessions import Session


@dataclass(frozen=True, slots=True)
class _Step:
    """What is being asked. `session`: the one that is to rise; None in the middle of a sign-in."""

    methods: tuple[Method, ...]
    session: Session | None


async def show(visit: Visit) -> Response:
    """Ask for it, in every way that this person has."""
    step = await _step(visit)
    if step is None:
        return visit.see_other("/sign-in", to=visit.to)
    return _page(visit, step)


async def code(visit: Visit) -> Response:
    """A code of the authenticator app."""
    return await _with_code(visit, recovery=False)


async def show_recovery(visit: Visit) -> Response:
    """The form for a recovery code."""
    step = await _step(visit)
    if step is None:
        return visit.see_other("/sign-in", to=visit.to)
    return visit.page("recovery.html")


async def recovery(visit: Visit) -> Response:
    """A recovery code in place of the second factor."""
    return await _with_code(visit, recovery=True)


async def passkey_options(visit: Visit) -> Response:
    """For passkeys.js: the challenge."""
    return options_answer(passkeys.authentication_options(visit.services, visit.request))


async def passkey(visit: Visit) -> Response:
    """A passkey as the second factor."""
    step = await _step(visit)
    if step is None:
        return visit.see_other("/sign-in", to=visit.to)
    credential = visit.form.optional("credential") or ""
    if step.session is not None:
        outcome = await step_up_with_passkey(visit.services, visit.request, step.session, credential)
    else:
        outcome = await with_passkey(visit.services, visit.request, credential, needed_acr(visit))
    told = settle(visit, outcome, "second_factor.passkey_failed")
    return _page(visit, step, {"": told.text}, told) if isinstance(told, Told) else told


async def give_up(visit: Visit) -> Response:
    """Back to the client: this person cannot sign in as strongly as it asks (RFC 9470 §5)."""
    if visit.interaction is None or visit.session is None:
        raise interaction_gone()
    await finish(visit.services, visit.interaction, visit.session, Decision.UNMET, visit.address)
    return visit.onward(continue_url(visit.services, visit.interaction.secret))


async def _with_code(visit: Visit, *, recovery: bool) -> Response:
    step = await _step(visit)
    if step is None:
        return visit.see_other("/sign-in", to=visit.to)
    typed = visit.form.optional("code") or ""
    if step.session is not None:
        outcome = await step_up_with_code(visit.services, visit.request, step.session, typed)
    else:
        outcome = await with_code(visit.services, visit.request, typed)
    told = settle(visit, outcome, "recovery.failed" if recovery else "second_factor.failed")
    if not isinstance(told, Told):
        return told
    errors = {"code": told.text}
    if recovery:
        return told.on(visit.page("recovery.html", status=told.status, errors=errors))
    return _page(visit, step, errors, told)


async def _step(visit: Visit) -> _Step | None:
    """A sign-in that waits, else a session that falls short of what the interaction needs."""
    before = await waiting(visit.services, visit.request)
    if before is not None and before.purpose is Purpose.SECOND_FACTOR:
        return _Step(before.methods, None)
    needed = needed_acr(visit)
    if visit.session is None or visit.interaction is None or satisfies(visit.session.acr, needed):
        return None
    ways = methods(visit.services, visit.session.user, needed)
    # Codes do not make a session phishing-resistant.
    return _Step(ways if needed != PHR or Method.PASSKEY in ways else (), visit.session)


def _page(visit: Visit, step: _Step, errors: dict[str, str] | None = None, told: Told | None = None) -> Response:
    if not step.methods:
        return _cannot(visit)
    response = visit.page(
        "second_factor.html",
        status=told.status if told else 200,
        errors=errors,
        has_totp=Method.TOTP in step.methods,
        has_passkeys=Method.PASSKEY in step.methods,
        has_recovery=Method.RECOVERY_CODE in step.methods,
    )
    return told.on(response) if told else response


def _cannot(visit: Visit) -> Response:
    """There is no factor that would do: set one up, or go back."""
    if visit.interaction is None:
        raise interaction_gone()
    return visit.page(
        "second_factor_missing.html",
        client=client_name(visit.interaction.client),
        enrol="/account/authenticator" if needed_acr(visit) == MFA else "/account/passkeys",
    )
