"""What people do, in a real Chromium: every step clicked, every answer looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pyotp
from identity_support import credentials
from pages_support import PASSWORD, make_app, make_user, request_url
from sqlalchemy import update

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.storage.schema import users

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


def enrol_totp(browser: Browser, server: Server) -> pyotp.TOTP:
    browser.go(server.issuer + "/account/authenticator")
    browser.press("Set up")
    browser.until(lambda page: page.all(".qr svg"))
    generator = pyotp.TOTP((browser.one(".key").get_attribute("textContent") or "").replace(" ", ""))
    browser.fill(code=generator.now())
    browser.press("Switch on")
    browser.until(lambda page: "The authenticator app is set up." in page.text)
    return generator


def next_code(generator: pyotp.TOTP) -> str:
    """A code of the next step: this step's was used up."""
    return generator.at(time.time() + 30)


def sign_out(browser: Browser, server: Server) -> None:
    browser.go(server.issuer + "/sign-out")
    browser.press("Sign out")
    browser.until(lambda page: page.heading == "You are signed out")


def signed_in(browser: Browser, server: Server, username: str) -> None:
    browser.go(server.issuer + "/sign-in")
    sign_in(browser, username)
    browser.until(lambda page: page.heading == "Your account")


def test_an_authenticator_app_is_set_up_and_asked_for_from_then_on(people_server: Server, browser: Browser) -> None:
    user = make_user(people_server)
    signed_in(browser, people_server, user.username)
    generator = enrol_totp(browser, people_server)
    browser.press("Make new codes")
    browser.until(lambda page: page.all(".codes"))
    recovery_code = browser.one(".codes code").text
    browser.press("I have kept them")
    browser.until(lambda page: page.heading == "Your account")
    assert "10 left" in browser.text
    sign_out(browser, people_server)

    browser.press("Sign in again")
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Second step")
    browser.fill(code="000000")
    browser.press("Continue")
    browser.until(lambda page: "This code is not right" in page.text)
    browser.fill(code=next_code(generator))
    browser.press("Continue")
    browser.until(lambda page: page.heading == "Your account")
    assert "two factors" in browser.text
    sign_out(browser, people_server)

    browser.press("Sign in again")
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Second step")
    browser.press("Use a recovery code")
    browser.fill(code=recovery_code.upper())
    browser.press("Continue")
    browser.until(lambda page: page.heading == "Your account")
    assert "9 left" in browser.text


def test_a_passkey_is_made_and_signs_in_by_button_and_by_autofill(
    people_server: Server, make_browser: Callable[..., Browser]
) -> None:
    user, browser = make_user(people_server), make_browser()
    browser.authenticator()
    signed_in(browser, people_server, user.username)
    browser.go(people_server.issuer + "/account/passkeys")
    browser.fill(name="Laptop")
    browser.press("Add a passkey")
    browser.until(lambda page: "The passkey is added." in page.text)
    assert "Laptop" in browser.text
    # The password alone does not change factors any more. The virtual device answers for the sign-in by itself.
    browser.fill(name="Laptop again")
    browser.press("Add a passkey")
    browser.until(lambda page: "last used" in page.text)
    # The same device does not get a second one.
    browser.fill(name="Laptop again")
    browser.press("Add a passkey")
    browser.until(lambda page: "already has a passkey" in page.text)
    sign_out(browser, people_server)

    # The virtual device answers the offer that waits in the background as soon as the page is there.
    browser.go(people_server.issuer + "/sign-in")
    browser.until(lambda page: page.heading == "Your account")
    assert "passkey" in browser.one("dl").text
    sign_out(browser, people_server)

    # Without that offer: by the button.
    browser.command(
        "Page.addScriptToEvaluateOnNewDocument",
        source="PublicKeyCredential.isConditionalMediationAvailable = async () => false;",
    )
    browser.go(people_server.issuer + "/sign-in")
    assert browser.heading == "Sign in"
    browser.press("Sign in with a passkey")
    browser.until(lambda page: page.heading == "Your account")
    # As the second factor, after the password.
    sign_out(browser, people_server)
    browser.go(people_server.issuer + "/sign-in")
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Second step")
    browser.press("Use a passkey")
    browser.until(lambda page: page.heading == "Your account")
    # The last second factor goes only when that was said.
    browser.go(people_server.issuer + "/account/passkeys")
    browser.one(".rows button").click()
    browser.until(lambda page: "your last second factor" in page.text)
    browser.press("Remove it all the same")
    browser.until(lambda page: "The passkey is removed." in page.text)


def test_a_passkey_that_is_not_shown_is_told_in_place(people_server: Server, browser: Browser) -> None:
    browser.authenticator(verified=False)
    user = make_user(people_server)
    signed_in(browser, people_server, user.username)
    browser.go(people_server.issuer + "/account/passkeys")
    browser.fill(name="Laptop")
    browser.press("Add a passkey")
    browser.until(lambda page: "Nothing happened." in page.one(".status").text)
    assert browser.heading == "Passkeys"


def test_everything_but_passkeys_works_without_javascript(
    people_server: Server, make_browser: Callable[..., Browser], listener: Listener
) -> None:
    user, app = make_user(people_server), make_app(people_server, listener.url)
    browser = make_browser(javascript=False)
    browser.go(request_url(people_server, app, listener.url))
    assert not any("passkey" in element.text for element in browser.all("button") if element.is_displayed())
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Larder asks for access")
    browser.press("Allow")
    browser.until(lambda page: page.heading == "Back at the client")
    assert "code" in listener.calls[-1]
    generator = enrol_totp(browser, people_server)
    sign_out(browser, people_server)
    browser.press("Sign in again")
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Second step")
    browser.fill(code=next_code(generator))
    browser.press("Continue")
    browser.until(lambda page: page.heading == "Your account")
    browser.go(people_server.issuer + "/account/passkeys")
    assert "JavaScript is off" in browser.text


def test_a_session_ended_from_another_browser_is_over(
    people_server: Server, make_browser: Callable[..., Browser]
) -> None:
    user = make_user(people_server)
    here, there = make_browser(), make_browser()
    signed_in(here, people_server, user.username)
    signed_in(there, people_server, user.username)
    here.go(people_server.issuer + "/account/sessions")
    assert here.text.count("last seen") == 2
    here.one(".rows button").click()
    here.until(lambda page: "The session is ended." in page.text)
    assert here.text.count("last seen") == 1
    there.go(people_server.issuer + "/account")
    assert there.heading == "Sign in"
    here.go(people_server.issuer + "/account")
    assert here.heading == "Your account"


def test_taking_access_away_makes_the_application_ask_again(
    people_server: Server, browser: Browser, listener: Listener
) -> None:
    user, app = make_user(people_server), make_app(people_server, listener.url)
    url = request_url(people_server, app, listener.url, scope="openid orders:read")
    browser.go(url)
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Larder asks for access")
    browser.press("Allow")
    browser.until(lambda page: page.heading == "Back at the client")
    browser.go(people_server.issuer + "/account/apps")
    assert "See your orders" in browser.text
    browser.one(".rows button").click()
    browser.until(lambda page: "The app has no access any more." in page.text)
    browser.go(url)
    assert browser.heading == "Larder asks for access"
    browser.go(people_server.issuer + "/account/activity")
    assert "Access taken away: Larder" in browser.text


def test_a_client_that_asks_for_more_gets_it_from_who_sets_a_factor_up(
    people_server: Server, browser: Browser, listener: Listener
) -> None:
    user, app = make_user(people_server), make_app(people_server, listener.url, first_party=True)
    browser.go(request_url(people_server, app, listener.url, acr_values="mfa"))
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "A second factor is needed")
    browser.press("Set one up now")
    browser.press("Set up")
    browser.until(lambda page: page.all(".qr svg"))
    generator = pyotp.TOTP((browser.one(".key").get_attribute("textContent") or "").replace(" ", ""))
    browser.fill(code=generator.now())
    browser.press("Switch on")
    browser.until(lambda page: page.heading == "Recovery codes")
    browser.press("Make new codes")
    browser.until(lambda page: page.all(".codes"))
    browser.press("I have kept them")
    browser.until(lambda page: page.heading == "Back at the client")
    assert "code" in listener.calls[-1]
    # Step up later: the session rises by a code.
    sign_out(browser, people_server)
    browser.go(request_url(people_server, app, listener.url, acr_values="phr"))
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Second step")
    browser.fill(code=next_code(generator))
    browser.press("Continue")
    browser.until(lambda page: page.heading == "A second factor is needed")
    browser.press("Go back without")
    browser.until(lambda page: page.heading == "Back at the client")
    assert listener.calls[-1]["error"] == "unmet_authentication_requirements"


def test_a_device_is_connected_by_its_code(people_server: Server, browser: Browser) -> None:
    user = make_user(people_server)
    metadata = ClientMetadata(
        grant_types=("urn:ietf:params:oauth:grant-type:device_code",), client_name="Kitchen display"
    )
    app = people_server.client(f"device-{user.username}", ("orders:read",), metadata=metadata)
    with people_server.outside() as http:
        begun = http.post(
            "/oauth2/device_authorization", data={"scope": "orders:read"}, headers=credentials(app)
        ).json()
        browser.go(begun["verification_uri"])
        browser.fill(user_code="BCDF-GHJK")
        browser.press("Continue")
        browser.until(lambda page: "This code is not right" in page.text)
        browser.fill(user_code=begun["user_code"].lower().replace("-", " "))
        browser.press("Continue")
        browser.until(lambda page: page.heading == "Sign in")
        sign_in(browser, user.username)
        browser.until(lambda page: page.heading == "Connect Kitchen display?")
        assert "in front of you" in browser.text
        browser.press("Connect")
        browser.until(lambda page: page.path == "/device/done")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": begun["device_code"],
        }
        answer = http.post("/oauth2/token", data=form, headers=credentials(app))
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "orders:read"


def test_a_password_from_an_administrator_has_to_be_replaced(people_server: Server, browser: Browser) -> None:
    user = make_user(people_server, must_change_password=True)
    with people_server.storage() as storage, storage.write() as connection:
        connection.execute(update(users).where(users.c.user_id == user.user_id).values(must_change_password=True))
    browser.go(people_server.issuer + "/sign-in")
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Choose a new password")
    browser.fill(new_password="password", new_password_again="password")
    browser.press("Save and continue")
    browser.until(lambda page: "attackers try first" in page.text)
    browser.fill(new_password="a few words in a row", new_password_again="a few words in a roww")
    browser.press("Save and continue")
    browser.until(lambda page: "not the same" in page.text)
    browser.fill(new_password="a few words in a row", new_password_again="a few words in a row")
    browser.press("Save and continue")
    browser.until(lambda page: page.heading == "Your account")


def test_the_language_is_the_requests_then_the_browsers(
    people_server: Server, make_browser: Callable[..., Browser], listener: Listener
) -> None:
    app = make_app(people_server, listener.url)
    browser = make_browser(language="de")
    browser.go(request_url(people_server, app, listener.url))
    assert browser.heading == "Anmelden"
    assert browser.one("html").get_attribute("lang") == "de"
    browser.go(request_url(people_server, app, listener.url, ui_locales="xx en-GB"))
    assert browser.heading == "Sign in"


def test_signing_out_at_the_clients_wish_is_asked_and_leads_back(
    people_server: Server, browser: Browser, listener: Listener
) -> None:
    user = make_user(people_server)
    there = listener.url + "?out=1"
    app = make_app(people_server, listener.url, first_party=True, post_logout_redirect_uris=(there,))
    query = urlencode({"client_id": app.client_id, "post_logout_redirect_uri": there, "state": "s2"})
    signed_in(browser, people_server, user.username)
    browser.go(f"{people_server.issuer}/oauth2/logout?{query}")
    assert browser.heading == "Sign out?"
    browser.press("Sign out")
    browser.until(lambda page: page.heading == "Back at the client")
    assert listener.calls[-1] == {"out": "1", "state": "s2"}
    browser.go(people_server.issuer + "/account")
    assert browser.heading == "Sign in"


def test_a_client_that_registered_itself_is_flagged(
    people_server: Server, browser: Browser, listener: Listener
) -> None:
    user = make_user(people_server)
    app = make_app(people_server, listener.url, registered_by="dynamic", first_party=False)
    browser.go(request_url(people_server, app, listener.url, scope="orders:read offline_access"))
    sign_in(browser, user.username)
    browser.until(lambda page: page.heading == "Larder asks for access")
    assert "Nobody here has checked this app" in browser.text
    assert "keeps this access when you sign out" in browser.text
    assert urlsplit(listener.url).netloc in browser.text
    sizes = {(button.size["width"], button.size["height"]) for button in browser.all(".choice button")}
    looks = {
        tuple(button.value_of_css_property(name) for name in ("background-color", "color", "border", "font-weight"))
        for button in browser.all(".choice button")
    }
    assert (len(sizes), len(looks)) == (1, 1)
