"""The pages between a request and its answer: what is asked, what is not, what is said when something is missing."""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pages_support import (
    PASSWORD,
    PEOPLE,
    form_to,
    make_app,
    make_user,
    onward,
    parameters,
    request_url,
    send,
    sign_in,
)

from stockade.identity.people.cookies import SESSION

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

CALLBACK = "https://larder.example/callback"


def arrive(http: httpx.Client, answer: httpx.Response) -> str:
    """From a page's answer to where the browser is sent in the end, or to the page that asks something."""
    url = onward(answer)
    while True:
        location: str = http.get(url).headers["location"]
        if urlsplit(location).path != "/oauth2/authorize/continue":
            return location
        url = location


def begin(server: Server, http: httpx.Client, app: CreatedClient, **changes: str | None) -> str:
    location: str = http.get(request_url(server, app, CALLBACK, **changes)).headers["location"]
    return location


def test_a_trusted_application_gets_its_code_right_after_the_sign_in(people_server: Server, web: httpx.Client) -> None:
    app, user = make_app(people_server, CALLBACK, first_party=True), make_user(people_server)
    page = begin(people_server, web, app)
    answer = send(web, form_to(web.get(page), "/sign-in"), username=user.username, password=PASSWORD)
    assert parameters(arrive(web, answer))["code"].startswith("stk_ac_")


def test_prompt_consent_asks_again_for_what_was_allowed(people_server: Server, web: httpx.Client) -> None:
    app, user = make_app(people_server, CALLBACK), make_user(people_server)
    page = begin(people_server, web, app, scope="orders:read")
    answer = send(web, form_to(web.get(page), "/sign-in"), username=user.username, password=PASSWORD)
    consent = form_to(web.get(arrive(web, answer)), "/consent")
    assert "code" in parameters(arrive(web, send(web, consent, decision="allow")))
    assert begin(people_server, web, app, scope="orders:read").startswith(CALLBACK)
    again = begin(people_server, web, app, scope="orders:read", prompt="consent")
    assert urlsplit(again).path == "/consent"


def test_a_sign_in_can_be_asked_for_anew(people_server: Server, web: httpx.Client) -> None:
    app, user = make_app(people_server, CALLBACK, first_party=True), make_user(people_server)
    sign_in(web, user.username)
    page = web.get(begin(people_server, web, app, prompt="login"))
    form = form_to(page, "/sign-in")
    assert "Confirm that it is you" in page.text
    assert form.fields["username"] == user.username
    # Two sign-ins within one second cannot be told apart, and count as one.
    time.sleep(1.1)
    assert "code" in parameters(arrive(web, send(web, form, password=PASSWORD)))


def test_an_account_can_be_chosen_or_changed(people_server: Server, web: httpx.Client) -> None:
    app = make_app(people_server, CALLBACK, first_party=True)
    first, second = make_user(people_server), make_user(people_server)
    sign_in(web, first.username)
    page = web.get(begin(people_server, web, app, prompt="select_account"))
    assert f"Continue as {first.username}" in page.text
    assert "code" in parameters(arrive(web, send(web, form_to(page, "/sign-in/continue"))))

    page = web.get(begin(people_server, web, app, prompt="select_account"))
    other = web.get(f"/sign-in?i={parameters(str(page.url))['i']}&other=1")
    assert first.username not in other.text
    before = web.cookies[SESSION]
    answer = send(web, form_to(other, "/sign-in"), username=second.username, password=PASSWORD)
    assert "code" in parameters(arrive(web, answer))
    # Who signs in under another name ends the session that was there.
    with people_server.outside() as old:
        old.cookies.set(SESSION, before, domain="localhost.local", path="/")
        assert old.get("/account").status_code == 303
    assert second.username in web.get("/account").text


def test_after_too_many_attempts_everybody_is_told_the_same(make_server: Callable[..., Server]) -> None:
    """Whether the name exists makes no difference to the text, the status or when it comes."""
    throttled = {**PEOPLE, "throttling": {"people": {"pair_burst": 2, "pair_seconds_each": 60}}}
    with make_server(**throttled) as server:
        user = make_user(server)
        seen = []
        for name in (user.username, f"ada-{secrets.token_hex(4)}"):
            with server.outside() as http:
                statuses = [sign_in(http, name, "not the password") for _ in range(3)]
                last = statuses[-1]
                seen.append(([one.status_code for one in statuses], int(last.headers["retry-after"]) > 50))
                assert "Too many attempts. Wait" in last.text
                # Not even the right password tells.
                assert sign_in(http, name).status_code == 429
        assert seen == [([400, 400, 429], True)] * 2


def test_below_a_path_everything_stays_below_it(make_server: Callable[..., Server]) -> None:
    server = make_server(**PEOPLE)
    authority = server.issuer
    server.write_config(issuer=authority + "/tenant")
    with server, server.outside() as http:
        user, app = make_user(server), make_app(server, CALLBACK)
        answer = http.get("/tenant/sign-in")
        for link in (answer.text.partition('href="')[2].partition('"')[0], form_to(answer, "/tenant/sign-in").action):
            assert link.startswith("/tenant/")
        assert http.get("/sign-in").status_code == 404
        style = answer.text.partition('stylesheet" href="')[2].partition('"')[0]
        assert http.get(style).headers["content-type"].startswith("text/css")
        url = request_url(server, app, CALLBACK).replace(authority, authority + "/tenant")
        page = http.get(url).headers["location"]
        assert urlsplit(page).path == "/tenant/sign-in"
        answer = send(http, form_to(http.get(page), "/tenant/sign-in"), username=user.username, password=PASSWORD)
        consent = http.get(http.get(onward(answer)).headers["location"])
        answer = send(http, form_to(consent, "/tenant/consent"), decision="allow")
        assert http.get(onward(answer)).headers["location"].startswith(CALLBACK + "?code=")
        assert http.get("/tenant/account/password").status_code == 200


def test_without_its_database_a_page_says_so_and_when_to_come_back(make_server: Callable[..., Server]) -> None:
    with make_server(**PEOPLE) as server, server.outside() as http:
        user = make_user(server)
        form = form_to(http.get("/sign-in"), "/sign-in")
        blocker = sqlite3.connect(str(server.folder / "identity.db"), isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        try:
            answer = send(http, form, username=user.username, password=PASSWORD)
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "Please try again in a moment" in answer.text
        assert SESSION not in http.cookies
        assert send(http, form, username=user.username, password=PASSWORD).status_code == 303


def test_refused_forms_are_counted(people_server: Server, web: httpx.Client) -> None:
    web.get("/sign-in")
    web.post("/sign-in", data={"csrf": "x"})
    web.post("/sign-in", data={"csrf": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    with people_server.gateway() as gateway:
        text = gateway.get("/internal/metrics").text
    assert 'forms_refused_total{reason="token"}' in text
    assert 'forms_refused_total{reason="origin"}' in text


@pytest.mark.parametrize("path", ["/sign-in/second-factor", "/sign-in/recovery", "/sign-in/password", "/consent"])
def test_a_step_out_of_order_leads_back_to_the_beginning(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    if path == "/consent":
        assert answer.status_code == 400
    else:
        assert answer.headers["location"] == "/sign-in"


def test_with_an_outside_issuer_there_are_no_people_here(make_server: Callable[..., Server]) -> None:
    external = {"issuer": "https://idp.example", "audience": "https://localhost:8443"}
    with make_server(external=external) as server, server.outside() as http:
        assert http.get("/sign-in").status_code == 404
        assert http.get("/account").status_code == 404
