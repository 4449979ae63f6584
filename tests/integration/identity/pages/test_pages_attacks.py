"""What attackers try on people: each test is named by what it would achieve."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from pages_support import (
    PASSWORD,
    SAME_ORIGIN,
    form_to,
    forms,
    make_app,
    make_user,
    onward,
    parameters,
    request_url,
    send,
    sign_in,
)
from sqlalchemy import select, update

from stockade.identity.mfa.totp import ENROLMENT_SECONDS
from stockade.identity.pages.frame import FRESH_SECONDS, Access
from stockade.identity.pages.headers import PAGE_HEADERS
from stockade.identity.pages.outcome import RETURNS
from stockade.identity.pages.routes import PAGES
from stockade.identity.people.cookies import BROWSER, SESSION
from stockade.identity.storage.schema import metadata, sessions, totp_secrets

if TYPE_CHECKING:
    import httpx
    from identity_support import Server

FORMS = [page.path for page in PAGES if page.method == "POST"]
READABLE = [page.path for page in PAGES if page.method == "GET"]
CALLBACK = "https://larder.example/callback"


def somebody(server: Server, http: httpx.Client, **changes: object) -> str:
    """Signed in just now. Returns the user name."""
    user = make_user(server, **changes)
    answer = sign_in(http, user.username)
    assert answer.status_code == 303, answer.text
    return user.username


def token_of(http: httpx.Client) -> str:
    """The CSRF token of this browser's forms."""
    return form_to(http.get("/sign-out"), "/sign-out").fields["csrf"]


def error_of(answer: httpx.Response) -> str:
    match = re.search(r"<h1>(.*?)</h1>", answer.text)
    return match[1] if match else answer.text


OUT_OF_DATE = "This page is out of date"


@pytest.mark.parametrize("path", FORMS)
def test_another_site_cannot_send_any_form(people_server: Server, web: httpx.Client, path: str) -> None:
    """CSRF, on each form of the route table: RFC 6749 §10.12."""
    somebody(people_server, web)
    token = token_of(web)

    def refused(data: dict[str, str], headers: dict[str, str]) -> bool:
        answer = web.post(path, data=data, headers=headers)
        return answer.status_code == 403 and error_of(answer) == OUT_OF_DATE

    assert refused({"x": "y"}, SAME_ORIGIN)
    assert refused({"csrf": "A" * 43}, SAME_ORIGIN)
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "null"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": people_server.issuer.replace("https://", "http://")},
    ):
        assert refused({"csrf": token}, headers), headers
    with people_server.outside() as another:
        other_token = form_to(another.get("/sign-in"), "/sign-in").fields["csrf"]
    assert refused({"csrf": other_token}, SAME_ORIGIN)
    # And the same goes in where nothing is wrong with it.
    answer = web.post(path, data={"csrf": token}, headers=SAME_ORIGIN)
    assert error_of(answer) != OUT_OF_DATE
    assert answer.status_code < 500


def test_an_old_browser_that_says_nothing_of_origins_is_held_by_the_token(
    people_server: Server, web: httpx.Client
) -> None:
    somebody(people_server, web)
    assert web.post("/sign-out", data={"csrf": token_of(web)}).status_code == 303


def test_a_form_from_before_a_sign_in_is_void_after_it(people_server: Server, web: httpx.Client) -> None:
    before = form_to(web.get("/sign-in"), "/sign-in")
    somebody(people_server, web)
    assert send(web, before, username="x", password="y").status_code == 403


def test_nobody_is_signed_in_as_the_attacker(people_server: Server) -> None:
    """Login CSRF: a form of another site brings no cookie and no token, and its answer no session."""
    user = make_user(people_server)
    with people_server.outside() as victim, people_server.outside() as attacker:
        token = form_to(attacker.get("/sign-in"), "/sign-in").fields["csrf"]
        data = {"csrf": token, "username": user.username, "password": PASSWORD}
        for headers in (SAME_ORIGIN, {"Sec-Fetch-Site": "cross-site", "Origin": "null"}):
            answer = victim.post("/sign-in", data=data, headers=headers)
            assert answer.status_code == 403
            assert SESSION not in victim.cookies


@pytest.mark.parametrize("path", READABLE)
def test_reading_a_page_changes_nothing(people_server: Server, web: httpx.Client, path: str) -> None:
    somebody(people_server, web)
    web.get("/sign-in")

    def contents() -> dict[str, list[tuple[object, ...]]]:
        with people_server.storage() as storage, storage.read() as connection:
            return {
                name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
                for name, table in metadata.tables.items()
            }

    before = contents()
    assert web.get(path).status_code < 500
    assert web.head(path).status_code < 500
    assert contents() == before


@pytest.mark.parametrize("path", [*READABLE, "/static/none.css"])
def test_no_page_can_be_framed_kept_or_made_to_load_from_elsewhere(
    people_server: Server, web: httpx.Client, path: str
) -> None:
    """Clickjacking (RFC 9700 §4.16), with the session and without, errors too."""
    answers = [web.get(path), web.get(f"{path}?i=unknown"), web.post("/consent", data={"csrf": "x"})]
    somebody(people_server, web)
    answers.append(web.get(path))
    for answer in answers:
        assert {name: answer.headers.get(name) for name in PAGE_HEADERS} == PAGE_HEADERS
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert not re.search(r"\son\w+=", answer.text)
    policy = PAGE_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_a_planted_session_is_worth_nothing_after_the_sign_in(people_server: Server, web: httpx.Client) -> None:
    """Session fixation: the cookie's secret is a new one, whatever was there before."""
    planted = secrets.token_urlsafe(32)
    web.cookies.set(SESSION, planted, domain="localhost.local", path="/")
    somebody(people_server, web)
    mine = web.cookies[SESSION]
    assert mine != planted
    with people_server.outside() as attacker:
        attacker.cookies.set(SESSION, planted, domain="localhost.local", path="/")
        assert attacker.get("/account").status_code == 303
    # Nor is the secret that a session had before it rose.
    assert (
        send(web, form_to(web.get("/sign-in?to=overview"), "/sign-in"), username="x", password="y").status_code == 400
    )
    with people_server.storage() as storage, storage.read() as connection:
        digests = set(connection.execute(select(sessions.c.digest)).scalars())
    assert sha256(mine.encode()).digest() in digests
    assert sha256(planted.encode()).digest() not in digests


def test_cookies_are_out_of_reach_of_scripts_other_hosts_and_plain_http(
    people_server: Server, web: httpx.Client
) -> None:
    first = web.get("/sign-in")
    user = make_user(people_server)
    second = send(web, form_to(first, "/sign-in"), username=user.username, password=PASSWORD)
    given = first.headers.get_list("set-cookie") + second.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in given} >= {BROWSER, SESSION}
    for cookie in given:
        assert cookie.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert re.search(r"SameSite=(Lax|Strict)", cookie)


MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_names_and_parameters_cannot_become_markup(people_server: Server, web: httpx.Client) -> None:
    """XSS by what a client calls itself, what a user is called, and whatever an address or a form holds."""
    app = make_app(people_server, CALLBACK, client_name=MARKUP[:200])
    user = make_user(people_server, username="<b>" + secrets.token_hex(4), name=MARKUP, email=MARKUP)
    start = web.get(request_url(people_server, app, CALLBACK, login_hint=MARKUP)).headers["location"]
    texts = [web.get(start).text]
    answer = send(web, form_to(web.get(start), "/sign-in"), username=MARKUP, password="x")
    texts.append(answer.text)
    answer = send(web, form_to(answer, "/sign-in"), username=user.username, password=PASSWORD)
    texts.append(web.get(web.get(onward(answer)).headers["location"]).text)
    assert "asks for access" in texts[-1]
    paths = (
        "/account",
        "/account/apps",
        "/account/activity",
        "/sign-out",
        f"/account?done={MARKUP}",
        f"/sign-in?to={MARKUP}&other=1",
        f"/sign-in?i={MARKUP}",
        f"/device?user_code={MARKUP}",
        f"/consent?i={MARKUP}",
        f"/static/{MARKUP}",
    )
    texts += [web.get(path).text for path in paths]
    for text in texts:
        assert "<script>" not in text
        assert "<img" not in text
        assert "<b>" not in text
    assert "&lt;script&gt;" in texts[2]


def test_a_name_cannot_be_written_backwards(people_server: Server, web: httpx.Client) -> None:
    """U+202E and its kin turn the direction of what follows: a name with them could hide what it says."""
    app = make_app(people_server, CALLBACK, client_name="gro\u202ecod\u2066.knab")
    start = web.get(request_url(people_server, app, CALLBACK)).headers["location"]
    assert "grocod.knab" in web.get(start).text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/account/../x"]
)
def test_signing_in_leads_nowhere_but_to_our_own_pages(people_server: Server, web: httpx.Client, target: str) -> None:
    """Open redirect: places to return to are names or interactions, never addresses."""
    user = make_user(people_server)
    form = form_to(web.get("/sign-in", params={"to": target, "return": target, "next": target}), "/sign-in")
    answer = send(web, form, username=user.username, password=PASSWORD, to=target)
    assert answer.headers["location"] == "/account"
    for path in READABLE:
        answer = web.get(path, params={"to": target, "return_to": target, "url": target, "done": target})
        location = urlsplit(answer.headers.get("location", ""))
        assert location.netloc in ("", urlsplit(people_server.issuer).netloc)
        assert location.path == "" or location.path.startswith("/")
        assert f'href="{target}"' not in answer.text


def test_every_page_that_sends_to_the_sign_in_can_be_returned_to(people_server: Server, web: httpx.Client) -> None:
    for page in PAGES:
        if page.access is not Access.ANYONE:
            assert RETURNS[page.back].startswith("/account")
            if page.method == "GET":
                answer = web.get(page.path)
                assert answer.headers["location"] == f"/sign-in?to={page.back}"


@pytest.mark.parametrize("path", READABLE)
def test_another_host_name_is_answered_with_nothing(people_server: Server, web: httpx.Client, path: str) -> None:
    """Host-header poisoning: neither the page nor its links are drawn to another name."""
    answer = web.get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert "evil" not in answer.text
    assert "evil" not in str(answer.headers)
    answer = web.get(path, headers={"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"})
    assert answer.status_code in (200, 303, 400)
    assert "evil" not in answer.text + str(answer.headers)


def bare(answer: httpx.Response, *typed: str) -> str:
    """A page without what differs from page to page by nature: its token, and what was typed."""
    text = re.sub(r'name="csrf" value="[^"]*"', "", answer.text)
    for one in typed:
        text = text.replace(one, "")
    return text


def test_nothing_on_the_page_tells_whether_a_name_exists(people_server: Server) -> None:
    """User enumeration by text, status or the next step: unknown, disabled, with a second factor, wrong password."""
    plain = make_user(people_server)
    disabled = make_user(people_server, disabled_at=1)
    protected = make_user(people_server)
    with people_server.storage() as storage, storage.write() as connection:
        connection.execute(
            totp_secrets.insert().values(
                user_id=protected.user_id, sealed_secret=b"x", created_at=1, confirmed_at=1 + ENROLMENT_SECONDS
            )
        )
    unknown = f"ada-{secrets.token_hex(4)}"
    seen = []
    for name in (unknown, plain.username, disabled.username, protected.username):
        with people_server.outside() as http:
            http.get("/sign-in")
            answer = sign_in(http, name, "not the password")
            names = sorted(answer.headers.keys())
            seen.append((answer.status_code, names, bare(answer, name), sorted(http.cookies.keys())))
    assert seen[0][0] == 400
    assert all(one == seen[0] for one in seen)


def test_an_interaction_is_no_good_in_another_browser(people_server: Server, web: httpx.Client) -> None:
    """Whoever gets hold of `i=` cannot go on with it, nor make a victim go on with theirs."""
    app, user = make_app(people_server, CALLBACK), make_user(people_server)
    start = web.get(request_url(people_server, app, CALLBACK)).headers["location"]
    with people_server.outside() as victim:
        answer = victim.get(start)
        assert answer.status_code == 400
        assert error_of(answer) == "This sign-in is over"
        form = form_to(victim.get("/sign-in"), "/sign-in")
        form.fields["i"] = parameters(start)["i"]
        answer = send(victim, form, username=user.username, password=PASSWORD)
        assert answer.status_code == 400
        assert SESSION not in victim.cookies


def test_nobody_consents_for_another_or_twice_or_before_signing_in(people_server: Server, web: httpx.Client) -> None:
    app, user = make_app(people_server, CALLBACK), make_user(people_server)
    start = web.get(request_url(people_server, app, CALLBACK)).headers["location"]
    secret = parameters(start)["i"]
    form = form_to(web.get(start), "/sign-in")
    form.action = "/consent"
    del form.fields["username"], form.fields["password"]
    # Not signed in: the answer is no answer, and the sign-in is still to come.
    assert (
        web.get(onward(send(web, form, decision="allow")))
        .headers["location"]
        .startswith(people_server.issuer + "/sign-in?")
    )
    sent = send(web, form_to(web.get(start), "/sign-in"), username=user.username, password=PASSWORD)
    consent = form_to(web.get(web.get(onward(sent)).headers["location"]), "/consent")
    assert send(web, consent, decision="perhaps").status_code == 400
    done = send(web, consent, decision="deny")
    assert "access_denied" in web.get(onward(done)).headers["location"]
    # Over: a second answer finds no interaction.
    assert send(web, consent, decision="allow").status_code == 400
    assert web.get(f"/oauth2/authorize/continue?i={secret}").status_code == 400


def test_what_outlives_the_session_takes_a_fresh_sign_in(people_server: Server, web: httpx.Client) -> None:
    """A browser left open is not an account given away."""
    username = somebody(people_server, web)
    sensitive = [page for page in PAGES if page.access is Access.FRESH]
    assert {page.path for page in sensitive} >= {
        "/account/password",
        "/account/passkeys",
        "/account/passkeys/remove",
        "/account/authenticator",
        "/account/recovery-codes",
    }
    token = token_of(web)
    with people_server.storage() as storage, storage.write() as connection:
        connection.execute(update(sessions).values(auth_time=sessions.c.auth_time - FRESH_SECONDS - 1))
    for page in sensitive:
        if page.method == "GET":
            answer = web.get(page.path)
        else:
            answer = web.post(page.path, data={"csrf": token}, headers=SAME_ORIGIN)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?to={page.back}")
    assert web.get("/account").status_code == 200
    form = form_to(web.get("/sign-in?to=password"), "/sign-in")
    assert form.fields["username"] == username
    answer = send(web, form, password=PASSWORD)
    assert answer.headers["location"] == "/account/password"
    assert web.get("/account/password").status_code == 200


def test_a_stranger_cannot_end_another_persons_session_or_access(people_server: Server, web: httpx.Client) -> None:
    somebody(people_server, web)
    with people_server.outside() as other:
        somebody(people_server, other)
        page = other.get("/account/sessions").text
        assert forms(page) == []
        with people_server.storage() as storage, storage.read() as connection:
            digest = sha256(web.cookies[SESSION].encode()).digest()
            theirs = connection.execute(select(sessions.c.session_id).where(sessions.c.digest == digest)).scalar_one()
        data = {"csrf": token_of(other), "session": theirs}
        assert other.post("/account/sessions/revoke", data=data, headers=SAME_ORIGIN).status_code == 303
    assert web.get("/account").status_code == 200


def test_too_much_or_malformed_is_told_and_changes_nothing(people_server: Server, web: httpx.Client) -> None:
    somebody(people_server, web)
    token = token_of(web)
    assert web.post("/sign-out", data={"csrf": token, "x": "y" * 40_000}, headers=SAME_ORIGIN).status_code == 413
    assert web.post("/sign-out", json={"csrf": token}, headers=SAME_ORIGIN).status_code == 400
    doubled = f"csrf={token}&csrf={token}"
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}
    assert web.post("/sign-out", content=doubled, headers=SAME_ORIGIN | form_type).status_code == 400
    assert web.get("/account").status_code == 200


def test_a_method_that_a_page_does_not_have_is_refused(web: httpx.Client) -> None:
    assert web.put("/sign-in").status_code == 405
    assert web.get("/sign-in/passkey").status_code == 405
    assert web.post("/signed-out").status_code == 405


def test_what_an_endpoint_refuses_is_shown_to_the_person_and_sent_nowhere(
    people_server: Server, web: httpx.Client
) -> None:
    """RFC 6749 §4.1.2.1; XSS by what the request holds: nothing of it is in the answer."""
    app = make_app(people_server, CALLBACK)
    url = request_url(people_server, app, CALLBACK)
    for sent, changed in (
        (app.client_id, quote(MARKUP)),
        (quote(CALLBACK, safe=""), quote("https://evil.example/" + MARKUP)),
        ("response_type=code", f"response_type=code&request_uri={quote(MARKUP)}"),
    ):
        assert sent in url
        answer = web.get(url.replace(sent, changed), headers={"Accept-Language": "de"})
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert {name: answer.headers.get(name) for name in PAGE_HEADERS} == PAGE_HEADERS
        assert "lässt sich nicht beantworten" in answer.text
        assert "invalid_request" in answer.text
        assert "evil" not in answer.text
        assert "<img" not in answer.text
