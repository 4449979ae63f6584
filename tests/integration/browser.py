"""A real Chromium, headless, with WebAuthn's virtual authenticator. Where there is none, tests are skipped."""

from __future__ import annotations

import os
import threading
from base64 import b64encode
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
WAIT_SECONDS = 60


def require_chromium() -> None:
    """Skip where there is no browser to drive."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        pytest.skip("Chromium is not installed: sh scripts/install-test-programs.sh")


def key_pin(certificate: Path) -> str:
    """SHA-256 of the certificate's public key, as Chromium takes it.

    Ignoring certificate errors altogether would also switch WebAuthn off; a pinned key is simply believed.
    """
    public = load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return b64encode(sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(
        self,
        certificate: Path,
        folder: Path,
        *,
        javascript: bool = True,
        dark: bool = False,
        size: tuple[int, int] = (1280, 900),
        language: str = "en",
    ) -> None:
        require_chromium()
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
            f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={folder}",
            f"--ignore-certificate-errors-spki-list={key_pin(certificate)}",
            *(("--no-sandbox",) if os.getuid() == 0 else ()),
        ):
            options.add_argument(argument)
        preferences: dict[str, Any] = {
            "intl.accept_languages": language,
            "credentials_enable_service": False,
            "profile.password_manager_leak_detection": False,
        }
        if not javascript:
            preferences["profile.managed_default_content_settings.javascript"] = 2
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(executable_path=str(CHROMEDRIVER)))
        self.driver.set_page_load_timeout(WAIT_SECONDS)
        self._authenticator = False
        self.scheme("dark" if dark else "light")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def forget(self) -> None:
        """Back to how it was when it started: no cookie, no device plugged in, a desk, by day."""
        self.driver.get("about:blank")
        if self._authenticator:
            self.driver.remove_virtual_authenticator()
            self._authenticator = False
        self.command("Network.clearBrowserCookies")
        self.command("Emulation.clearDeviceMetricsOverride")
        self.scheme("light")
        self.complaints()

    def scheme(self, name: str) -> None:
        """`light` or `dark`, at once."""
        self.media(prefers_color_scheme=name, prefers_reduced_motion="reduce")

    def media(self, **features: str) -> None:
        """What the person has told the system."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=named)

    def width(self, pixels: int, height: int = 800) -> None:
        """As on a phone, or on a desk."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=height,
            deviceScaleFactor=1,
            mobile=pixels < 600,
        )

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def go(self, url: str) -> None:
        self.driver.get(url)

    @property
    def path(self) -> str:
        return urlsplit(self.driver.current_url).path

    @property
    def text(self) -> str:
        """What stands in the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    @property
    def heading(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "h1").text

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            element = self.one(f'input[name="{name}"]:not([type="hidden"])')
            element.clear()
            element.send_keys(value)

    def press(self, text: str) -> None:
        """The button or link that says so, and whatever it leads to has begun to load."""
        for element in self.all("main button, main a, nav a, footer a"):
            if element.is_displayed() and element.text.strip() == text:
                element.click()
                return
        raise AssertionError(f"nothing to press says `{text}` on {self.driver.current_url}:\n{self.text}")

    def until(self, condition: Callable[[Browser], Any]) -> None:
        """Wait for it, through pages that come and go."""

        def holds(_driver: object) -> bool:
            try:
                return bool(condition(self))
            except Exception:  # noqa: BLE001 - the page is between two documents
                return False

        try:
            WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(holds)
        except Exception as error:
            raise AssertionError(f"it did not come true on {self.driver.current_url}:\n{self.text}") from error

    def authenticator(self, *, verified: bool = True) -> None:
        """Plug a virtual passkey device in: discoverable credentials, user verification."""
        options = VirtualAuthenticatorOptions(
            protocol=VirtualAuthenticatorOptions.Protocol.CTAP2,
            transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
            has_resident_key=True,
            has_user_verification=True,
            is_user_consenting=True,
            is_user_verified=verified,
        )
        self.driver.add_virtual_authenticator(options)
        self._authenticator = True

    def complaints(self) -> list[str]:
        """What the console holds: refused by the content security policy, failed scripts."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


class Listener:
    """A client's redirect URI on loopback: remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/callback":
                    calls.append(dict(parse_qsl(parts.query)))
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>client</title><h1>Back at the client</h1>")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()
