"""OpenID Connect beside the code flow: parameters of the request, userinfo, sign-out, and who may read answers."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from code_support import (
    CALLBACK,
    Attempt,
    Someone,
    application,
    code_of,
    later,
    person,
    sent_back,
    tokens_for,
)
from dpop_support import DpopKey
from identity_support import credentials, introspect, token_for

from stockade.identity.interactions import Decision
from stockade.identity.jose import parse
from stockade.identity.storage.schema import sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

GOODBYE = "https://app.example/goodbye"
SPA = "https://spa.example/cb"


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return application(
        server,
        "openid",
        ("orders:read", "openid", "profile", "email", "offline_access"),
        post_logout_redirect_uris=(GOODBYE,),
        grant_types=("authorization_code", "refresh_token", "client_credentials"),
    )


@pytest.fixture(scope="module")
def third_party(server: Server) -> CreatedClient:
    return application(server, "openid-third-party", first_party=False)


@pytest.fixture(scope="module")
def spa(server: Server) -> CreatedClient:
    return application(server, "openid-spa", auth_method="none", redirect_uris=(SPA, "http://127.0.0.1:5173/cb"))


@pytest.fixture
def someone(server: Server) -> Iterator[Someone]:
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        yield someone


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


# ---- parameters of the request


def page_of(answer: httpx.Response, server: Server) -> str:
    assert answer.status_code == 303, answer.text
    url: str = answer.headers["location"]
    assert url.startswith(server.issuer)
    return url.removeprefix(server.issuer).partition("?")[0]


@pytest.mark.standard("RFC 9470 §4 (1)")
def test_a_stronger_assurance_is_asked_for_and_then_told(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    """RFC 9470 §4: the client steps up and goes on."""
    attempt = Attempt(client.client_id)
    asked = someone.open(attempt.url(acr_values="phr mfa"))
    assert page_of(asked, server) == "/sign-in/second-factor"
    someone.sign_in(someone.user, ("pwd", "otp"))
    issued = attempt.redeem(outside, client, code_of(someone.go_on(asked.headers["location"]))).json()
    assert parse(issued["id_token"]).claims["acr"] == "mfa"


@pytest.mark.standard("OIDC Core §3.1.2.1 (10)", "RFC 9470 §5 (1)")
def test_an_assurance_that_cannot_be_had_is_an_error_where_it_is_essential(
    client: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    assert "code" in sent_back(someone.open(attempt.url(acr_values="urn:unknown")))
    essential = {"id_token": {"acr": {"essential": True, "values": ["urn:unknown"]}}}
    back = sent_back(someone.open(attempt.url(claims=json.dumps(essential))))
    assert back["error"] == "unmet_authentication_requirements"


@pytest.mark.standard("RFC 9470 §5 (1)")
def test_an_essential_acr_is_asked_for(server: Server, client: CreatedClient, someone: Someone) -> None:
    claims = json.dumps({"id_token": {"acr": {"essential": True, "value": "phr"}, "auth_time": {"essential": True}}})
    attempt = Attempt(client.client_id)
    someone.sign_in(someone.user, ("pwd", "otp"))
    asked = someone.open(attempt.url(claims=claims))
    assert page_of(asked, server) == "/sign-in/second-factor"
    assert sent_back(someone.decide(asked.headers["location"], Decision.UNMET))["error"] == (
        "unmet_authentication_requirements"
    )


@pytest.mark.parametrize(
    "claims",
    [
        "x",
        "[]",
        "1",
        '{"id_token": 1}',
        '{"id_token": {"acr": "phr"}}',
        '{"id_token": {"acr": {"values": 1}}}',
        '{"id_token": {"sub": {"value": 7}}}',
        "{" * 2_000,
    ],
)
def test_malformed_claims_are_refused(client: CreatedClient, someone: Someone, claims: str) -> None:
    assert sent_back(someone.open(Attempt(client.client_id).url(claims=claims)))["error"] == "invalid_request"


@pytest.mark.standard("OIDC Core §3.1.2.1 (8)", "OIDC Core §3.1.2.2 (1)", "OIDC Core §5.5 (1)", "RFC 6749 §3.1 (1)")
def test_wishes_and_what_is_unknown_never_make_a_request_fail(client: CreatedClient, someone: Someone) -> None:
    wishes = {
        "display": "touch",
        "ui_locales": "tlh en-Q x_y " + "a" * 50,
        "claims_locales": "de",
        "login_hint": "somebody@example.com",
        "claims": json.dumps({"userinfo": {"email": None}, "id_token": {"birthdate": {"essential": True}}}),
        "unknown": "x",
        "prompt": "",
    }
    assert "code" in sent_back(someone.open(Attempt(client.client_id).url(**wishes)))


@pytest.mark.standard("OIDC Core §3.1.2.1 (6)")
def test_prompt_consent_asks_again(server: Server, third_party: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(third_party.client_id)
    first = someone.open(attempt.url())
    assert "code" in sent_back(someone.decide(first.headers["location"], Decision.ALLOWED))
    assert "code" in sent_back(someone.open(attempt.url(prompt="none")))
    assert page_of(someone.open(attempt.url(prompt="consent")), server) == "/consent"


def test_prompt_select_account_lets_the_user_choose(server: Server, client: CreatedClient, someone: Someone) -> None:
    asked = someone.open(Attempt(client.client_id).url(prompt="select_account"))
    assert page_of(asked, server) == "/sign-in"
    assert page_of(someone.go_on(asked.headers["location"]), server) == "/sign-in"
    someone.sign_in(person(server))
    assert "code" in sent_back(someone.go_on(asked.headers["location"]))


@pytest.mark.standard("OIDC Core §3.1.2.1 (7)", "OIDC Core §2 (3)")
def test_max_age_asks_for_a_new_sign_in(server: Server, client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    someone.sign_in(someone.user, ago=3_600)
    assert "code" in sent_back(someone.open(attempt.url(max_age="4000")))
    asked = someone.open(attempt.url(max_age="600"))
    assert page_of(asked, server) == "/sign-in"
    someone.sign_in(someone.user)
    assert "code" in sent_back(someone.go_on(asked.headers["location"]))
    always = someone.open(attempt.url(max_age="0", prompt="login"))
    assert page_of(always, server) == "/sign-in"


@pytest.mark.standard(
    "RFC 6749 §3.1.1 (1)",
    "RFC 6749 §4.1.2.1 (1)",
    "RFC 8707 §2 (2)",
    "OAuth 2.1 §4.1.2 (1)",
    "RFC 9700 §2.1.2 (1)",
    "FAPI 2.0 §5.3.2.2 (1)",
)
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"scope": "openid  orders:read"}, "invalid_scope"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "query.jwt"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"id_token_hint": "x.y.z"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
    ],
)
def test_what_is_wrong_is_told_to_the_client(
    client: CreatedClient, someone: Someone, changes: dict[str, str | None], error: str
) -> None:
    attempt = Attempt(client.client_id)
    back = sent_back(someone.open(attempt.url(**changes)))
    assert (back["error"], back["state"]) == (error, attempt.state)
    assert "code" not in back


@pytest.mark.standard("RFC 6749 §3.1 (2)")
@pytest.mark.parametrize("name", ["state", "scope", "code_challenge", "nonce", "prompt", "unknown"])
def test_a_repeated_parameter_is_told_to_the_client(client: CreatedClient, someone: Someone, name: str) -> None:
    back = sent_back(someone.open(Attempt(client.client_id).url() + f"&{name}=a&{name}=b"))
    assert back["error"] == "invalid_request"


def test_a_client_without_the_grant_gets_no_code(server: Server, someone: Someone) -> None:
    machine = application(
        server, "device-only", grant_types=("urn:ietf:params:oauth:grant-type:device_code",), redirect_uris=()
    )
    answer = someone.open(Attempt(machine.client_id).url())
    assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.standard("RFC 6749 §3.3 (1)", "OIDC Core §3.1.2.1 (2)")
def test_without_a_scope_the_client_gets_the_apis_scopes_and_no_identity(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    tokens = tokens_for(server, outside, client, scope=None)
    assert tokens["scope"] == "orders:read"
    assert "id_token" not in tokens


@pytest.mark.standard("RFC 8707 §2.1 (1)", "RFC 8707 §2 (3)", "RFC 6750 §5.3 (2)")
def test_a_resource_selects_the_audience(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient
) -> None:
    token = tokens_for(server, outside, client, resource="https://other.example")["access_token"]
    assert introspect(gateway, token) == {"active": False}
    assert introspect(gateway, token, resource="https://other.example")["aud"] == "https://other.example"


@pytest.mark.standard("RFC 8707 §2.2 (1)")
def test_a_code_is_for_its_own_resource(outside: httpx.Client, client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url(resource="https://other.example")))
    answer = attempt.redeem(outside, client, code, resource="https://localhost:8443")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert attempt.redeem(outside, client, code, resource="https://other.example").status_code == 200


def test_openid_is_no_scope_for_a_client_alone(outside: httpx.Client, client: CreatedClient) -> None:
    form = {"grant_type": "client_credentials", "scope": "openid"}
    answer = outside.post("/oauth2/token", data=form, headers=credentials(client))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


# ---- userinfo


@pytest.mark.standard(
    "OIDC Core §5.3 (1)", "OIDC Core §5.3.2 (1)", "OIDC Core §5.4 (1)", "OIDC Core §5.1 (1)", "RFC 6750 §2.1 (1)"
)
def test_userinfo_tells_what_the_scopes_say(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    with server.outside() as http:
        someone = Someone(server, http)
        session = someone.sign_in()
        for scope, members in {
            "openid": {"sub"},
            "openid profile": {"sub", "name", "preferred_username", "locale"},
            "openid email": {"sub", "email", "email_verified"},
        }.items():
            token = tokens_for(server, outside, client, someone, scope=scope)["access_token"]
            for answer in (
                outside.get("/oauth2/userinfo", headers=bearer(token)),
                outside.post("/oauth2/userinfo", headers=bearer(token)),
            ):
                assert answer.status_code == 200, answer.text
                assert set(answer.json()) == members
                assert answer.json()["sub"] == session.user.user_id
                assert answer.headers["cache-control"] == "no-store"


@pytest.mark.standard(
    "OIDC Core §5.3.3 (1)", "RFC 6750 §2.3 (1)", "RFC 6750 §3 (1)", "RFC 6750 §3.1 (1)", "OAuth 2.1 §7.5 (1)"
)
def test_userinfo_refuses_what_is_no_token_for_it(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    plain = tokens_for(server, outside, client, scope="orders:read")["access_token"]
    answer = outside.get("/oauth2/userinfo", headers=bearer(plain))
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    machine = token_for(outside, client)
    assert outside.get("/oauth2/userinfo", headers=bearer(machine)).status_code == 403
    for headers in ({}, bearer("x"), bearer(plain[:-1] + "~"), {"Authorization": f"Basic {plain}"}):
        answer = outside.get("/oauth2/userinfo", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert outside.get(f"/oauth2/userinfo?access_token={plain}").status_code == 401


@pytest.mark.standard("RFC 9449 §7.1 (1)")
def test_userinfo_wants_the_key_of_a_bound_token(server: Server, outside: httpx.Client, client: CreatedClient) -> None:
    key = DpopKey()
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        attempt = Attempt(client.client_id)
        form = {
            "grant_type": "authorization_code",
            "code": code_of(someone.open(attempt.url())),
            "code_verifier": attempt.verifier,
        }
        token = key.post(outside, "/oauth2/token", credentials(client), **form).json()["access_token"]
    url = f"{server.issuer}/oauth2/userinfo"
    assert outside.get(url, headers=bearer(token)).status_code == 401
    assert outside.get(url, headers=bearer(token, "DPoP")).status_code == 401
    proved = bearer(token, "DPoP") | {"DPoP": key.proof("GET", url, token=token)}
    assert outside.get(url, headers=proved).status_code == 200
    stranger = DpopKey(nonce=key.nonce)
    foreign = bearer(token, "DPoP") | {"DPoP": stranger.proof("GET", url, token=token)}
    assert outside.get(url, headers=foreign).status_code == 401


# ---- sign-out


@pytest.mark.standard("OIDC Logout §3 (2)", "OIDC Logout §6 (1)")
def test_an_id_token_of_the_session_signs_out_and_goes_back(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    tokens = tokens_for(server, outside, client, someone)
    hint = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": GOODBYE, "state": "s 1"}
    answer = someone.http.get("/oauth2/logout", params=hint, follow_redirects=False)
    assert sent_back(answer, to=GOODBYE) == {"state": "s 1"}
    assert "__Host-stockade_session=;" in answer.headers["set-cookie"]
    assert page_of(someone.open(Attempt(client.client_id).url()), server) == "/sign-in"
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert outside.post("/oauth2/token", data=form, headers=credentials(client)).status_code == 400
    again = someone.http.get("/oauth2/logout", params=hint, follow_redirects=False)
    assert sent_back(again, to=GOODBYE) == {"state": "s 1"}


@pytest.mark.standard("OIDC Logout §2 (3)", "OIDC Logout §2 (4)")
@pytest.mark.parametrize("hinted", ["nothing", "another session", "another user", "forged"])
def test_without_an_id_token_of_this_session_the_user_is_asked(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone, hinted: str
) -> None:
    """CSRF: a link from anywhere does not sign anybody out."""
    parameters: dict[str, Any] = {"post_logout_redirect_uri": GOODBYE, "client_id": client.client_id}
    if hinted != "nothing":
        with server.outside() as http:
            elsewhere = Someone(server, http)
            elsewhere.sign_in(person(server) if hinted == "another user" else someone.user)
            token = tokens_for(server, outside, client, elsewhere)["id_token"]
        parameters["id_token_hint"] = token + "x" if hinted == "forged" else token
    answer = someone.http.get("/oauth2/logout", params=parameters, follow_redirects=False)
    assert page_of(answer, server) == "/sign-out"
    assert "code" in sent_back(someone.open(Attempt(client.client_id).url()))
    ticket = answer.headers["location"].partition("?l=")[2]
    waiting = someone.open(f"/oauth2/logout/continue?l={ticket}")
    assert page_of(waiting, server) == "/sign-out"
    someone.sign_out()
    assert someone.open(f"/oauth2/logout/continue?l={ticket}").headers["location"] == GOODBYE
    forged = someone.open(f"/oauth2/logout/continue?l={ticket[:-4]}AAAA")
    assert page_of(forged, server) == "/signed-out"


def test_the_sign_out_page_brings_the_browser_back(server: Server, client: CreatedClient, someone: Someone) -> None:
    parameters = {"post_logout_redirect_uri": GOODBYE, "client_id": client.client_id, "state": "s"}
    asked = someone.http.get("/oauth2/logout", params=parameters, follow_redirects=False)
    page = someone.open(asked.headers["location"])
    action = unescape(re.search(r'<form method="post" action="([^"]+)"', page.text)[1])  # type: ignore[index]
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    headers = {"Origin": server.issuer, "Accept": "text/html"}
    done = someone.http.post(action, data=hidden, headers=headers, follow_redirects=False)
    assert done.status_code == 200, done.text
    onward = unescape(re.search(r'href="([^"]*/oauth2/logout/continue[^"]*)"', done.text)[1])  # type: ignore[index]
    assert sent_back(someone.open(onward), to=GOODBYE) == {"state": "s"}
    assert page_of(someone.open(Attempt(client.client_id).url()), server) == "/sign-in"


@pytest.mark.standard("OIDC Logout §3 (1)")
@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/",
        GOODBYE + "/",
        GOODBYE + "?x",
        "https://app.example.evil.example/goodbye",
        CALLBACK,
        "//x",
    ],
)
def test_sign_out_is_no_open_redirect(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone, uri: str
) -> None:
    token = tokens_for(server, outside, client, someone)["id_token"]
    for parameters in ({"id_token_hint": token}, {"client_id": client.client_id}, {}):
        asked = {**parameters, "post_logout_redirect_uri": uri}
        answer = someone.http.get("/oauth2/logout", params=asked, follow_redirects=False)
        assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert "code" in sent_back(someone.open(Attempt(client.client_id).url()))


@pytest.mark.standard("OIDC Logout §2 (5)")
def test_a_hint_for_another_client_is_refused(
    server: Server, outside: httpx.Client, client: CreatedClient, third_party: CreatedClient, someone: Someone
) -> None:
    token = tokens_for(server, outside, client, someone)["id_token"]
    parameters = {"id_token_hint": token, "client_id": third_party.client_id}
    answer = someone.http.get("/oauth2/logout", params=parameters, follow_redirects=False)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert "code" in sent_back(someone.open(Attempt(client.client_id).url()))


@pytest.mark.standard("OIDC Logout §2 (2)")
def test_an_expired_id_token_is_a_good_hint(make_server: Callable[..., Server]) -> None:
    server = make_server(lifetimes={"id_token_seconds": 10}).start()
    client = application(server, "long-ago", post_logout_redirect_uris=(GOODBYE,))
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        token = tokens_for(server, http, client, someone)["id_token"]
        time.sleep(max(0, parse(token).claims["exp"] + 1 - time.time()))
        hint = {"id_token_hint": token, "post_logout_redirect_uri": GOODBYE}
        answer = someone.http.get("/oauth2/logout", params=hint, follow_redirects=False)
        assert answer.headers["location"] == GOODBYE


@pytest.mark.standard("OIDC Logout §2 (1)")
def test_signing_out_by_post_is_the_same(client: CreatedClient, someone: Someone, server: Server) -> None:
    answer = someone.http.post("/oauth2/logout", data={"client_id": client.client_id}, follow_redirects=False)
    assert page_of(answer, server) == "/oauth2/logout"


# ---- who may read answers (CORS)


def preflight(http: httpx.Client, path: str, origin: str) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "dpop"}
    return http.options(path, headers=headers)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/oauth2/jwks"])
def test_what_is_public_is_for_every_site(outside: httpx.Client, path: str) -> None:
    answer = outside.get(path, headers={"Origin": "https://anyone.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke", "/oauth2/userinfo"])
def test_tokens_are_for_the_sites_of_public_clients(
    server: Server, outside: httpx.Client, spa: CreatedClient, path: str
) -> None:
    application(server, f"confidential {path}", redirect_uris=("https://confidential.example/cb",))
    for origin in ("https://spa.example", "http://127.0.0.1:5173"):
        later_than_known(outside, origin)
        asked = preflight(outside, path, origin)
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == origin
        assert "dpop" in asked.headers["access-control-allow-headers"].lower()
        for answer in (asked, outside.post(path, data={"client_id": spa.client_id}, headers={"Origin": origin})):
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers
    for origin in (
        "https://evil.example",
        "null",
        "https://confidential.example",
        "https://spa.example.evil.example",
        "http://spa.example",
    ):
        assert "access-control-allow-origin" not in preflight(outside, path, origin).headers
        answer = outside.post(path, data={"client_id": spa.client_id}, headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


def later_than_known(http: httpx.Client, origin: str) -> None:
    """The list of origins is some seconds old at most."""
    deadline = time.monotonic() + 15
    while "access-control-allow-origin" not in preflight(http, "/oauth2/token", origin).headers:
        assert time.monotonic() < deadline
        time.sleep(0.25)


@pytest.mark.standard("RFC 9700 §2.6 (1)")
@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/par", "/oauth2/logout"])
def test_nothing_else_is_for_scripts(outside: httpx.Client, spa: CreatedClient, path: str) -> None:
    assert spa.client_id
    answer = preflight(outside, path, "https://spa.example")
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_an_idle_session_is_no_session(server: Server, client: CreatedClient, someone: Someone) -> None:
    later(server, sessions.c.last_seen_at, 9 * 3_600)
    assert page_of(someone.open(Attempt(client.client_id).url()), server) == "/sign-in"
