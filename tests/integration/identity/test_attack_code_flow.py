"""Attacks on the code flow (RFC 9700 §4), each named by what it would achieve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from code_support import (
    CALLBACK,
    Attempt,
    Someone,
    application,
    at_once,
    audited,
    challenge,
    code_of,
    later,
    person,
    sent_back,
)
from dpop_support import DpopKey
from identity_support import credentials, introspect
from sqlalchemy import func, select

from stockade.identity import admin
from stockade.identity.interactions import Decision
from stockade.identity.storage.schema import authorization_codes, interactions
from stockade.identity.storage.sessions import end_session
from stockade.identity.storage.users import set_user_disabled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient

NATIVE = ("http://127.0.0.1/cb", "http://[::1]/cb", "com.example.app:/cb")


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return application(server, "attacked")


@pytest.fixture(scope="module")
def other(server: Server) -> CreatedClient:
    return application(server, "attackers-own", redirect_uris=(CALLBACK, "https://evil.example/cb"))


@pytest.fixture(scope="module")
def public(server: Server) -> CreatedClient:
    return application(server, "attacked-public", auth_method="none")


@pytest.fixture(scope="module")
def native(server: Server) -> CreatedClient:
    return application(server, "attacked-native", auth_method="none", application_type="native", redirect_uris=NATIVE)


@pytest.fixture
def someone(server: Server) -> Iterator[Someone]:
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        yield someone


def refused(answer: httpx.Response, error: str = "invalid_grant") -> None:
    assert (answer.status_code, answer.json().get("error")) == (400, error), answer.text


def kept_from_client(answer: httpx.Response) -> None:
    """Shown to the person, and sent nowhere."""
    assert answer.status_code == 400, answer.headers.get("location")
    assert "location" not in answer.headers
    assert "<form" not in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# ---- codes


@pytest.mark.standard("RFC 7636 §4.4 (1)", "RFC 7636 §4.6 (1)", "RFC 9700 §4.5.3 (1)", "OIDC Core §16.11 (1)")
def test_injecting_a_stolen_code_into_the_attackers_own_session(
    outside: httpx.Client, public: CreatedClient, someone: Someone
) -> None:
    """RFC 9700 §4.5: the code belongs to the challenge of the browser that asked for it."""
    victim, attacker = Attempt(public.client_id), Attempt(public.client_id)
    stolen = code_of(someone.open(victim.url()))
    refused(attacker.redeem(outside, public, stolen))
    assert victim.redeem(outside, public, stolen).status_code == 200


@pytest.mark.standard("RFC 6749 §4.1.2 (3)", "RFC 6749 §4.1.3 (2)")
def test_redeeming_a_stolen_code_as_another_client(
    server: Server, outside: httpx.Client, client: CreatedClient, other: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    stolen = code_of(someone.open(attempt.url()))
    refused(attempt.redeem(outside, other, stolen))
    assert attempt.redeem(outside, client, stolen).status_code == 200
    refused(attempt.redeem(outside, other, stolen))
    assert audited(server, "code.replayed", client) == []


@pytest.mark.standard("RFC 6749 §4.1.3 (1)")
def test_redeeming_a_code_with_another_redirect_uri(
    outside: httpx.Client, other: CreatedClient, someone: Someone
) -> None:
    """RFC 6749 §10.6: where the code was sent is where it is redeemed."""
    attempt = Attempt(other.client_id)
    code = code_of(someone.open(attempt.url()))
    refused(attempt.redeem(outside, other, code, redirect_uri="https://evil.example/cb"))


@pytest.mark.standard("RFC 6749 §4.1.2 (2)", "OIDC Core §3.1.3.2 (1)", "FAPI 2.0 §5.3.2.2 (9)")
def test_replaying_a_code_loses_everything_that_it_gave(
    server: Server, outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url(scope="openid orders:read offline_access")))
    tokens = attempt.redeem(outside, client, code).json()
    assert introspect(gateway, tokens["access_token"])["active"] is True
    refused(attempt.redeem(outside, client, code))
    assert introspect(gateway, tokens["access_token"]) == {"active": False}
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refused(outside.post("/oauth2/token", data=form, headers=credentials(client)))
    assert len(audited(server, "code.replayed", client)) == 1


def test_racing_for_one_code_gives_one_answer(server: Server, client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url()))

    def redeem(_: int) -> int:
        with server.outside() as http:
            return attempt.redeem(http, client, code).status_code

    assert sorted(at_once(8, redeem)) == [200] + [400] * 7


@pytest.mark.standard("RFC 6749 §4.1.2 (1)", "RFC 6749 §10.5 (1)", "FAPI 2.0 §5.3.2.1 (11)")
def test_redeeming_a_code_that_was_found_later(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url()))
    later(server, authorization_codes.c.expires_at, 61)
    refused(attempt.redeem(outside, client, code))


def test_redeeming_a_code_after_its_user_signed_out_or_was_disabled(
    server: Server, outside: httpx.Client, client: CreatedClient
) -> None:
    for end in ("session", "user", "client"):
        with server.outside() as http:
            someone, doomed = Someone(server, http), client
            session = someone.sign_in()
            if end == "client":
                doomed = application(server, "doomed")
            attempt = Attempt(doomed.client_id)
            code = code_of(someone.open(attempt.url(scope="openid offline_access")))
            with server.storage() as storage:
                if end == "client":
                    admin.disable_client(storage, doomed.client_id)
                    admin.enable_client(storage, doomed.client_id)
                else:
                    with storage.write() as connection:
                        if end == "session":
                            end_session(connection, session.session_id, 1.0)
                        else:
                            set_user_disabled(connection, session.user.user_id, 1)
                            set_user_disabled(connection, session.user.user_id, None)
            refused(attempt.redeem(outside, doomed, code))


@pytest.mark.standard("RFC 7636 §4.1 (1)")
@pytest.mark.parametrize("verifier", ["", "short", "x" * 42, "x" * 129, "ä" * 50, "x" * 42 + "+", "x" * 43 + "\n"])
def test_a_malformed_verifier_is_no_verifier(
    outside: httpx.Client, client: CreatedClient, someone: Someone, verifier: str
) -> None:
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url()))
    refused(attempt.redeem(outside, client, code, code_verifier=verifier), "invalid_request")
    assert attempt.redeem(outside, client, code).status_code == 200


# ---- PKCE downgrade (RFC 9700 §4.8)


@pytest.mark.standard(
    "OAuth 2.1 §4.1.1 (1)", "RFC 7636 §4.3 (1)", "RFC 7636 §4.4.1 (1)", "RFC 7636 §7.2 (1)", "FAPI 2.0 §5.3.2.2 (4)"
)
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "x" * 42},
        {"code_challenge": "x" * 44},
        {"code_challenge": "x" * 42 + "="},
        {"code_challenge": "x" * 42 + "+"},
        {"code_challenge": "x" * 128, "code_challenge_method": "plain"},
    ],
)
@pytest.mark.parametrize("kind", ["confidential", "public"])
def test_downgrading_pkce_gives_no_code(
    client: CreatedClient, public: CreatedClient, someone: Someone, changes: dict[str, str | None], kind: str
) -> None:
    attempt = Attempt((public if kind == "public" else client).client_id)
    back = sent_back(someone.open(attempt.url(**changes)))
    assert back["error"] == "invalid_request"
    assert "code" not in back


def test_the_challenge_itself_is_no_verifier(outside: httpx.Client, public: CreatedClient, someone: Someone) -> None:
    """Who reads the authorization request must not be able to redeem (`plain` by another name)."""
    attempt = Attempt(public.client_id)
    code = code_of(someone.open(attempt.url()))
    refused(attempt.redeem(outside, public, code, code_verifier=challenge(attempt.verifier)))


@pytest.mark.standard("RFC 9700 §2.1.1 (1)", "RFC 9700 §4.8.2 (1)")
def test_leaving_the_verifier_out(outside: httpx.Client, public: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(public.client_id)
    form = {
        "grant_type": "authorization_code",
        "code": code_of(someone.open(attempt.url())),
        "redirect_uri": CALLBACK,
        "client_id": public.client_id,
    }
    refused(outside.post("/oauth2/token", data=form), "invalid_request")


# ---- mix-up (RFC 9207, RFC 9700 §4.4)


@pytest.mark.standard("RFC 9207 §2 (1)", "RFC 9700 §4.4.2 (1)", "RFC 6749 §4.1.2.1 (1)")
def test_every_answer_says_who_gave_it(server: Server, client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    for changes in ({}, {"scope": "nothing"}, {"response_type": "token"}, {"prompt": "none login"}):
        back = sent_back(someone.open(attempt.url(**changes)))
        assert (back["iss"], back["state"]) == (server.issuer, attempt.state)
    answer = someone.open(attempt.url(response_mode="form_post", scope="nothing"))
    assert f'name="iss" value="{server.issuer}"' in answer.text


# ---- redirect tricks (RFC 9700 §4.1)

TRICKS = [
    "https://app.example/callback/",
    "https://app.example/callback?",
    "https://app.example/callback?x=1",
    "https://app.example/callback#",
    "https://app.example/callback#x",
    "https://app.example/callback%20",
    "https://app.example/callback%2e%2e",
    "https://app.example/callback/../evil",
    "https://app.example/%63allback",
    "https://app.example/Callback",
    "https://APP.example/callback",
    "HTTPS://app.example/callback",
    "http://app.example/callback",
    "https://app.example:443/callback",
    "https://app.example:8443/callback",
    "https://app.example./callback",
    "https://app.example.evil.example/callback",
    "https://evil.example/?https://app.example/callback",
    "https://evil.example/https://app.example/callback",
    "https://app.example@evil.example/callback",
    "https://app.example:x@evil.example/callback",
    "https://evil.example\\@app.example/callback",
    "https://evil.example#@app.example/callback",
    "https://evil.example?@app.example/callback",
    "https:/app.example/callback",
    "https:app.example/callback",
    "//app.example/callback",
    "///app.example/callback",
    "/callback",
    "callback",
    " https://app.example/callback",
    "https://app.example/callback ",
    "https://app.example/callback\t",
    "https://app.example/callback\r\nSet-Cookie: a=b",
    "https://app.example/callback\x00",
    "https://app.example/callback;x",
    "https://*.example/callback",
    "https://\u0430pp.example/callback",
    "https://app。example/callback",
    "javascript:alert(1)//https://app.example/callback",
    "data:text/html,https://app.example/callback",
    "urn:ietf:wg:oauth:2.0:oob",
    "",
    "https://evil.example/cb",
]


@pytest.mark.standard(
    "RFC 6749 §3.1.2 (1)",
    "RFC 6749 §3.1.2.2 (1)",
    "RFC 6749 §3.1.2.3 (1)",
    "RFC 6749 §3.1.2.4 (1)",
    "OAuth 2.1 §2.3.1 (1)",
    "RFC 9700 §2.1 (1)",
    "RFC 9700 §4.1.3 (1)",
)
@pytest.mark.parametrize("uri", TRICKS)
def test_an_almost_right_redirect_uri_gets_nothing(client: CreatedClient, someone: Someone, uri: str) -> None:
    kept_from_client(someone.open(Attempt(client.client_id).url(redirect_uri=uri)))


@pytest.mark.standard("RFC 6749 §10.15 (1)", "RFC 9700 §2.1 (2)", "FAPI 2.0 §5.3.2.1 (7)")
@pytest.mark.parametrize("uri", TRICKS)
def test_an_almost_right_redirect_uri_gets_no_error_either(client: CreatedClient, someone: Someone, uri: str) -> None:
    """Open redirect via error: whatever else is wrong, nothing is sent to what is not registered."""
    kept_from_client(someone.open(Attempt(client.client_id).url(redirect_uri=uri, response_type="token")))
    kept_from_client(someone.open(Attempt(client.client_id).url(redirect_uri=uri, prompt="none")))


NATIVE_TRICKS = [
    "http://localhost:5000/cb",
    "http://127.0.0.1:99999/cb",
    "http://127.0.0.1:5000/cb/",
    "http://127.0.0.1:5000@evil.example/cb",
    "http://127.0.0.1:5000.evil.example/cb",
    "http://127.0.0.1:/evil",
    "http://127.0.0.2:5000/cb",
    "http://127.1:5000/cb",
    "http://0.0.0.0:5000/cb",
    "https://127.0.0.1:5000/cb",
    "http://[::1]:5000/evil",
    "http://[::ffff:127.0.0.1]:5000/cb",
    "com.example.app://cb",
    "com.example.app:/cb?x",
    "com.example.app.evil:/cb",
]


@pytest.mark.standard("RFC 8252 §8.4 (1)")
@pytest.mark.parametrize("uri", NATIVE_TRICKS)
def test_an_almost_right_loopback_uri_gets_nothing(native: CreatedClient, someone: Someone, uri: str) -> None:
    kept_from_client(someone.open(Attempt(native.client_id).url(redirect_uri=uri)))


@pytest.mark.standard("RFC 8252 §7.1 (1)", "RFC 8252 §7.3 (1)")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000/cb", "http://[::1]:49152/cb", "com.example.app:/cb"])
def test_a_native_application_chooses_its_port(native: CreatedClient, someone: Someone, uri: str) -> None:
    """RFC 8252 §7.3: so that the tricks above fail for the right reason."""
    back = sent_back(someone.open(Attempt(native.client_id).url(redirect_uri=uri)), to=uri)
    assert "code" in back


def test_a_port_is_free_for_native_applications_only(server: Server, someone: Someone) -> None:
    web = application(server, "loopback-web", redirect_uris=("http://127.0.0.1:5000/cb",))
    kept_from_client(someone.open(Attempt(web.client_id).url(redirect_uri="http://127.0.0.1:5001/cb")))


@pytest.mark.standard("RFC 6749 §3.1 (2)")
@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_a_second_redirect_uri_or_client_is_not_chosen_from(client: CreatedClient, someone: Someone, name: str) -> None:
    for twice in ("https://evil.example/cb", Attempt(client.client_id).parameters()[name]):
        pair = urlencode({name: twice})
        url = Attempt(client.client_id).url()
        kept_from_client(someone.open(f"{url}&{pair}"))
        kept_from_client(someone.open(url.replace("?", f"?{pair}&")))


@pytest.mark.parametrize("client_id", ["", "c_unknown", "c_" + "x" * 3000, "' OR 1=1", "é", "*"])
def test_an_unknown_client_gets_nothing(someone: Someone, client_id: str) -> None:
    kept_from_client(someone.open(Attempt(client_id).url()))


def test_a_disabled_client_gets_nothing(server: Server, someone: Someone) -> None:
    disabled = application(server, "disabled-before")
    with server.storage() as storage:
        admin.disable_client(storage, disabled.client_id)
    kept_from_client(someone.open(Attempt(disabled.client_id).url()))


def test_markup_in_a_parameter_stays_text(client: CreatedClient, someone: Someone) -> None:
    answer = someone.open(Attempt(client.client_id).url(redirect_uri="https://x/<script>alert(1)</script>"))
    kept_from_client(answer)
    assert "alert(1)" not in answer.text
    for mode in ("query", "form_post"):
        answer = someone.open(
            Attempt(client.client_id).url(response_mode=mode, state="\"'><img src=x onerror=alert(1)>")
        )
        assert "<img" not in answer.text + answer.headers.get("location", "")


def test_the_response_cannot_be_split(client: CreatedClient, someone: Someone) -> None:
    answer = someone.open(Attempt(client.client_id).url(state="x\r\nSet-Cookie: stolen=1"))
    assert "stolen" not in answer.headers.get("set-cookie", "")
    assert sent_back(answer)["state"] == "x\r\nSet-Cookie: stolen=1"


# ---- prompt=none misuse


@pytest.mark.standard("OIDC Core §3.1.2.1 (3)")
def test_asking_nothing_of_nobody_gives_no_code(server: Server, client: CreatedClient) -> None:
    with server.outside() as http:
        stranger = Someone(server, http)
        assert sent_back(stranger.open(Attempt(client.client_id).url(prompt="none")))["error"] == "login_required"


@pytest.mark.standard("OIDC Core §3.1.2.1 (3)", "OIDC Core §3.1.2.1 (4)", "OIDC Core §3.1.2.6 (1)")
def test_asking_nothing_does_not_skip_consent_age_or_assurance(
    server: Server, client: CreatedClient, someone: Someone
) -> None:
    asked = application(server, "never-agreed", first_party=False)
    attempt = Attempt(asked.client_id)
    assert sent_back(someone.open(attempt.url(prompt="none")))["error"] == "consent_required"
    someone.sign_in(ago=100)
    attempt = Attempt(client.client_id)
    assert sent_back(someone.open(attempt.url(prompt="none", max_age="99")))["error"] == "login_required"
    assert "code" in sent_back(someone.open(attempt.url(prompt="none", max_age="1000")))
    back = sent_back(someone.open(attempt.url(prompt="none", acr_values="mfa")))
    assert back["error"] == "interaction_required"
    for prompt in ("none login", "none consent", "none none2", "login none select_account"):
        assert sent_back(someone.open(attempt.url(prompt=prompt)))["error"] == "invalid_request"


def test_a_program_that_pretends_to_be_a_native_application_is_not_trusted_silently(
    server: Server, someone: Someone
) -> None:
    """RFC 8252 §8.6: remembered consent is for clients that can be recognised."""
    native = application(
        server, "impersonated", auth_method="none", application_type="native", redirect_uris=NATIVE, first_party=False
    )
    uri = "http://127.0.0.1:5000/cb"
    attempt = Attempt(native.client_id)
    asked = someone.open(attempt.url(redirect_uri=uri))
    assert "code" in sent_back(someone.decide(asked.headers["location"], Decision.ALLOWED), to=uri)
    again = sent_back(someone.open(attempt.url(redirect_uri=uri, prompt="none")), to=uri)
    assert again["error"] == "consent_required"


@pytest.mark.standard("OIDC Core §3.1.2.1 (9)")
def test_a_session_of_another_user_does_not_answer_for_the_hinted_one(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    hint = attempt.redeem(outside, client, code_of(someone.open(attempt.url()))).json()["id_token"]
    assert "code" in sent_back(someone.open(attempt.url(prompt="none", id_token_hint=hint)))
    someone.sign_in(person(server))
    assert sent_back(someone.open(attempt.url(prompt="none", id_token_hint=hint)))["error"] == "login_required"
    asked = someone.open(attempt.url(id_token_hint=hint))
    someone.sign_in(person(server))
    assert sent_back(someone.go_on(asked.headers["location"]))["error"] == "login_required"
    forged = hint[:-8] + ("A" * 8 if not hint.endswith("A" * 8) else "B" * 8)
    assert sent_back(someone.open(attempt.url(id_token_hint=forged)))["error"] == "invalid_request"


@pytest.mark.standard("OIDC Core §3.1.2.1 (5)")
def test_an_old_sign_in_does_not_pass_for_a_new_one(client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    someone.sign_in(ago=5)
    asked = someone.open(attempt.url(prompt="login"))
    again = someone.go_on(asked.headers["location"])
    assert "/sign-in?i=" in again.headers["location"]
    someone.sign_in(someone.user)
    assert "code" in sent_back(someone.go_on(asked.headers["location"]))


def test_consent_of_one_user_is_not_consent_of_another(server: Server, someone: Someone) -> None:
    asked_client = application(server, "two-people", first_party=False)
    asked = someone.open(Attempt(asked_client.client_id).url())
    location = asked.headers["location"]
    someone.agree(location, Decision.ALLOWED)
    someone.sign_in(person(server))
    assert "/consent?i=" in someone.go_on(location).headers["location"]


# ---- pushed requests (RFC 9126 §7)


def push(http: httpx.Client, client: CreatedClient, **parameters: str) -> httpx.Response:
    return http.post("/oauth2/par", data=parameters, headers=credentials(client))


def by_reference(client: CreatedClient, uri: str, **more: str) -> str:
    return "/oauth2/authorize?" + urlencode({"client_id": client.client_id, "request_uri": uri, **more})


@pytest.mark.standard("RFC 9126 §2.2 (1)", "RFC 9126 §2.2 (3)", "RFC 9126 §4 (2)", "FAPI 2.0 §5.3.2.2 (12)")
def test_a_pushed_request_is_answered_once(outside: httpx.Client, client: CreatedClient, someone: Someone) -> None:
    attempt = Attempt(client.client_id)
    pushed = push(outside, client, **attempt.parameters())
    assert pushed.status_code == 201, pushed.text
    uri = pushed.json()["request_uri"]
    assert uri.startswith("urn:ietf:params:oauth:request_uri:")
    assert 5 <= pushed.json()["expires_in"] < 600
    code = code_of(someone.open(by_reference(client, uri)))
    kept_from_client(someone.open(by_reference(client, uri)))
    assert attempt.redeem(outside, client, code).status_code == 200


@pytest.mark.standard("RFC 9126 §2.2 (2)", "RFC 9126 §4 (1)")
def test_another_client_cannot_use_a_pushed_request(
    outside: httpx.Client, client: CreatedClient, other: CreatedClient, someone: Someone
) -> None:
    uri = push(outside, client, **Attempt(client.client_id).parameters()).json()["request_uri"]
    kept_from_client(someone.open(by_reference(other, uri)))
    assert "code" in sent_back(someone.open(by_reference(client, uri)))


def test_what_stands_beside_a_request_uri_does_not_count(
    outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    attempt = Attempt(client.client_id)
    uri = push(outside, client, **attempt.parameters()).json()["request_uri"]
    more = {
        "redirect_uri": "https://evil.example/cb",
        "state": "other",
        "code_challenge": "x" * 43,
        "scope": "orders:write",
    }
    back = sent_back(someone.open(by_reference(client, uri, **more)))
    assert back["state"] == attempt.state
    assert attempt.redeem(outside, client, back["code"]).json()["scope"] == "openid orders:read"


@pytest.mark.standard("RFC 9101 §5.2 (1)", "RFC 9101 §6.1 (1)", "OIDC Core §6.1 (1)")
def test_a_request_uri_is_never_fetched(client: CreatedClient, someone: Someone) -> None:
    for uri in (
        "https://evil.example/request",
        "urn:ietf:params:oauth:request_uri:" + "x" * 43,
        "urn:x",
        "file:///etc",
    ):
        kept_from_client(someone.open(by_reference(client, uri)))
    back = sent_back(someone.open(Attempt(client.client_id).url(request="eyJhbGciOiJub25lIn0.e30.")))
    assert back["error"] == "request_not_supported"


@pytest.mark.standard("RFC 9126 §2.1 (2)")
def test_a_pushed_request_cannot_point_on(outside: httpx.Client, client: CreatedClient) -> None:
    parameters = Attempt(client.client_id).parameters(request_uri="urn:ietf:params:oauth:request_uri:x")
    refused(push(outside, client, **parameters), "invalid_request")
    refused(push(outside, client, **Attempt(client.client_id).parameters(request="x.y.z")), "request_not_supported")


@pytest.mark.standard("RFC 9126 §2.1 (1)", "RFC 9126 §2.1 (3)", "RFC 9126 §7.3 (1)")
def test_pushing_needs_the_client_itself(outside: httpx.Client, client: CreatedClient, other: CreatedClient) -> None:
    parameters = Attempt(client.client_id).parameters()
    assert outside.post("/oauth2/par", data=parameters).status_code == 401
    refused(push(outside, other, **parameters), "invalid_request")
    refused(
        push(outside, client, **Attempt(client.client_id).parameters(redirect_uri="https://evil.example/")),
        "invalid_request",
    )


@pytest.mark.standard("RFC 9126 §2 (1)", "RFC 9126 §2.3 (1)")
def test_requests_are_pushed_by_post_alone(outside: httpx.Client, client: CreatedClient) -> None:
    answer = outside.get("/oauth2/par", params=Attempt(client.client_id).parameters(), headers=credentials(client))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.standard("RFC 9126 §5 (1)")
def test_a_client_that_pushes_cannot_be_asked_without(server: Server, outside: httpx.Client, someone: Someone) -> None:
    strict = application(server, "must-push", require_pushed_authorization_requests=True)
    attempt = Attempt(strict.client_id)
    assert sent_back(someone.open(attempt.url()))["error"] == "invalid_request"
    uri = push(outside, strict, **attempt.parameters()).json()["request_uri"]
    assert "code" in sent_back(someone.open(by_reference(strict, uri)))


def test_a_refused_pushed_request_is_spent_too(outside: httpx.Client, client: CreatedClient, someone: Someone) -> None:
    uri = push(outside, client, **Attempt(client.client_id).parameters(prompt="none", acr_values="phr")).json()[
        "request_uri"
    ]
    assert sent_back(someone.open(by_reference(client, uri)))["error"] == "interaction_required"
    kept_from_client(someone.open(by_reference(client, uri)))


# ---- dpop_jkt (RFC 9449 §10)


@pytest.mark.standard("RFC 9449 §10 (1)")
def test_a_code_bound_to_a_key_is_worth_nothing_without_it(
    outside: httpx.Client, public: CreatedClient, someone: Someone
) -> None:
    key, thief = DpopKey(), DpopKey()
    attempt = Attempt(public.client_id)
    code = code_of(someone.open(attempt.url(dpop_jkt=key.jkt)))
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": attempt.verifier,
        "client_id": public.client_id,
    }
    refused(outside.post("/oauth2/token", data=form))
    refused(thief.post(outside, "/oauth2/token", **form))
    answer = key.post(outside, "/oauth2/token", **form)
    assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP")
    for jkt in ("x", key.jkt + "x", key.jkt[:-1] + "+"):
        assert sent_back(someone.open(attempt.url(dpop_jkt=jkt)))["error"] == "invalid_request"


@pytest.mark.standard("RFC 9449 §10.1 (1)")
def test_a_pushed_proof_binds_the_code(outside: httpx.Client, client: CreatedClient, someone: Someone) -> None:
    key = DpopKey()
    attempt = Attempt(client.client_id)
    pushed = key.post(outside, "/oauth2/par", credentials(client), **attempt.parameters())
    assert pushed.status_code == 201, pushed.text
    code = code_of(someone.open(by_reference(client, pushed.json()["request_uri"])))
    refused(attempt.redeem(outside, client, code))
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": attempt.verifier,
        "redirect_uri": CALLBACK,
    }
    assert key.post(outside, "/oauth2/token", credentials(client), **form).status_code == 200
    other = attempt.parameters(dpop_jkt=DpopKey().jkt)
    refused(key.post(outside, "/oauth2/par", credentials(client), **other), "invalid_request")


# ---- host-header poisoning


HOSTS = ("evil.example", "evil.example:443", "localhost.evil.example", "localhost@evil.example")
FORWARDED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "https://evil.example/",
    "X-Rewrite-URL": "/evil",
    "Forwarded": "host=evil.example;proto=http",
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_poisoned_host_header_reaches_no_url(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone, host: str
) -> None:
    asked = application(server, f"poisoned-{HOSTS.index(host)}", first_party=False)
    headers = {"Host": host, **FORWARDED}
    attempt = Attempt(client.client_id)
    tokens = attempt.redeem(outside, client, code_of(someone.open(attempt.url())), headers=headers)
    answers = [
        tokens,
        outside.get("/.well-known/openid-configuration", headers=headers),
        someone.http.get(attempt.url(), headers=headers, follow_redirects=False),
        someone.http.get(attempt.url(response_mode="form_post"), headers=headers),
        someone.http.get(Attempt(asked.client_id).url(), headers=headers, follow_redirects=False),
        someone.http.post("/oauth2/authorize", data=attempt.parameters(), headers=headers, follow_redirects=False),
        someone.http.get("/oauth2/logout", headers=headers, follow_redirects=False),
        outside.post("/oauth2/par", data=attempt.parameters(), headers=credentials(client) | headers),
        outside.get("/oauth2/userinfo", headers=headers),
    ]
    for answer in answers:
        everything = answer.text + json.dumps(dict(answer.headers))
        assert "evil" not in everything
    assert tokens.json()["id_token"]


# ---- floods


def test_filling_the_database_with_requests_that_nobody_answers(make_server: Callable[..., Server]) -> None:
    server = make_server().start()
    client = application(server, "flooded")
    with server.outside() as http:
        stranger, signed_in = Someone(server, http), Someone(server, http)
        url = Attempt(client.client_id).url()
        begun = sum(at_once(8, lambda _: _begin_until_refused(server, url)))
        assert 300 <= begun < 2_000
        answer = stranger.open(url)
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        signed_in.sign_in()
        assert "code" in sent_back(signed_in.open(url))
    with server.storage() as storage, storage.read() as connection:
        assert connection.execute(select(func.count()).select_from(interactions)).scalar_one() == begun


def _begin_until_refused(server: Server, url: str) -> int:
    begun = 0
    with server.outside() as http:
        while http.get(url, follow_redirects=False).status_code == 303 and begun < 2_000:
            begun += 1
            http.cookies.clear()
    return begun
