"""npm `oidc-client-ts` in a real Chromium: a single-page application, on an origin of its own, signs somebody in.

Sign-in by redirect, the callback, userinfo, silent renewal by refresh token, revocation, sign-out; with bearer tokens
and with tokens bound by DPoP to a key that the browser keeps and no script can read.
"""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from browser import Browser, require_chromium
from judge_node import NODE, require_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judge_stand import Stand

PAGE = Path(__file__).parent / "page"
LIBRARY = NODE / "node_modules" / "oidc-client-ts" / "dist" / "browser" / "oidc-client-ts.js"
SCOPE = "openid profile email offline_access orders:read"


class Site:
    """The application's files over https; every path that is none of them is the application itself."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.settings: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, body = outer.file(urlsplit(self.path).path)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Browsers open connections in advance and close them again."""

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.origin = f"https://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def file(self, path: str) -> tuple[str, bytes]:
        if path == "/settings.js":
            return "text/javascript", f"window.SETTINGS = {json.dumps(self.settings)}".encode()
        if path == "/oidc-client-ts.js":
            return "text/javascript", LIBRARY.read_bytes()
        if path == "/app.js":
            return "text/javascript", (PAGE / "app.js").read_bytes()
        return "text/html; charset=utf-8", (PAGE / "index.html").read_bytes()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Application:
    """The site, and its two registrations: one for bearer tokens, one for bound ones."""

    site: Site
    certificate: Path
    clients: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def application(stand: Stand) -> Iterator[Application]:
    require_node()
    require_chromium()
    folder = Path(stand.stack.ca).parent
    site = Site(folder / "server.pem", folder / "server.key")
    public = ("--public", "--grant", "authorization_code", "--grant", "refresh_token")
    addresses = ("--redirect-uri", f"{site.origin}/callback", "--post-logout-redirect-uri", f"{site.origin}/signed-out")
    clients = {
        "bearer": stand.client("page", *public, *addresses),
        "dpop": stand.client("page", *public, *addresses, "--dpop-bound"),
    }
    yield Application(site, folder / "server.pem", clients)
    site.close()


@contextmanager
def opened(stand: Stand, application: Application, kind: str, profile: Path) -> Iterator[Browser]:
    site = application.site
    site.settings = {
        "authority": stand.issuer,
        "client_id": application.clients[kind]["client_id"],
        "redirect_uri": f"{site.origin}/callback",
        "post_logout_redirect_uri": f"{site.origin}/signed-out",
        "scope": SCOPE,
        # By a bound token the library does not ask.
        "loadUserInfo": kind == "bearer",
        "automaticSilentRenew": False,
        "bound": kind == "dpop",
    }
    with Browser(application.certificate, profile) as browser:
        browser.go(f"{site.origin}/")
        browser.until(lambda b: told(b) == {"ready": True})
        yield browser


def told(browser: Browser) -> Any:
    text = browser.one("#told").text
    return json.loads(text) if text else None


def call(browser: Browser, function: str, *arguments: str) -> Any:
    """What a function of the application comes to."""
    script = f"const done = arguments[arguments.length - 1]; app.{function}(...arguments[0]).then(done)"
    return browser.driver.execute_async_script(script, list(arguments))


def sign_in(stand: Stand, browser: Browser) -> dict[str, Any]:
    """As a person does it; what the application knows afterwards."""
    person = stand.person()
    person.http.close()
    browser.driver.execute_script("app.signIn()")
    browser.until(lambda b: b.path == "/sign-in")
    browser.fill(username=person.username, password=person.password)
    browser.one('main form button[type="submit"]').click()
    browser.until(lambda b: b.path == "/consent")
    browser.one('button[value="allow"]').click()
    browser.until(lambda b: b.path == "/callback" and told(b))
    arrived = told(browser)
    assert "arrived" in arrived, arrived
    user: dict[str, Any] = arrived["arrived"]
    assert user["scope"] == SCOPE
    return user


def gate_says(stand: Stand, headers: dict[str, str]) -> int:
    with stand.stack.http() as http:
        return http.get("/orders", headers=headers).status_code


@pytest.mark.standard("RFC 6749 §4.1.2 (4)", "OIDC Core §5.3.2 (1)", "OIDC Core §12.1 (1)", "OIDC Logout §3 (2)",
                      "OAuth 2.1 §4.3.1 (1)", "RFC 9700 §2.2.2 (1)")  # fmt: skip
def test_page_signs_in_renews_revokes_and_signs_out(stand: Stand, application: Application, tmp_path: Path) -> None:
    with opened(stand, application, "bearer", tmp_path) as browser:
        first = sign_in(stand, browser)
        assert first["token_type"].lower() == "bearer"
        assert first["profile"]["email_verified"] is False
        assert gate_says(stand, {"Authorization": f"Bearer {first['access_token']}"}) == 200
        second = call(browser, "renew")
        assert second.get("failed") is None, second
        assert second["access_token"] != first["access_token"]
        assert second["profile"]["sub"] == first["profile"]["sub"]
        assert gate_says(stand, {"Authorization": f"Bearer {second['access_token']}"}) == 200
        assert call(browser, "revoke") is None
        assert "failed" in call(browser, "renew")
        browser.go(f"{application.site.origin}/")
        leave(browser)


@pytest.mark.standard("RFC 9449 §5 (1)", "RFC 9449 §5 (3)", "RFC 9449 §8 (1)", "RFC 9449 §10 (1)")
def test_page_with_a_key_that_stays_in_the_browser(stand: Stand, application: Application, tmp_path: Path) -> None:
    with opened(stand, application, "dpop", tmp_path) as browser:
        first = sign_in(stand, browser)
        assert first["token_type"].lower() == "dpop"
        assert gate_says(stand, {"Authorization": f"Bearer {first['access_token']}"}) == 401
        found = call(browser, "userinfo")
        assert (found["status"], found["claims"]["sub"]) == (200, first["profile"]["sub"])
        second = call(browser, "renew")
        assert second.get("failed") is None, second
        assert second["access_token"] != first["access_token"]
        leave(browser)


def leave(browser: Browser) -> None:
    """Sign out at the server, by way of the application; nothing of the person is left in it."""
    browser.driver.execute_script("app.signOut()")
    browser.until(lambda b: b.path == "/signed-out" and told(b))
    assert told(browser) == {"left": True, "user": None}
    browser.driver.execute_script("app.signIn()")
    browser.until(lambda b: b.path == "/sign-in")
