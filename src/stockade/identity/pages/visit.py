"""One request for a page: who asks, from which browser, in which language, and how to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from stockade.identity.endpoints.form import Form
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.pages.assets import asset_path
from stockade.identity.pages.csrf import csrf_token
from stockade.identity.pages.rendering import page, see_other

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.browser import Browser
    from stockade.identity.interactions import Interaction
    from stockade.identity.pages.languages import Locale
    from stockade.identity.people.cookies import Cookie
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services

NO_FORM = Form({})


@dataclass(slots=True)
class Visit:
    """What a handler works with. `form` is empty for GET; `interaction` is what `i=` led to, if anything."""

    services: Services
    request: Request
    locale: Locale
    browser: Browser
    session_secret: str = field(repr=False)
    session: Session | None = None
    interaction: Interaction | None = None
    form: Form = field(default=NO_FORM, repr=False)
    cookies: list[Cookie] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return self.request.client.host if self.request.client else ""

    def here(self) -> Session:
        """The session. Only for pages that nobody reaches without one."""
        if self.session is None:
            raise LookupError("this page must be guarded by a session")
        return self.session

    def given(self, name: str) -> str | None:
        """A parameter of the form, or of the page's address."""
        return self.form.optional(name) or self.request.query_params.get(name) or None

    @property
    def to(self) -> str:
        """The name of the page of ours that a sign-in is for (outcome.RETURNS)."""
        return self.given("to") or ""

    def url(self, path: str, **query: str | None) -> str:
        """One of our own paths, below the issuer's, with the interaction carried along."""
        if self.interaction is not None:
            query.setdefault("i", self.interaction.secret)
        present = {name: value for name, value in query.items() if value}
        text = self.services.config.base_path + path
        return f"{text}?{urlencode(present)}" if present else text

    def page(
        self, template: str, *, status: int = 200, errors: Mapping[str, str] | None = None, **context: object
    ) -> Response:
        """Render. `errors` are texts by the id of the field that they are about."""
        people = self.services.config.people
        standing = {
            "t": self.locale.text,
            "lang": self.locale.tag,
            "moment": self.locale.moment,
            "site": people.title,
            "url": self.url,
            "asset": lambda name: self.services.config.base_path + asset_path(name),
            "csrf": csrf_token(self.services.derived, self.browser.secret, self.session_secret),
            "interaction": self.interaction,
            "session": self.session,
            "to": self.to,
            "errors": errors or {},
        }
        return page(template, {**standing, **context}, status)

    def account(
        self, template: str, here: str, *, errors: Mapping[str, str] | None = None, status: int = 200, **context: object
    ) -> Response:
        """Render a page of the account; `done` in its address names what was done just before."""
        done = self.request.query_params.get("done", "")
        shown = done if self.locale.known(f"done.{done}") else ""
        return self.page(template, status=status, errors=errors, here=here, done=shown, **context)

    def factor_problem(self, problem: FactorProblem, here: str, action: str = "") -> Response | None:
        """What every change of factors may run into: sign in again, or say that one means it. None: something else."""
        if problem is FactorProblem.REAUTHENTICATE:
            # An interaction would lead on to its client instead of back here.
            self.interaction = None
            return self.see_other("/sign-in", to=here)
        if problem is not FactorProblem.CONFIRM_LAST:
            return None
        kept = {name: value for name, value in self.form.values.items() if name not in ("csrf", "i")}
        return self.account("account_confirm.html", here, action=action, fields={**kept, "confirmed": "yes"})

    def see_other(self, path: str, **query: str | None) -> Response:
        """After a form that stays with us."""
        return see_other(self.url(path, **query))

    def onward(self, url: str) -> Response:
        """After a form that may lead out of here: a page that goes on by itself, with a link for who it does not take.

        In a browser a redirect would be held against `form-action`, along the whole way to the client and beyond (CSP 3
        §6.4.1.1). What asks for no HTML is a program, which follows redirects and no pages. `url` is one of our own, or
        a client's that was checked against its registration.
        """
        if "text/html" not in self.request.headers.get("accept", ""):
            return see_other(url)
        return self.page("onward.html", onward=url)
