"""The two fields of a new password, wherever they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.people.passwords import MAX_CHARS, MIN_CHARS, MIN_CHARS_ALONE

if TYPE_CHECKING:
    from stockade.identity.pages.visit import Visit
    from stockade.identity.people.passwords import PasswordProblem
    from stockade.identity.storage.users import UserRecord


def choice(visit: Visit) -> str | dict[str, str]:
    """The password that was typed twice, or the texts of what is wrong by field."""
    new, again = visit.form.optional("new_password"), visit.form.optional("new_password_again")
    if new is None:
        return {"new_password": visit.locale.text("password.missing")}
    if new != again:
        return {"new_password_again": visit.locale.text("password.different")}
    return new


def least_chars(visit: Visit, user: UserRecord) -> int:
    """How long it must be for this person (users.new_password_problem)."""
    alone = visit.services.config.profile == "fapi2" and not user.has_second_factor
    return MIN_CHARS_ALONE if alone else MIN_CHARS


def problem_text(visit: Visit, user: UserRecord, problem: PasswordProblem) -> str:
    """What is wrong, in words."""
    return visit.locale.text(f"password.{problem.value}", least=least_chars(visit, user), most=MAX_CHARS)
