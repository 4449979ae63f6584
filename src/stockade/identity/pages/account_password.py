"""Changing the password. Who gets here has just signed in anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.pages.passwords_form import choice, least_chars, problem_text
from stockade.identity.people.passwords import PasswordProblem
from stockade.identity.people.users import change_password

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit


async def show(visit: Visit) -> Response:
    """The form."""
    return _page(visit)


async def change(visit: Visit) -> Response:
    """Set it. All other sessions end, this one goes on under a new secret."""
    new = choice(visit)
    if isinstance(new, dict):
        return _page(visit, new)
    session = visit.here()
    outcome = await change_password(visit.services, visit.request, session, new)
    if outcome is None:
        return visit.see_other("/sign-in", to="password")
    if isinstance(outcome, PasswordProblem):
        return _page(visit, {"new_password": problem_text(visit, session.user, outcome)})
    visit.cookies.append(outcome[1])
    return visit.see_other("/account", done="password")


def _page(visit: Visit, errors: dict[str, str] | None = None) -> Response:
    return visit.account(
        "account_password.html",
        "password",
        errors=errors,
        status=400 if errors else 200,
        least=least_chars(visit, visit.here().user),
    )
