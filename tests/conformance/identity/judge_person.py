"""A person at a browser without scripts: follows redirects, reads the forms that come, fills them in and sends them.

It knows nothing of the server but HTML: which field is a name, a password or a one-time code is read from the forms
themselves, as a password manager does.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pyotp

if TYPE_CHECKING:
    import ssl

MAX_STEPS = 20
_YES = re.compile(r"allow|approve|accept|yes|continue|sign.?in|confirm|verify|sign.?out", re.IGNORECASE)
_NO = re.compile(r"deny|refuse|cancel|reject|\bno\b", re.IGNORECASE)


@dataclass
class Control:
    """One input, button, select or text area."""

    kind: str
    name: str
    value: str
    autocomplete: str = ""
    checked: bool = False
    text: str = ""


@dataclass
class Form:
    """A form as the page has it. `action` is as written there."""

    action: str
    method: str
    controls: list[Control] = field(default_factory=list)

    def buttons(self) -> list[Control]:
        return [each for each in self.controls if each.kind == "submit"]

    def has(self, kind: str) -> bool:
        return any(each.kind == kind for each in self.controls)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None
        self._button: Control | None = None
        self.refresh: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "meta" and of.get("http-equiv", "").lower() == "refresh":
            self.refresh = of.get("content", "").partition("=")[2].strip() or None
        if tag == "form":
            self._open = Form(of.get("action", ""), of.get("method", "get").lower())
            self.forms.append(self._open)
        if self._open is None or tag not in ("input", "button", "select", "textarea"):
            return
        kind = of.get("type", "submit" if tag == "button" else "text" if tag == "input" else tag).lower()
        control = Control(kind, of.get("name", ""), of.get("value", ""), of.get("autocomplete", ""), "checked" in of)
        if kind == "checkbox" and "value" not in of:
            control.value = "on"
        self._open.controls.append(control)
        if tag == "button":
            self._button = control

    def handle_data(self, data: str) -> None:
        if self._button is not None:
            self._button.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        if tag == "button":
            self._button = None


def read_page(page: str) -> tuple[list[Form], str | None]:
    """All forms of a page in its order, and where it says the browser should go by itself."""
    parser = _Forms()
    parser.feed(page)
    return parser.forms, parser.refresh


@dataclass(frozen=True)
class Arrival:
    """Where the browser was sent in the end: at the client, with what the answer carries."""

    url: str
    parameters: dict[str, str]

    @property
    def error(self) -> str | None:
        return self.parameters.get("error")


class StoppedError(AssertionError):
    """The browser stays on a page that asks nothing more, or the server answered without one."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text}")
        self.answer = answer


class Person:
    """`username` and `password` are typed where asked. `totp` is the shared secret, base32.

    `allow` is what is answered to a consent page. `seen` lists the paths of the pages that were filled in.
    """

    def __init__(
        self, tls: ssl.SSLContext, username: str, password: str, *, totp: str | None = None, allow: bool = True
    ) -> None:
        self.username, self.password, self.totp, self.allow = username, password, totp, allow
        self.seen: list[str] = []
        self.user_code = ""
        self.http = httpx.Client(verify=tls, trust_env=False, timeout=20, headers={"Accept": "text/html"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def visit(self, url: str, back_at: str) -> Arrival:
        """Open `url` and go on until the browser is sent to an address below `back_at`. Raises StoppedError."""
        return self._go_on(self.http.get(url), back_at)

    def try_to_visit(self, url: str, back_at: str) -> Arrival | httpx.Response:
        """The same; the page that the browser stays on, where it does."""
        try:
            return self.visit(url, back_at)
        except StoppedError as stopped:
            return stopped.answer

    def post(self, url: str, form: dict[str, str], back_at: str) -> Arrival:
        """The same, starting with a form of the client's own page."""
        return self._go_on(self.http.post(url, data=form), back_at)

    def page(self, url: str, stop_at: str = "https://nowhere.invalid/") -> httpx.Response:
        """Open a page, follow redirects but those to `stop_at`, fill nothing in."""
        answer = self.http.get(url)
        while (onward := _onward(answer)) is not None and not _is_below(onward, stop_at):
            answer = self.http.get(onward)
        return answer

    def allow_device(self, url: str, user_code: str = "") -> httpx.Response:
        """Type the code of a device where it must be typed, sign in, allow. Returns the last page."""
        self.user_code = user_code
        try:
            self.visit(url, "https://nowhere.invalid/")
        except StoppedError as stopped:
            return stopped.answer
        raise AssertionError("the device's page sent the browser away")

    def _go_on(self, answer: httpx.Response, back_at: str) -> Arrival:
        for _ in range(MAX_STEPS):
            onward = _onward(answer)
            if onward is not None:
                if _is_below(onward, back_at):
                    return _arrival(onward)
                answer = self.http.get(onward)
                continue
            form = self._choose(answer)
            if form is None:
                raise StoppedError(answer)
            action = urljoin(str(answer.url), form.action or str(answer.url))
            fields = self._fill(form)
            if _is_below(action, back_at):
                return Arrival(action, fields)
            self.seen.append(urlsplit(str(answer.url)).path)
            if form.method == "get":
                answer = self.http.get(action, params=fields)
            else:
                # What a browser says of itself; the origin check of a form depends on it.
                parts = urlsplit(str(answer.url))
                origin = {"Origin": f"{parts.scheme}://{parts.netloc}", "Sec-Fetch-Site": "same-origin"}
                answer = self.http.post(action, data=fields, headers=origin)
        raise AssertionError(f"no end after {MAX_STEPS} steps: {self.seen}")

    def _choose(self, answer: httpx.Response) -> Form | None:
        """The form that leads on. A page that is shown again with an error has no way on: the person gives up."""
        if not _is_page(answer) or answer.status_code >= 400:
            return None
        forms = [form for form in read_page(answer.text)[0] if form.buttons() or form.method == "post"]
        for leads_on in (
            lambda form: form.has("password"),
            lambda form: any("one-time-code" in each.autocomplete for each in form.controls),
            lambda form: any("user_code" in each.name for each in form.controls) and bool(self.user_code),
            lambda form: self._button(form) is not None,
            lambda form: all(each.kind == "hidden" for each in form.controls if each.kind != "submit"),
        ):
            for form in forms:
                if leads_on(form):
                    return form
        return None

    def _fill(self, form: Form) -> dict[str, str]:
        fields: dict[str, str] = {}
        for control in form.controls:
            if control.name and control.kind not in ("submit", "button"):
                value = self._type(control)
                if value is not None:
                    fields[control.name] = value
        button = self._button(form)
        if button is not None and button.name:
            fields[button.name] = button.value
        return fields

    def _type(self, control: Control) -> str | None:
        if control.kind in ("checkbox", "radio"):
            return control.value if control.checked else None
        if control.kind == "password":
            return self.password
        if "one-time-code" in control.autocomplete:
            return pyotp.TOTP(self.totp or "").now()
        if "user_code" in control.name and self.user_code and control.kind != "hidden":
            return self.user_code
        if "username" in control.autocomplete or (control.name in ("username", "identifier") and not control.value):
            return self.username
        return control.value

    def _button(self, form: Form) -> Control | None:
        wanted = _YES if self.allow else _NO
        buttons = form.buttons()
        said = [each for each in buttons if wanted.search(f"{each.name} {each.value} {each.text}")]
        if said:
            return said[0]
        # Only one thing to press: whoever refuses still has to sign in first.
        return buttons[0] if len(buttons) == 1 and not _NO.search(buttons[0].text) else None


def _is_page(answer: httpx.Response) -> bool:
    return "text/html" in answer.headers.get("content-type", "")


def _onward(answer: httpx.Response) -> str | None:
    """Where the answer itself sends the browser."""
    target = answer.headers["location"] if answer.is_redirect else None
    if target is None and _is_page(answer):
        target = read_page(answer.text)[1]
    return None if target is None else urljoin(str(answer.url), target)


def _is_below(url: str, back_at: str) -> bool:
    return url == back_at or url.startswith((f"{back_at}?", f"{back_at}&", f"{back_at}/"))


def _arrival(url: str) -> Arrival:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values()), f"a parameter stands twice: {url}"
    return Arrival(url, {name: values[0] for name, values in query.items()})


def wait_for_next_code(person: Person) -> None:
    """A one-time code is good once; wait until the next one."""
    before: Any = pyotp.TOTP(person.totp or "").now()
    while pyotp.TOTP(person.totp or "").now() == before:
        time.sleep(0.5)
