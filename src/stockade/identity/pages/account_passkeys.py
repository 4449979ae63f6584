"""Passkeys: which there are, adding one, removing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from stockade.identity.mfa import passkeys
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.pages.headers import PAGE_HEADERS

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit

_HERE = "passkeys"


async def show(visit: Visit) -> Response:
    """Those that there are, and the way to another."""
    return await _page(visit)


async def options(visit: Visit) -> Response:
    """For passkeys.js: what the browser is to make."""
    made = await passkeys.registration_options(visit.services, visit.request, visit.here())
    return options_answer(made)


def options_answer(made: object) -> Response:
    """WebAuthn's options as JSON, or the problem, which the script tells as failed."""
    if isinstance(made, FactorProblem):
        return JSONResponse({"problem": made.value}, 400, PAGE_HEADERS)
    return JSONResponse({"publicKey": made}, headers=PAGE_HEADERS)


async def add(visit: Visit) -> Response:
    """Store what the browser made."""
    name, credential = visit.form.optional("name") or "", visit.form.optional("credential") or ""
    outcome = await passkeys.register(visit.services, visit.request, visit.here(), credential, name)
    if not isinstance(outcome, FactorProblem):
        if visit.interaction is not None:
            # It was made because a client asks for it: now show it.
            return visit.see_other("/sign-in/second-factor")
        return visit.see_other("/account/passkeys", done="passkey_added")
    key = "passkey.refused" if outcome is FactorProblem.WRONG else f"problem.{outcome.value}"
    return visit.factor_problem(outcome, _HERE) or await _page(visit, {"": visit.locale.text(key)})


async def remove(visit: Visit) -> Response:
    """Remove one; the last second factor only when that was said, the only way in never."""
    confirmed = visit.form.optional("confirmed") == "yes"
    passkey_id = visit.form.optional("passkey") or ""
    problem = await passkeys.remove(visit.services, visit.request, visit.here(), passkey_id, confirmed=confirmed)
    if problem is None:
        return visit.see_other("/account/passkeys", done="passkey_removed")
    error = {"": visit.locale.text(f"problem.{problem.value}")}
    return visit.factor_problem(problem, _HERE, "/account/passkeys/remove") or await _page(visit, error)


async def _page(visit: Visit, errors: dict[str, str] | None = None) -> Response:
    mine = await passkeys.list_passkeys(visit.services, visit.here().user)
    status = 400 if errors else 200
    return visit.account("account_passkeys.html", _HERE, errors=errors, status=status, passkeys=mine)
