"""Recovery codes: how many are left, and new ones, shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.mfa import recovery
from stockade.identity.mfa.changes import FactorProblem

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit

_HERE = "recovery"


async def show(visit: Visit) -> Response:
    """How many are left."""
    return _page(visit, ())


async def renew(visit: Visit) -> Response:
    """New codes; those from before are worth nothing."""
    codes = await recovery.regenerate(visit.services, visit.request, visit.here())
    if isinstance(codes, FactorProblem):
        error = {"": visit.locale.text(f"problem.{codes.value}")}
        return visit.factor_problem(codes, _HERE) or _page(visit, (), error)
    return _page(visit, codes)


def _page(visit: Visit, codes: tuple[str, ...], errors: dict[str, str] | None = None) -> Response:
    return visit.account(
        "account_recovery.html",
        _HERE,
        errors=errors,
        status=400 if errors else 200,
        codes=codes,
        left=visit.here().user.recovery_codes,
        next="/oauth2/authorize/continue" if visit.interaction else "/account",
    )
