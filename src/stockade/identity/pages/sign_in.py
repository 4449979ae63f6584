"""Signing in: name and password, and what comes between that and the page that one was on the way to.

Whether a name exists is told by nothing: the same text, the same page, the same status, and no second step before the
first was right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.interactions import choose, continue_url
from stockade.identity.pages.errors import interaction_gone
from stockade.identity.pages.naming import client_name
from stockade.identity.pages.outcome import Told, needed_acr, settle
from stockade.identity.pages.passwords_form import choice, least_chars, problem_text
from stockade.identity.people.sign_in import (
    Refused,
    waiting,
    with_new_password,
    with_password,
)
from stockade.identity.storage.pending import Purpose

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit


async def show(visit: Visit) -> Response:
    """The form; or, where somebody is signed in already, whether to go on as that."""
    interaction, session = visit.interaction, visit.session
    if session is None or visit.given("other"):
        return form(visit)
    if interaction is None:
        return form(visit) if visit.to else visit.see_other("/account")
    if interaction.reauthenticate:
        return form(visit)
    if interaction.select_account:
        return visit.page("choose_account.html", client=client_name(interaction.client))
    return visit.see_other("/oauth2/authorize/continue")


async def go_on(visit: Visit) -> Response:
    """Go on as who is signed in (OIDC Core §3.1.2.1 `select_account`)."""
    if visit.interaction is None or visit.session is None:
        raise interaction_gone()
    await choose(visit.services, visit.interaction, visit.session)
    return visit.onward(continue_url(visit.services, visit.interaction.secret))


async def password(visit: Visit) -> Response:
    """Try a name and a password."""
    username, typed = visit.form.optional("username") or "", visit.form.optional("password") or ""
    outcome = await with_password(visit.services, visit.request, username, typed, needed_acr(visit))
    told = settle(visit, outcome, "sign_in.failed")
    return form(visit, username, told) if isinstance(told, Told) else told


async def show_change(visit: Visit) -> Response:
    """A password of one's own in place of the administrator's."""
    return await _change_page(visit, {})


async def change(visit: Visit) -> Response:
    """Take it, and go on."""
    new = choice(visit)
    if isinstance(new, dict):
        return await _change_page(visit, new)
    outcome = await with_new_password(visit.services, visit.request, new)
    if isinstance(outcome, Refused) and outcome.problem is not None:
        before = await waiting(visit.services, visit.request)
        text = problem_text(visit, before.user, outcome.problem) if before else ""
        return await _change_page(visit, {"new_password": text})
    told = settle(visit, outcome, "password.missing")
    return await _change_page(visit, {"new_password": told.text}) if isinstance(told, Told) else told


async def _change_page(visit: Visit, errors: dict[str, str]) -> Response:
    before = await waiting(visit.services, visit.request)
    if before is None or before.purpose is not Purpose.NEW_PASSWORD:
        return visit.see_other("/sign-in", to=visit.to)
    return visit.page(
        "change_password.html",
        status=400 if errors else 200,
        errors=errors,
        username=before.user.username,
        least=least_chars(visit, before.user),
    )


def form(visit: Visit, username: str = "", error: Told | None = None) -> Response:
    """The form, with what was typed before except the password."""
    interaction, session = visit.interaction, visit.session
    again = session is not None and not visit.given("other")
    known = session.user.username if again and session is not None else ""
    hint = (interaction.request.login_hint if interaction else "") or ""
    response = visit.page(
        "sign_in.html",
        status=error.status if error else 200,
        errors={"": error.text} if error else {},
        username=username or known or hint,
        client=client_name(interaction.client) if interaction else "",
        again=again,
    )
    return error.on(response) if error else response
