"""Authlib, requests-oauthlib and oauthlib as clients: what many Python programs speak OAuth with."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import oauthlib.oauth2
import pytest
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from judge_rp import s256, unverified
from judge_stand import free_port, jwks_file, key_pair
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

with warnings.catch_warnings():
    # It says that httpx will be followed by another; that is its authors' affair.
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import OAuth2Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from judge_stand import Stand

CALLBACK = "https://python.example/callback"
SCOPE = "openid offline_access orders:read"


@pytest.fixture
def metadata(stand: Stand) -> dict[str, Any]:
    return stand.metadata()


def reaches_the_api(stand: Stand, token: str) -> bool:
    with stand.stack.http() as http:
        return http.get("/orders", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def visit(stand: Stand, url: str, back_at: str = CALLBACK) -> str:
    """Somebody signs in and allows; where the browser came back."""
    with stand.person() as person:
        return person.visit(url, back_at).url


# Authlib


@pytest.fixture
def authlib_client(stand: Stand) -> Iterator[Any]:
    """Makes clients that are closed at the end."""
    made: list[OAuth2Client] = []

    def make(client: dict[str, Any], **options: Any) -> OAuth2Client:
        known = {"client_id": client["client_id"], "client_secret": client.get("client_secret")}
        made.append(OAuth2Client(**known, verify=stand.stack.tls, trust_env=False, timeout=20, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.standard("RFC 7636 §4.2 (1)", "RFC 7636 §4.6 (1)", "RFC 6749 §2.3.1 (1)", "RFC 7009 §2 (1)")
def test_authlib_code_flow_refresh_and_revocation(stand: Stand, metadata: dict[str, Any], authlib_client: Any) -> None:
    session = authlib_client(
        stand.web_client(CALLBACK),
        scope=SCOPE,
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic",
        revocation_endpoint_auth_method="client_secret_basic",
    )
    verifier = "v" * 64
    url, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
    token = session.fetch_token(
        metadata["token_endpoint"],
        authorization_response=visit(stand, url),
        state=state,
        code_verifier=verifier,
    )
    assert reaches_the_api(stand, token["access_token"])
    assert session.get(metadata["userinfo_endpoint"]).json()["sub"] == unverified(token["id_token"])["sub"]
    refreshed = session.refresh_token(metadata["token_endpoint"], refresh_token=token["refresh_token"])
    assert refreshed["refresh_token"] != token["refresh_token"]
    assert reaches_the_api(stand, refreshed["access_token"])
    assert session.revoke_token(metadata["revocation_endpoint"], refreshed["refresh_token"]).status_code == 200
    assert session.get(metadata["userinfo_endpoint"]).status_code == 401


@pytest.mark.standard("RFC 7523 §2.2 (1)", "RFC 7523 §3 (1)", "RFC 7523 §3 (2)", "RFC 6749 §4.4.3 (1)")
@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
def test_authlib_client_credentials_by_private_key(
    stand: Stand, metadata: dict[str, Any], authlib_client: Any, tmp_path: Path, algorithm: str
) -> None:
    key = key_pair(algorithm)
    client = stand.client("authlib", "--jwks", str(jwks_file(tmp_path, key)), scopes=("orders:read",))
    session = authlib_client(client | {"client_secret": key}, token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(
        PrivateKeyJWT(metadata["token_endpoint"], alg=algorithm, headers={"kid": key.kid})
    )
    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", scope="orders:read")
    assert reaches_the_api(stand, token["access_token"])
    assert "refresh_token" not in token


@pytest.mark.standard("RFC 7662 §2.1 (1)", "RFC 7662 §2.2 (1)", "RFC 7662 §2.2 (2)", "RFC 7009 §2 (1)",
                      "RFC 7009 §2.1 (3)")  # fmt: skip
def test_authlib_introspection_and_revocation(stand: Stand, metadata: dict[str, Any], authlib_client: Any) -> None:
    client = stand.client("authlib", "--introspect", stand.audience, scopes=("orders:read",))
    session = authlib_client(client, token_endpoint_auth_method="client_secret_basic")
    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")["access_token"]
    known = session.introspect_token(metadata["introspection_endpoint"], token=token).json()
    assert known["active"] is True
    assert known["client_id"] == client["client_id"]
    assert known["scope"] == "orders:read"
    # A wrong hint must not keep it from being found.
    gone = session.revoke_token(metadata["revocation_endpoint"], token=token, token_type_hint="refresh_token")
    assert gone.status_code == 200
    assert session.introspect_token(metadata["introspection_endpoint"], token=token).json() == {"active": False}


# requests-oauthlib


@pytest.mark.standard("RFC 6749 §4.1.2 (4)", "RFC 6749 §6 (1)")
def test_requests_oauthlib_code_flow_and_refresh(stand: Stand, metadata: dict[str, Any]) -> None:
    client = stand.web_client(CALLBACK)
    with OAuth2Session(client["client_id"], redirect_uri=CALLBACK, scope=SCOPE.split(), pkce="S256") as session:
        session.verify, session.trust_env = stand.stack.ca, False
        url, _ = session.authorization_url(metadata["authorization_endpoint"])
        secret = client["client_secret"]
        token = session.fetch_token(
            metadata["token_endpoint"], authorization_response=visit(stand, url), client_secret=secret
        )
        assert reaches_the_api(stand, token["access_token"])
        assert session.get(metadata["userinfo_endpoint"]).json()["sub"] == unverified(token["id_token"])["sub"]
        basic = HTTPBasicAuth(client["client_id"], secret)
        refreshed = session.refresh_token(metadata["token_endpoint"], auth=basic)
        assert refreshed["refresh_token"] != token["refresh_token"]
        assert reaches_the_api(stand, refreshed["access_token"])


@pytest.mark.standard("RFC 6749 §4.4 (1)", "RFC 6749 §2.3.1 (1)")
def test_requests_oauthlib_client_credentials(stand: Stand, metadata: dict[str, Any]) -> None:
    client = stand.client("requests", scopes=("orders:read",))
    backend = oauthlib.oauth2.BackendApplicationClient(client["client_id"])
    with OAuth2Session(client=backend) as session:
        session.verify, session.trust_env = stand.stack.ca, False
        token = session.fetch_token(
            metadata["token_endpoint"], auth=HTTPBasicAuth(client["client_id"], client["client_secret"])
        )
        assert session.get(stand.api).status_code == 200
    assert token["scope"] == ["orders:read"]


# oauthlib, which makes and reads messages and leaves the sending to others


def send(http: httpx.Client, url: str, body: str, **options: Any) -> httpx.Response:
    return http.post(url, data=dict(parse_qsl(body)), **options)


@pytest.mark.standard("RFC 8252 §7.3 (1)", "RFC 8252 §8.4 (1)")
def test_oauthlib_web_application_client_as_a_native_app(stand: Stand, metadata: dict[str, Any]) -> None:
    options = ("--native", "--grant", "authorization_code", "--grant", "refresh_token")
    client = stand.client("oauthlib", *options, "--redirect-uri", "http://127.0.0.1/callback")
    here = f"http://127.0.0.1:{free_port()}/callback"
    app = oauthlib.oauth2.WebApplicationClient(client["client_id"])
    verifier = app.create_code_verifier(64)
    url = app.prepare_request_uri(
        metadata["authorization_endpoint"], redirect_uri=here, scope=SCOPE, state="s-1",
        code_challenge=s256(verifier), code_challenge_method="S256",
    )  # fmt: skip
    # The library insists on https; that this answer went to the loopback interface it cannot know.
    arrived = visit(stand, url, here).replace("http://", "https://")
    code = app.parse_request_uri_response(arrived, state="s-1")["code"]
    body = app.prepare_request_body(code=code, redirect_uri=here, code_verifier=verifier)
    with stand.http() as http:
        token = app.parse_request_body_response(send(http, metadata["token_endpoint"], body).text)
        assert reaches_the_api(stand, token["access_token"])
        body = app.prepare_refresh_body(refresh_token=token["refresh_token"], client_id=client["client_id"])
        again = app.parse_request_body_response(send(http, metadata["token_endpoint"], body).text)
    assert again["refresh_token"] != token["refresh_token"]
    assert reaches_the_api(stand, again["access_token"])


def test_oauthlib_backend_application_client(stand: Stand, metadata: dict[str, Any]) -> None:
    client = stand.client("oauthlib", scopes=("orders:read",))
    app = oauthlib.oauth2.BackendApplicationClient(client["client_id"])
    body = app.prepare_request_body(scope=["orders:read"], include_client_id=False)
    with stand.http() as http:
        auth = (client["client_id"], client["client_secret"])
        token = app.parse_request_body_response(send(http, metadata["token_endpoint"], body, auth=auth).text)
    assert reaches_the_api(stand, token["access_token"])


@pytest.mark.standard("RFC 8628 §3.2 (1)", "RFC 8628 §3.3 (1)", "RFC 8628 §3.4 (1)", "RFC 8628 §3.5 (1)")
def test_oauthlib_device_client(stand: Stand, metadata: dict[str, Any]) -> None:
    client = stand.client("oauthlib", "--public", "--grant", "device_code")
    app = oauthlib.oauth2.DeviceClient(client["client_id"], scope=["orders:read"])
    with stand.http() as http:
        url, form = metadata["device_authorization_endpoint"], {"scope": "orders:read"}
        started = http.post(url, data={"client_id": client["client_id"], **form}).json()
        body = app.prepare_request_body(started["device_code"], include_client_id=True)
        early = send(http, metadata["token_endpoint"], body)
        assert (early.status_code, early.json()["error"]) == (400, "authorization_pending")
        with stand.person() as person:
            person.allow_device(started["verification_uri"], started["user_code"])
        time.sleep(started.get("interval", 5))
        token = app.parse_request_body_response(send(http, metadata["token_endpoint"], body).text)
        assert reaches_the_api(stand, token["access_token"])
        again = send(http, metadata["token_endpoint"], body)
        assert again.json()["error"] in ("invalid_grant", "expired_token")
