"""A person's browser and an application that sends it to sign in: what the code flow's tests share.

Signing in is a session of the real module, stored as its page would; agreeing is the interaction's own `finish`.
"""

from __future__ import annotations

import secrets
import threading
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from identity_support import credentials
from page_support import run
from sqlalchemy import update

from stockade.identity import audit, interactions
from stockade.identity.browser import Browser
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.config import Sessions
from stockade.identity.interactions import Decision
from stockade.identity.people.client import Origin
from stockade.identity.people.cookies import BROWSER, SESSION, Cookie, new_secret
from stockade.identity.people.sessions import Session, Start
from stockade.identity.storage.users import UserRecord, insert_user

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

CALLBACK = "https://app.example/callback"
FLOW = ("authorization_code", "refresh_token")
SCOPES = ("orders:read", "orders:write", "openid", "profile", "email", "offline_access")


def application(server: Server, name: str, scopes: tuple[str, ...] = SCOPES, **metadata: Any) -> CreatedClient:
    """A client registered for the code flow; first-party, so that nothing is asked unless a test wants it."""
    auth_method = metadata.pop("auth_method", "client_secret_basic")
    jwks = metadata.pop("jwks", None)
    described = {"grant_types": FLOW, "redirect_uris": (CALLBACK,), "first_party": True, **metadata}
    return server.client(name, scopes, auth_method=auth_method, jwks=jwks, metadata=ClientMetadata(**described))


def person(server: Server, username: str | None = None) -> UserRecord:
    """A user without any factor: how people prove themselves is tested elsewhere."""
    username = username or f"user-{secrets.token_hex(4)}"
    record = UserRecord(
        user_id=f"u_{secrets.token_hex(10)}",
        username=username,
        name="Ada Lovelace",
        email="ada@example.com",
        email_verified=True,
        locale="en",
        roles=(),
        generation=0,
        created_at=int(time.time()),
        disabled_at=None,
        has_password=False,
        must_change_password=False,
        has_totp=False,
        passkeys=0,
        recovery_codes=0,
    )
    with server.storage() as storage, storage.write() as connection:
        insert_user(connection, record, username, None)
    return record


@dataclass
class Someone:
    """A browser with somebody in front of it."""

    server: Server
    http: httpx.Client
    user: UserRecord | None = None
    session: Session | None = None

    def sign_in(self, user: UserRecord | None = None, proofs: tuple[str, ...] = ("pwd",), ago: int = 0) -> Session:
        """Begin a session, as the sign-in page does. `ago` seconds lie between then and now."""
        self.user = user or self.user or person(self.server)
        cookie = Cookie(SESSION, new_secret())
        start = Start(
            user=self.user,
            proofs=proofs,
            origin=Origin("127.0.0.1", "a browser"),
            cookie=cookie,
            session_id=f"s_{secrets.token_hex(16)}",
            before=None,
            now=time.time() - ago,
            limits=Sessions(),
        )
        with self.server.storage() as storage, storage.write() as connection:
            self.session = start.run(connection)
        self._set(SESSION, cookie.value)
        return self.session

    def sign_out(self) -> None:
        """Lose the cookie, and no more."""
        self.http.cookies.delete(SESSION)
        self.session = None

    def open(self, url: str) -> httpx.Response:
        """One request, redirects not followed."""
        return self.http.get(url, follow_redirects=False)

    def decide(self, url: str, decision: Decision) -> httpx.Response:
        """Decide as the consent page does, and go back to the endpoint. `url` is where the page would be."""
        self.agree(url, decision)
        return self.go_on(url)

    def agree(self, url: str, decision: Decision) -> None:
        """Decide, and stay."""
        browser, session = Browser(str(self.http.cookies.get(BROWSER)), new=False), self.session
        with self.server.storage() as storage:
            run(storage, lambda services: _decide(services, _secret(url), browser, session, decision))

    def go_on(self, url: str) -> httpx.Response:
        """Go back to the endpoint after a page's step."""
        return self.open(f"/oauth2/authorize/continue?i={_secret(url)}")

    def _set(self, name: str, value: str) -> None:
        if name in self.http.cookies:
            self.http.cookies.delete(name)
        self.http.cookies.set(name, value, domain="localhost.local", path="/")  # cookiejar's name for it


def _secret(url: str) -> str:
    return dict(parse_qsl(urlsplit(url).query))["i"]


async def _decide(services: Any, secret: str, browser: Browser, session: Session | None, decision: Decision) -> None:
    interaction = await interactions.load(services, secret, browser)
    assert interaction is not None
    assert session is not None
    assert await interactions.finish(services, interaction, session, decision, "127.0.0.1")


@dataclass
class Attempt:
    """One run of the code flow by an application: what it sends, and what it remembers."""

    client_id: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def parameters(self, **changes: str | None) -> dict[str, str]:
        """The request's parameters; one given as None is left out."""
        standard = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid orders:read",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in {**standard, **changes}.items() if value is not None}

    def url(self, **changes: str | None) -> str:
        return "/oauth2/authorize?" + urlencode(self.parameters(**changes))

    def redeem(
        self, http: httpx.Client, client: CreatedClient, code: str, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **fields,
        }
        return http.post("/oauth2/token", data=form, headers=proof_of(client, form) | (headers or {}))


def proof_of(client: CreatedClient, form: dict[str, str]) -> dict[str, str]:
    """Client authentication: Basic, or the `client_id` in the form for a public one."""
    if client.client_secret is not None:
        return credentials(client)
    form["client_id"] = client.client_id
    return {}


def refresh(
    http: httpx.Client, client: CreatedClient, token: str, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, **fields}
    return http.post("/oauth2/token", data=form, headers=proof_of(client, form) | (headers or {}))


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def sent_back(answer: httpx.Response, to: str = CALLBACK) -> dict[str, str]:
    """What came back to the application by redirect."""
    assert answer.status_code == 303, answer.text
    location = answer.headers["location"]
    assert location.partition("?")[0] == to.partition("?")[0]
    pairs = parse_qsl(urlsplit(location).query, strict_parsing=True, keep_blank_values=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def code_of(answer: httpx.Response) -> str:
    return sent_back(answer)["code"]


def tokens_for(
    server: Server, http: httpx.Client, client: CreatedClient, someone: Someone | None = None, **changes: str | None
) -> dict[str, Any]:
    """The whole flow for somebody who is signed in: authorize, redeem."""
    someone = someone or Someone(server, http)
    if someone.session is None:
        someone.sign_in()
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url(**changes)))
    answer = attempt.redeem(http, client, code)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def later(server: Server, column: Any, seconds: float) -> None:
    """Let time pass for one column of every row: what was then is longer ago, what ends does so sooner."""
    with server.storage() as storage, storage.write() as connection:
        connection.execute(update(column.table).where(column.is_not(None)).values({column: column - seconds}))


def audited(server: Server, kind: str, client: CreatedClient) -> list[dict[str, Any]]:
    """The details of the audit's events of one kind about one client."""
    with server.storage() as storage, storage.read() as connection:
        return [
            dict(row.event.detail)
            for row in audit.read(connection)
            if row.event.kind == kind and row.event.client_id == client.client_id
        ]


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in so many threads that wait for each other before they begin."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))
