"""What people do, in a real Chromium: every step clicked, every answer looked at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyotp
from pages_support import PASSWORD, make_app, make_user, request_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser import Browser, Listener
    from identity_support import Server


def sign_in(browser: Browser, username: str, password: str = PASSWORD) -> None:
    browser.fill(username=username, password=password)
    browser.press("Sign in")


def test_a_password_and_consent_bring_a_code_to_the_application(
    people_server: Server, browser: Browser, listener: Listener
) -> None:
    user, app = make_user(people_server), make_app(people_server, listener.url)
    browser.go(request_url(people_server, app, listener.url, scope="openid orders:read", state="s1"))
    assert browser.heading == "Sign in"
    assert "Larder" in browser.text
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Larder asks for access")
    assert "See your orders" in browser.text
    browser.press("Allow")
    browser.until(lambda page: page.heading == "Back at the client")
    (call,) = listener.calls
    assert call["code"].startswith("stk_ac_")
    assert (call["state"], call["iss"]) == ("s1", people_server.issuer)
    assert browser.complaints() == []
    # Remembered: the same is not asked again, more is.
    browser.go(request_url(people_server, app, listener.url, scope="openid orders:read"))
    browser.until(lambda page: page.heading == "Back at the client")
    browser.go(request_url(people_server, app, listener.url, scope="openid orders:read orders:write"))
    assert browser.heading == "Larder asks for access"
    assert "Place and cancel orders\nnew" in browser.text or "Place and cancel orders new" in browser.text
    browser.press("Deny")
    browser.until(lambda page: page.heading == "Back at the client")
    assert listener.calls[-1]["error"] == "access_denied"
