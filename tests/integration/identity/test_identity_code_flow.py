"""The authorization code flow, from the browser's first request to the tokens."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from code_support import CALLBACK, Attempt, Someone, application, code_of, person, sent_back
from identity_support import introspect

from stockade.identity.credentials import Kind, kind_of
from stockade.identity.interactions import Decision
from stockade.identity.jose import import_public_keys, parse, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return application(server, "code-flow")


@pytest.fixture(scope="module")
def third_party(server: Server) -> CreatedClient:
    return application(server, "code-flow-third-party", first_party=False)


@pytest.fixture
def someone(server: Server) -> Iterator[Someone]:
    with server.outside() as http:
        yield Someone(server, http)


@pytest.mark.standard(
    "RFC 6749 §3.1 (3)",
    "RFC 6749 §4.1.2 (4)",
    "RFC 6749 §5.1 (1)",
    "RFC 6749 §5.1 (2)",
    "RFC 7636 §4.2 (1)",
    "RFC 9207 §2 (2)",
    "RFC 9470 §6.1 (1)",
    "OIDC Core §2 (1)",
    "OIDC Core §2 (2)",
    "OIDC Core §2 (4)",
    "OIDC Core §3.1.3.3 (1)",
    "OIDC Core §3.1.3.6 (1)",
    "RFC 9700 §4.2.4 (1)",
)
def test_a_signed_in_user_is_sent_back_with_a_code_that_gives_tokens(
    outside: httpx.Client, gateway: httpx.Client, server: Server, client: CreatedClient, someone: Someone
) -> None:
    session = someone.sign_in(proofs=("pwd", "otp"))
    attempt = Attempt(client.client_id)
    answer = someone.open(attempt.url())
    back = sent_back(answer)
    assert set(back) == {"code", "state", "iss"}
    assert (back["state"], back["iss"]) == (attempt.state, server.issuer)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"

    issued = attempt.redeem(outside, client, back["code"])
    assert issued.status_code == 200, issued.text
    body = issued.json()
    assert kind_of(body["refresh_token"]) is Kind.REFRESH_TOKEN
    assert (body["token_type"], body["scope"]) == ("Bearer", "openid orders:read")

    seen = introspect(gateway, body["access_token"])
    assert (seen["active"], seen["sub"], seen["client_id"]) == (True, session.user.user_id, client.client_id)
    assert (seen["acr"], seen["sid"]) == ("mfa", session.session_id)

    token = parse(body["id_token"])
    verify(token, import_public_keys(outside.get("/oauth2/jwks").json()), ("ES256",))
    claims = token.claims
    assert (claims["iss"], claims["aud"], claims["sub"]) == (server.issuer, client.client_id, session.user.user_id)
    assert (claims["nonce"], claims["acr"], claims["sid"]) == (attempt.nonce, "mfa", session.session_id)
    assert claims["auth_time"] == session.auth_time
    assert set(claims["amr"]) == {"pwd", "otp", "mfa"}
    assert 0 < claims["exp"] - claims["iat"] <= 600
    half = sha256(body["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == urlsafe_b64encode(half).rstrip(b"=").decode()
    assert issued.headers["cache-control"] == "no-store"


@pytest.mark.standard("OIDC Core §3.1.2.3 (1)", "OIDC Core §3.1.2.4 (1)", "RFC 9700 §4.12 (1)")
def test_a_stranger_signs_in_agrees_and_is_sent_back(
    outside: httpx.Client, third_party: CreatedClient, someone: Someone, server: Server
) -> None:
    attempt = Attempt(third_party.client_id)
    first = someone.open(attempt.url())
    assert first.headers["location"].startswith(f"{server.issuer}/sign-in?i=")
    someone.sign_in()
    second = someone.go_on(first.headers["location"])
    assert second.headers["location"].startswith(f"{server.issuer}/consent?i=")
    answer = someone.decide(second.headers["location"], Decision.ALLOWED)
    assert attempt.redeem(outside, third_party, code_of(answer)).status_code == 200

    again = Attempt(third_party.client_id)
    assert "code" in sent_back(someone.open(again.url()))
    wider = someone.open(again.url(scope="openid orders:read orders:write"))
    assert wider.headers["location"].startswith(f"{server.issuer}/consent?i=")


def test_a_user_who_refuses_is_sent_back_with_access_denied(third_party: CreatedClient, someone: Someone) -> None:
    someone.sign_in()
    asked = someone.open(Attempt(third_party.client_id).url())
    back = sent_back(someone.decide(asked.headers["location"], Decision.REFUSED))
    assert back["error"] == "access_denied"
    over = someone.go_on(asked.headers["location"])
    assert (over.status_code, "location" in over.headers) == (400, False)


@pytest.mark.standard("RFC 6749 §10.12 (1)")
def test_an_interaction_belongs_to_the_browser_that_began_it(
    server: Server, third_party: CreatedClient, someone: Someone
) -> None:
    someone.sign_in()
    asked = someone.open(Attempt(third_party.client_id).url())
    with server.outside() as http:
        other = Someone(server, http)
        other.sign_in(person(server))
        answer = other.go_on(asked.headers["location"])
        assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.standard("OIDC Core §3.1.2.1 (1)")
def test_post_is_the_same_as_get(client: CreatedClient, someone: Someone) -> None:
    someone.sign_in()
    attempt = Attempt(client.client_id)
    first = someone.http.post("/oauth2/authorize", data=attempt.parameters(), follow_redirects=False)
    assert first.status_code == 303
    assert "code" in sent_back(someone.open(first.headers["location"]))


@pytest.mark.standard("RFC 9207 §2 (1)", "RFC 9700 §4.16 (1)", "RFC 6749 §10.13 (1)")
def test_form_post_sends_the_answer_in_a_form_without_inline_surprises(
    client: CreatedClient, someone: Someone, server: Server
) -> None:
    someone.sign_in()
    attempt = Attempt(client.client_id, state='"><script>alert(1)</script>')
    answer = someone.open(attempt.url(response_mode="form_post"))
    assert answer.status_code == 200
    assert "location" not in answer.headers
    assert "<script>alert" not in answer.text
    assert f'action="{CALLBACK}"' in answer.text
    assert 'name="code"' in answer.text
    assert f'name="iss" value="{server.issuer}"' in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "form-action https://app.example" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_secret_of_the_flow_reaches_the_log(
    server: Server, outside: httpx.Client, client: CreatedClient, someone: Someone
) -> None:
    someone.sign_in()
    attempt = Attempt(client.client_id)
    code = code_of(someone.open(attempt.url()))
    tokens = attempt.redeem(outside, client, code).json()
    attempt.redeem(outside, client, code)
    log = json.dumps(server.log_lines())
    for secret in (code, attempt.state, attempt.verifier, attempt.nonce, CALLBACK, *tokens.values()):
        if isinstance(secret, str) and len(secret) > 20:
            assert secret not in log
