"""A server for people, and browsers for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser import Browser, Listener
from identity_support import Server
from pages_support import PEOPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates


@pytest.fixture(scope="session")
def people_server(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("people")
    with Server(folder, internal_certificates, public_certificates, PEOPLE) as running:
        yield running


@pytest.fixture
def web(people_server: Server) -> Iterator[httpx.Client]:
    """A browser without a screen: cookies, no redirects of its own accord."""
    with people_server.outside() as client:
        yield client


@pytest.fixture
def make_browser(people_server: Server, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    made: list[Browser] = []

    def make(**options: Any) -> Browser:
        browser = Browser(people_server.public.certificate, tmp_path / f"profile{len(made)}", **options)
        made.append(browser)
        return browser

    yield make
    for browser in made:
        browser.driver.quit()


@pytest.fixture(scope="session")
def shared_browser(people_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(people_server.public.certificate, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """One browser for all, as good as new: starting it takes longer than most tests."""
    shared_browser.forget()
    return shared_browser


@pytest.fixture
def listener() -> Iterator[Listener]:
    running = Listener()
    yield running
    running.close()
