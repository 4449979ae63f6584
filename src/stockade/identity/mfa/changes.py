"""Who may add or remove a factor, and why it may not be."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from stockade.identity.people.assurance import MFA, satisfies

if TYPE_CHECKING:
    from stockade.identity.people.sessions import Session

RECENT_SECONDS = 900


class FactorProblem(StrEnum):
    """Why nothing was changed; the pages have a sentence for each."""

    # The session is too old or too weak: sign in again, with the second factor where there is one.
    REAUTHENTICATE = "reauthenticate"
    WRONG = "wrong"
    EXPIRED = "expired"
    # It is the last second factor: ask, then call again with `confirmed`.
    CONFIRM_LAST = "confirm_last"
    # Nobody could sign in any more.
    ONLY_WAY_IN = "only_way_in"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    TOO_MANY = "too_many"


def may_change_factors(session: Session, now: float) -> bool:
    """Whether a session is young and strong enough: a cookie that was left behind must not become an account.

    NIST SP 800-63B §6.1.2.1: binding an authenticator takes the assurance that the account has already.
    """
    strong = not session.user.has_second_factor or satisfies(session.acr, MFA)
    return strong and now - session.auth_time <= RECENT_SECONDS
