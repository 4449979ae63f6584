"""What a step of the sign-in leads to: the next page, the place that one was on the way to, or a word of refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity.interactions import continue_url
from stockade.identity.people.sign_in import NextStep, Refusal, SignedIn
from stockade.identity.storage.pending import Purpose

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit
    from stockade.identity.people.sign_in import Outcome

# Where a sign-in without an interaction may lead: names, so that no address can be smuggled in.
RETURNS = {
    "overview": "/account",
    "password": "/account/password",
    "passkeys": "/account/passkeys",
    "authenticator": "/account/authenticator",
    "recovery": "/account/recovery-codes",
    "sessions": "/account/sessions",
    "apps": "/account/apps",
    "activity": "/account/activity",
}
_STEPS = {Purpose.SECOND_FACTOR: "/sign-in/second-factor", Purpose.NEW_PASSWORD: "/sign-in/password"}


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal in words. The status follows from the reason alone, never from who was meant."""

    text: str
    status: int = 400
    retry_after_seconds: int | None = None

    def on(self, response: Response) -> Response:
        """Say when to come back."""
        if self.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(self.retry_after_seconds)
        return response


def settle(visit: Visit, outcome: Outcome, failed: str) -> Response | Told:
    """Go on, or tell why not. `failed` is the key of the text for what was wrong."""
    if isinstance(outcome, SignedIn):
        visit.cookies.extend(outcome.cookies)
        visit.session = outcome.session
        return arrive(visit)
    if isinstance(outcome, NextStep):
        visit.cookies.extend(outcome.cookies)
        return visit.see_other(_STEPS[outcome.purpose], to=visit.to)
    if outcome.reason is Refusal.EXPIRED:
        return visit.see_other("/sign-in", to=visit.to)
    if outcome.reason is Refusal.WAIT:
        seconds = outcome.retry_after_seconds or 1
        return Told(visit.locale.text("sign_in.slow", seconds=seconds), 429, seconds)
    return Told(visit.locale.text(failed))


def arrive(visit: Visit) -> Response:
    """Signed in: back to the request that it was for, or to the page of ours that asked."""
    if visit.interaction is not None:
        return visit.onward(continue_url(visit.services, visit.interaction.secret))
    return visit.see_other(RETURNS.get(visit.to, "/account"))


def needed_acr(visit: Visit) -> str | None:
    """What the request that this is for asks for."""
    return visit.interaction.needed_acr if visit.interaction else None
