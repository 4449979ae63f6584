"""Every page for people with other eyes, hands and screens: measured in Chromium, light and dark, narrow and wide."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pyotp
import pytest
from identity_support import credentials
from pages_support import PASSWORD, make_app, make_user, request_url
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stockade.identity.clients_metadata import ClientMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser import Browser, Listener
    from identity_support import Server

AXE = Path(__file__).parent / "node" / "node_modules" / "axe-core" / "axe.min.js"
# Everything that axe knows of WCAG 2.2 up to AA, and its own best practices.
ASK_AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then(
  (result) => done(result.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 120)}`)),
  (error) => done([String(error)]),
);
"""
MEASURE = Path(__file__).with_name("accessible.js").read_text()


def press(browser: Browser, selector: str, condition: Callable[[Browser], object]) -> None:
    browser.one(selector).click()
    browser.until(condition)


def user_code_of(server: Server) -> str:
    """Of a device that waits."""
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    metadata = ClientMetadata(grant_types=(grant,), client_name="Kitchen display")
    device = server.client(f"device-{secrets.token_hex(4)}", ("orders:read",), metadata=metadata)
    with server.outside() as http:
        form = {"scope": "orders:read"}
        code: str = http.post("/oauth2/device_authorization", data=form, headers=credentials(device)).json()[
            "user_code"
        ]
    return code


def every_page(server: Server, browser: Browser, listener: Listener) -> Iterator[str]:
    """Go through all pages and what they say when something is wrong; yields where the browser is."""
    user, go = make_user(server), lambda path: browser.go(server.issuer + path)
    app = make_app(server, listener.url)
    send, first = "main form button", "main form > button"
    browser.authenticator(verified=False)
    scopes = "openid orders:read"
    browser.go(request_url(server, app, listener.url, scope=scopes))
    yield "sign-in"
    browser.fill(username=user.username, password="wrong")
    press(browser, send, lambda page: page.all("#summary"))
    yield "sign-in, wrong"
    browser.fill(username=user.username, password=PASSWORD)
    press(browser, send, lambda page: page.path == "/consent")
    yield "consent"
    press(browser, "button[value=allow]", lambda page: page.heading == "Back at the client")
    native = make_app(
        server, listener.url, application_type="native", registered_by="dynamic", client_name="A very " + "long " * 12
    )
    browser.go(request_url(server, native, listener.url, scope=f"{scopes} orders:write offline_access email profile"))
    yield "consent, unverified"
    browser.go(request_url(server, app, listener.url, prompt="select_account"))
    yield "choose account"
    for path in ("", "/password", "/passkeys", "/authenticator", "/recovery-codes", "/sessions", "/apps", "/activity"):
        go("/account" + path)
        yield f"account{path}"
    go("/account/password")
    browser.fill(new_password="password", new_password_again="password")
    press(browser, first, lambda page: page.all("#summary"))
    yield "password, refused"
    go("/account/authenticator")
    press(browser, first, lambda page: page.all(".qr svg"))
    yield "authenticator, code to scan"
    press(browser, "details summary", lambda page: page.one(".key").is_displayed())
    yield "authenticator, key to type"
    generator = pyotp.TOTP(browser.one(".key").text.replace(" ", ""))
    browser.fill(code="000000")
    press(browser, first, lambda page: page.all("#summary"))
    yield "authenticator, wrong code"
    browser.fill(code=generator.now())
    press(browser, first, lambda page: page.path == "/account/recovery-codes")
    yield "recovery codes, done"
    press(browser, first, lambda page: page.all(".codes"))
    yield "recovery codes, shown"
    go("/account/authenticator")
    yield "authenticator, on"
    press(browser, send, lambda page: "your last second factor" in page.text)
    yield "authenticator, last"
    go("/sign-in?to=password")
    yield "sign-in again"
    go("/sign-out")
    yield "sign-out"
    press(browser, first, lambda page: page.path == "/signed-out")
    yield "signed out"
    go("/sign-in")
    browser.fill(username=user.username, password=PASSWORD)
    press(browser, first, lambda page: page.path == "/sign-in/second-factor")
    yield "second factor"
    browser.fill(code="000000")
    press(browser, first, lambda page: page.all("#summary"))
    yield "second factor, wrong"
    go("/sign-in/recovery")
    yield "recovery code"
    go("/device?user_code=WDJB-MJHT")
    yield "device"
    press(browser, first, lambda page: page.all("#summary"))
    yield "device, wrong"
    go("/device/done")
    yield "device, done"
    go("/consent?i=unknown")
    yield "error"
    fresh = make_user(server, must_change_password=True)
    go("/sign-in")
    browser.fill(username=fresh.username, password=PASSWORD)
    press(browser, first, lambda page: page.path == "/sign-in/password")
    yield "new password"
    plain = make_user(server)
    strict = make_app(server, listener.url, first_party=True)
    browser.go(request_url(server, strict, listener.url, acr_values="mfa"))
    browser.fill(username=plain.username, password=PASSWORD)
    press(browser, first, lambda page: page.path == "/sign-in/second-factor")
    yield "second factor, missing"
    go("/device")
    browser.fill(user_code=user_code_of(server))
    press(browser, first, lambda page: page.path == "/consent")
    yield "device, confirm"
    go("/oauth2/authorize?client_id=unknown")
    yield "refused by an endpoint"
    go("/sign-in?to=password")
    yield "sign-in, other tab"


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_page_can_be_read_and_used_by_all(
    people_server: Server, make_browser: Callable[..., Browser], listener: Listener, language: str
) -> None:
    browser = make_browser(language=language)
    faults: list[str] = []
    titles: set[str] = set()
    names = []
    walk = every_page if language == "en" else first_pages
    for name in walk(people_server, browser, listener):
        names.append(name)
        titles.add(browser.driver.title)
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            for width in (360, 1280):
                browser.width(width)
                found = browser.driver.execute_script(MEASURE)
                faults += [f"{name}, {scheme}, {width}: {fault}" for fault in found]
    assert faults == []
    assert len(names) == len(set(names))


def test_axe_finds_nothing_either(people_server: Server, browser: Browser, listener: Listener) -> None:
    """axe-core, an outside judge, light and narrow, dark and wide."""
    if not AXE.exists():
        pytest.skip(
            "axe-core is not installed: run scripts/install-test-clients.sh tests/integration/identity/pages/node"
        )
    axe, faults = AXE.read_text(), []
    for name in every_page(people_server, browser, listener):
        browser.driver.execute_script(axe)
        for scheme, width in (("light", 360), ("dark", 1280)):
            browser.scheme(scheme)
            browser.width(width)
            faults += [f"{name}, {scheme}: {fault}" for fault in browser.driver.execute_async_script(ASK_AXE)]
    assert faults == []
    # What never complains proves nothing.
    browser.driver.execute_script("document.querySelector('label').remove()")
    assert any(fault.startswith("label: ") for fault in browser.driver.execute_async_script(ASK_AXE))


def first_pages(server: Server, browser: Browser, listener: Listener) -> Iterator[str]:
    """The longest words are German ones: those pages that need no text to be clicked through."""
    user = make_user(server)
    browser.go(request_url(server, make_app(server, listener.url), listener.url, scope="openid orders:write"))
    yield "sign-in"
    browser.fill(username=user.username, password=PASSWORD)
    press(browser, "main form button", lambda page: page.path == "/consent")
    yield "consent"
    for path in ("", "/password", "/passkeys", "/authenticator", "/recovery-codes", "/sessions", "/apps", "/activity"):
        browser.go(f"{server.issuer}/account{path}")
        yield f"account{path}"


def test_the_measure_finds_faults(people_server: Server, browser: Browser) -> None:
    """What never complains proves nothing."""
    browser.go(people_server.issuer + "/sign-in")
    assert browser.driver.execute_script(MEASURE) == []
    for fault, change in {
        "no label": "document.querySelector('label').remove()",
        "contrast": "document.querySelector('h1').style.color = '#aaa'",
        "px high": "document.querySelector('main button').style.minHeight = '10px'; "
        "document.querySelector('main button').style.padding = '0'",
        "headings": "document.querySelector('h1').outerHTML = '<h2>Sign in</h2>'",
        "wider than": "document.querySelector('main').style.width = '3000px'",
        "no language": "document.documentElement.lang = ''",
        "ids repeated": "document.querySelector('main').id = 'username'",
        "no name": "document.querySelector('main button').textContent = ''",
    }.items():
        browser.go(people_server.issuer + "/sign-in")
        browser.driver.execute_script(change)
        assert any(fault in found for found in browser.driver.execute_script(MEASURE)), fault


def test_the_keyboard_alone_signs_in_and_is_seen_to_move(people_server: Server, browser: Browser) -> None:
    user = make_user(people_server)
    browser.go(people_server.issuer + "/sign-in")
    where = browser.driver.switch_to.active_element
    assert where.get_attribute("name") == "username"
    where.send_keys(user.username, Keys.TAB)
    browser.driver.switch_to.active_element.send_keys(PASSWORD, Keys.TAB)
    where = browser.driver.switch_to.active_element
    assert where.tag_name == "button"
    assert where.value_of_css_property("outline-style") == "solid"
    assert where.value_of_css_property("outline-width") == "3px"
    where.send_keys(Keys.ENTER)
    browser.until(lambda page: page.heading == "Your account")
    browser.one("body").send_keys(Keys.TAB)
    skip = browser.driver.switch_to.active_element
    assert skip.text == "Skip to the content"
    skip.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"


def test_a_fault_is_announced_and_leads_to_its_field(people_server: Server, browser: Browser) -> None:
    user = make_user(people_server)
    browser.go(people_server.issuer + "/sign-in")
    browser.fill(username=user.username, password=PASSWORD)
    press(browser, "main form button", lambda page: page.heading == "Your account")
    browser.go(people_server.issuer + "/account/password")
    browser.fill(new_password="short", new_password_again="short")
    press(browser, "main form button", lambda page: page.all("#summary"))
    assert browser.driver.title.startswith("Error: ")
    summary = browser.driver.switch_to.active_element
    assert summary.get_attribute("id") == "summary"
    assert summary.get_attribute("role") == "alert"
    summary.find_element(By.TAG_NAME, "a").click()
    assert browser.driver.switch_to.active_element.get_attribute("name") == "new_password"


def test_motion_is_spared_those_who_ask_for_it(people_server: Server, browser: Browser) -> None:
    for wish, duration in (("no-preference", "0.12s"), ("reduce", "0s")):
        browser.media(prefers_reduced_motion=wish)
        browser.go(people_server.issuer + "/sign-in")
        assert set(browser.one("main button").value_of_css_property("transition-duration").split(", ")) == {duration}
