"""People, their applications and their browsers, for the tests of the pages."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from code_support import Attempt

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.people.passwords import Passwords
from stockade.identity.people.users import username_key
from stockade.identity.storage.users import UserRecord, insert_user

if TYPE_CHECKING:
    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

PASSWORD = "correct horse battery staple"
SCOPES = ("orders:read", "orders:write", "openid", "profile", "email", "offline_access")
FLOW = ("authorization_code", "refresh_token")
# Many tests fail to sign in on purpose; what slows that down has tests of its own.
ENOUGH = 100_000
PATIENT = {
    f"{what}_{of}": value
    for what in ("pair", "network", "name", "device", "code")
    for of, value in (("burst", ENOUGH), ("seconds_each", 1))
}
PEOPLE: dict[str, Any] = {
    "throttling": {"client_burst": ENOUGH, "address_burst": ENOUGH, "people": PATIENT},
    "scopes": list(SCOPES),
    "people": {
        "title": "Example Grocer",
        "scopes": {"orders:read": "See your orders", "orders:write": "Place and cancel orders"},
    },
}


@lru_cache(maxsize=8)
def hashed(password: str) -> str:
    return Passwords(workers=1).hash_now(password)


def make_user(server: Server, username: str = "", password: str | None = PASSWORD, **changes: Any) -> UserRecord:
    """A person with a password and no second factor."""
    record = UserRecord(
        user_id=f"u_{secrets.token_hex(10)}",
        username=username or f"ada-{secrets.token_hex(4)}",
        name="Ada Lovelace",
        email="ada@example.com",
        email_verified=True,
        locale=None,
        roles=(),
        generation=0,
        created_at=int(time.time()),
        disabled_at=None,
        has_password=password is not None,
        must_change_password=False,
        has_totp=False,
        passkeys=0,
        recovery_codes=0,
    )
    record = replace(record, **changes)
    key = username_key(record.username)
    assert key is not None
    with server.storage() as storage, storage.write() as connection:
        insert_user(connection, record, key, None if password is None else hashed(password))
    return record


def make_app(server: Server, redirect_uri: str, name: str = "", **metadata: Any) -> CreatedClient:
    """An application that sends people here to sign in."""
    described = {
        "grant_types": FLOW,
        "redirect_uris": (redirect_uri,),
        "client_name": "Larder",
        "client_uri": "https://larder.example",
        "policy_uri": "https://larder.example/privacy",
        "tos_uri": "https://larder.example/terms",
        **metadata,
    }
    return server.client(name or f"app-{secrets.token_hex(4)}", SCOPES, metadata=ClientMetadata(**described))


def request_url(server: Server, client: CreatedClient, redirect_uri: str, **changes: str | None) -> str:
    """Where the application sends the browser."""
    return server.issuer + Attempt(client.client_id).url(redirect_uri=redirect_uri, **changes)


@dataclass
class Form:
    """A form as it stands in a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "form":
            assert values["method"] == "post"
            self.forms.append(Form(values["action"]))
            self._open = True
        elif tag == "input" and self._open and "name" in values:
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "button" and self._open:
            self.forms[-1].buttons.append((values.get("name", ""), values.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False


def forms(text: str) -> list[Form]:
    parser = _Forms()
    parser.feed(text)
    return parser.forms


def form_to(answer: httpx.Response, path: str) -> Form:
    """The form of a page that goes to `path`."""
    assert answer.status_code < 500, answer.text
    found = [form for form in forms(answer.text) if urlsplit(form.action).path == path]
    assert found, f"{answer.status_code} {answer.url}: no form to {path}\n{answer.text}"
    return found[0]


# What every browser of today says with the forms of our pages.
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Origin": "null", "Accept": "text/html"}


def send(http: httpx.Client, form: Form, headers: dict[str, str] | None = None, **values: str) -> httpx.Response:
    """Fill in and send, redirects not followed."""
    return http.post(form.action, data={**form.fields, **values}, headers=SAME_ORIGIN if headers is None else headers)


def onward(answer: httpx.Response) -> str:
    """Where a page leads that goes on by itself."""
    assert answer.status_code == 200, answer.text
    match = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
    assert match, answer.text
    return match[1].replace("&amp;", "&")


def sign_in(http: httpx.Client, username: str, password: str = PASSWORD, path: str = "/sign-in") -> httpx.Response:
    """By name and password, on whatever page shows that form."""
    return send(http, form_to(http.get(path), "/sign-in"), username=username, password=password)


def parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
