"""The authenticator app: setting it up with a QR code, switching it off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from stockade.identity.mfa import totp
from stockade.identity.mfa.changes import FactorProblem

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit

_HERE = "authenticator"


async def show(visit: Visit) -> Response:
    """On or off, and how to change it."""
    return _overview(visit)


async def start(visit: Visit) -> Response:
    """Make a secret and show it, this once."""
    enrolment = await totp.begin(visit.services, visit.request, visit.here())
    if isinstance(enrolment, FactorProblem):
        return visit.factor_problem(enrolment, _HERE) or _overview(visit, enrolment)
    return _enrolment(visit, enrolment.ticket, enrolment.secret, enrolment.svg)


async def confirm(visit: Visit) -> Response:
    """The first code takes the secret into use."""
    ticket, code = visit.form.optional("ticket") or "", visit.form.optional("code") or ""
    outcome = await totp.confirm(visit.services, visit.request, visit.here(), ticket, code)
    if isinstance(outcome, FactorProblem):
        again = visit.factor_problem(outcome, _HERE)
        if again is None and outcome is FactorProblem.WRONG:
            # The QR code is not shown again: the app has it, and the ticket still holds.
            return _enrolment(visit, ticket, "", "", {"code": visit.locale.text("totp.failed")})
        return again or _overview(visit, outcome)
    visit.cookies.append(outcome[1])
    return visit.see_other("/account/recovery-codes", done="totp_on")


async def remove(visit: Visit) -> Response:
    """Switch it off; the last second factor only when that was said."""
    confirmed = visit.form.optional("confirmed") == "yes"
    problem = await totp.remove(visit.services, visit.request, visit.here(), confirmed=confirmed)
    if problem is None or problem is FactorProblem.UNKNOWN:
        return visit.see_other("/account/authenticator", done="totp_off")
    return visit.factor_problem(problem, _HERE, "/account/authenticator/remove") or _overview(visit, problem)


def _overview(visit: Visit, problem: FactorProblem | None = None) -> Response:
    errors = {} if problem is None else {"": visit.locale.text(f"problem.{problem.value}")}
    enrolled = visit.here().user.has_totp
    return visit.account(
        "account_authenticator.html", _HERE, errors=errors, status=400 if problem else 200, enrolled=enrolled
    )


def _enrolment(visit: Visit, ticket: str, secret: str, svg: str, errors: dict[str, str] | None = None) -> Response:
    spaced = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return visit.account(
        "account_authenticator_start.html",
        _HERE,
        errors=errors,
        status=400 if errors else 200,
        ticket=ticket,
        secret=spaced,
        # Made by us from the user's name, which stands in it as modules of the code alone.
        qr=Markup(svg),  # noqa: S704 - see above
    )
