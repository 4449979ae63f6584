"""npm `openid-client`, a certified relying party, goes through every flow that it knows, up to the API at the gate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from judge_node import Program
from judge_rp import Rp
from judge_stand import free_port, jwks_file, key_pair

if TYPE_CHECKING:
    from pathlib import Path

    from judge_person import Person
    from judge_stand import Stand

CALLBACK = "https://client.example/callback"
SIGNED_OUT = "https://client.example/signed-out"
ALL_SCOPES = "openid profile email offline_access orders:read"


def stand_for(stand: Stand, client: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a program is told."""
    known = {name: client[name] for name in ("client_id", "client_secret") if name in client}
    return {
        "issuer": stand.issuer,
        "auth": client["auth_method"],
        "api": stand.api,
        "ca": stand.stack.ca,
        "redirect_uri": CALLBACK,
        "scope": ALL_SCOPES,
        **known,
        **more,
    }


def sign_in(stand: Stand, person: Person, asked: dict[str, Any]) -> dict[str, Any]:
    """Run `sign_in.mjs` with this person at the browser."""

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "leave" in question:
            return {"callback": person.visit(question["leave"], SIGNED_OUT).url}
        return {"callback": person.visit(question["visit"], asked["redirect_uri"]).url}

    return Program("sign_in", stand.stack.ca, answer).result(asked)


def machine(stand: Stand, asked: dict[str, Any]) -> dict[str, Any]:
    return Program("machine", stand.stack.ca, lambda _: {}).result(asked)


# Programs that act for themselves


def test_client_credentials_by_secret_reach_the_api(stand: Stand) -> None:
    client = stand.client("machine", scopes=("orders:read",))
    result = machine(stand, stand_for(stand, client, scope="orders:read", oauth2=True))
    assert result["token_type"] == "bearer"
    assert result["scope"] == "orders:read"
    assert result["api"]["status"] == 200


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
def test_client_credentials_by_private_key_and_dpop_reach_the_api(stand: Stand, tmp_path: Path, algorithm: str) -> None:
    key = key_pair(algorithm)
    client = stand.client("machine", "--jwks", str(jwks_file(tmp_path, key)), "--dpop-bound", scopes=("orders:read",))
    asked = stand_for(stand, client, key=key.as_dict(private=True), dpop=True, scope="orders:read", oauth2=True)
    result = machine(stand, asked)
    assert result["token_type"] == "dpop"
    assert result["api"]["status"] == 200


# People who sign in


@pytest.mark.standard(
    "RFC 6749 §4.1.2 (3)", "RFC 7009 §2 (1)", "RFC 7009 §2.1 (2)", "OIDC Core §3.1.3.3 (1)", "OIDC Logout §3 (2)",
    "RFC 6749 §10.3 (1)", "RFC 8414 §2 (3)", "OIDC Core §10.1 (1)", "RFC 9700 §4.4.2 (1)",
)  # fmt: skip
def test_code_flow_by_secret_from_sign_in_to_sign_out(stand: Stand) -> None:
    client = stand.web_client(CALLBACK, "--post-logout-redirect-uri", SIGNED_OUT)
    asked = stand_for(stand, client, post_logout_redirect_uri=SIGNED_OUT, revoke=True)
    with stand.person() as person:
        result = sign_in(stand, person, asked)
    assert result["token_type"] == "bearer"
    assert result["claims"]["sub"] == result["userinfo"]["sub"]
    assert result["userinfo"]["email"] == f"{person.username}@example.com"
    assert result["api"]["status"] == 200
    assert result["refreshed"]["rotated"] is True
    assert result["refreshed"]["api"]["status"] == 200
    assert result["refreshed"]["sub"] in (None, result["claims"]["sub"])
    assert result["after_revocation"]["error"] == "invalid_grant"
    assert result["signed_out"] == f"{SIGNED_OUT}?state=bye"


@pytest.mark.standard("RFC 9126 §2 (1)", "RFC 9126 §2.1 (1)", "RFC 9126 §2.2 (1)", "OIDC Core §9 (1)",
                      "RFC 9449 §8 (1)", "RFC 9449 §8.2 (1)", "RFC 9449 §10.1 (1)")  # fmt: skip
def test_pushed_request_by_private_key_with_dpop(stand: Stand, tmp_path: Path) -> None:
    key = key_pair()
    options = ("--jwks", str(jwks_file(tmp_path, key)), "--dpop-bound", "--require-par")
    client = stand.web_client(CALLBACK, *options)
    asked = stand_for(stand, client, key=key.as_dict(private=True), dpop=True, par=True, revoke=True)
    with stand.person() as person:
        result = sign_in(stand, person, asked)
    assert result["token_type"] == "dpop"
    assert result["api"]["status"] == 200
    assert result["userinfo"]["sub"] == result["claims"]["sub"]
    assert result["refreshed"]["api"]["status"] == 200
    assert result["after_revocation"]["error"] == "invalid_grant"


@pytest.mark.standard("RFC 8705 §2.1 (1)", "RFC 8705 §3 (1)", "RFC 8705 §3.1 (1)", "RFC 8705 §5 (1)")
def test_code_flow_by_certificate_with_bound_tokens(stand: Stand) -> None:
    certificate = stand.ca.certify("web.client.example")
    client = stand.web_client(CALLBACK, "--san-dns", "web.client.example", "--certificate-bound")
    shown = {"certificate": str(certificate.certificate), "certificate_key": str(certificate.key)}
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, par=True, **shown))
    assert result["token_type"] == "bearer"
    assert result["api"]["status"] == 200
    assert result["userinfo"]["sub"] == result["claims"]["sub"]
    assert result["refreshed"]["api"]["status"] == 200


@pytest.mark.standard("RFC 8705 §2.2 (1)")
def test_code_flow_by_self_signed_certificate(stand: Stand) -> None:
    certificate = stand.ca.self_signed("self.client.example")
    client = stand.web_client(CALLBACK, "--certificate", str(certificate.certificate), "--certificate-bound")
    shown = {"certificate": str(certificate.certificate), "certificate_key": str(certificate.key)}
    # The listener looks for newly registered certificates once a second.
    time.sleep(4)
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, api=None, **shown))
    assert result["userinfo"]["sub"] == result["claims"]["sub"]
    assert result["refreshed"]["rotated"] is True


@pytest.mark.standard("RFC 8252 §7.3 (1)", "RFC 8252 §8.1 (1)", "RFC 8252 §8.5 (1)", "OAuth 2.1 §4.3.1 (1)")
def test_native_app_on_whatever_loopback_port_it_got(stand: Stand) -> None:
    native = ("--native", "--grant", "authorization_code", "--grant", "refresh_token")
    client = stand.client("native", *native, "--redirect-uri", "http://127.0.0.1/callback")
    here = f"http://127.0.0.1:{free_port()}/callback"
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, redirect_uri=here))
    assert result["api"]["status"] == 200
    assert result["refreshed"]["rotated"] is True


@pytest.mark.standard("RFC 8707 §2 (3)", "RFC 8707 §2.1 (1)", "RFC 8707 §2.2 (1)")
def test_resource_indicator_names_the_audience(stand: Stand) -> None:
    client = stand.web_client(CALLBACK)
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, parameters={"resource": stand.audience}))
    assert result["api"]["status"] == 200


@pytest.mark.standard("OIDC Core §3.1.2.1 (2)")
def test_plain_oauth_gives_no_id_token(stand: Stand) -> None:
    client = stand.web_client(CALLBACK)
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, oauth2=True, scope="orders:read"))
    assert result.get("claims") is None
    assert result["api"]["status"] == 200


@pytest.mark.standard("OIDC Core §3.1.2.1 (7)")
def test_max_age_is_held_as_the_library_checks_it(stand: Stand) -> None:
    client = stand.web_client(CALLBACK)
    with stand.person() as person:
        result = sign_in(stand, person, stand_for(stand, client, parameters={"max_age": "300"}))
    assert result["claims"]["auth_time"] > 0


# Devices


@pytest.mark.standard("RFC 8628 §3.1 (1)", "RFC 8628 §3.2 (1)", "RFC 8628 §3.3 (1)", "RFC 8628 §3.5 (1)")
def test_device_grant_with_a_person_elsewhere(stand: Stand) -> None:
    options = ("--public", "--grant", "device_code", "--grant", "refresh_token")
    client = stand.client("television", *options)
    with stand.person() as person:

        def answer(question: dict[str, Any]) -> dict[str, Any]:
            shown = question["device"]
            page = person.allow_device(shown["verification_uri"], shown["user_code"])
            assert page.status_code == 200
            return {}

        program = Program("device", stand.stack.ca, answer)
        result = program.result(stand_for(stand, client, scope="openid orders:read"))
    assert result["api"]["status"] == 200
    assert result["claims"]["sub"].startswith("u_")


# Exchange, introspection, revocation, registration


@pytest.mark.standard(
    "RFC 7662 §2.1 (1)", "RFC 7662 §2.1 (2)", "RFC 7662 §2.2 (1)", "RFC 7662 §2.2 (2)", "RFC 7009 §2 (1)"
)
def test_introspection_and_revocation_that_the_gate_hears_of(stand: Stand) -> None:
    client = stand.client("middle", "--introspect", stand.audience, scopes=("orders:read",))
    asked = stand_for(stand, client, scope="orders:read", oauth2=True, introspect=True, revoke=True)
    result = machine(stand, asked)
    assert result["introspection"]["active"] is True
    assert result["introspection"]["scope"] == "orders:read"
    assert result["api"]["status"] == 200
    assert result["introspection_after"] == {"active": False}
    deadline = time.monotonic() + 1
    while refused_by_gate(stand, result["token"]) is None:
        assert time.monotonic() < deadline, "a revoked token still opens the gate after a second"


@pytest.mark.standard(
    "RFC 8693 §2.1 (1)", "RFC 8693 §2.2.1 (1)", "RFC 8693 §1.1 (1)", "RFC 8693 §4.1 (1)", "RFC 8693 §2 (1)"
)
def test_exchange_of_a_persons_token_by_the_service_that_got_it(stand: Stand) -> None:
    front = Rp(stand, stand.web_client(CALLBACK), CALLBACK, scope="orders:read orders:write")
    with stand.person() as person:
        token = front.sign_in(person)["access_token"]
    options = ("--grant", "client_credentials", "--grant", "token_exchange", "--exchange", stand.audience)
    may = (*options, "--introspect", stand.audience)
    middle = stand.client("middle", *may, scopes=("orders:read", "orders:write"))
    asked = stand_for(
        stand, middle, scope="orders:read", oauth2=True, introspect=True, subject_token=token,
        exchange={"scope": "orders:read", "audience": stand.audience},
    )  # fmt: skip
    exchanged = machine(stand, asked)["exchanged"]
    assert exchanged["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert exchanged["introspection"]["scope"] == "orders:read"
    assert exchanged["introspection"]["sub"].startswith("u_")
    assert exchanged["introspection"]["act"]["sub"] == middle["client_id"]
    assert exchanged["api"]["status"] == 200


def refused_by_gate(stand: Stand, token: str) -> int | None:
    with stand.stack.http() as http:
        status = http.get("/orders", headers={"Authorization": f"Bearer {token}"}).status_code
    return None if status == 200 else status


@pytest.mark.standard("RFC 7591 §2 (1)", "RFC 7591 §3 (1)", "RFC 7591 §3.1 (1)", "RFC 7591 §3.2.1 (1)",
                      "RFC 7592 §2 (1)", "RFC 7592 §2.1 (1)", "RFC 7592 §2.3 (1)", "RFC 7592 §3 (1)")  # fmt: skip
def test_dynamic_registration_behind_an_initial_access_token(stand: Stand) -> None:
    metadata = {
        "client_name": "Registered",
        "grant_types": ["client_credentials"],
        "response_types": [],
        "scope": "orders:read",
        "token_endpoint_auth_method": "client_secret_basic",
        "something_unknown": "is ignored",
    }
    asked = {
        "issuer": stand.issuer, "api": stand.api, "scope": "orders:read", "metadata": metadata,
        "initial_access_token": stand.initial_access_token(),
    }  # fmt: skip
    result = Program("register", stand.stack.ca, lambda _: {}).result(asked)
    assert result["has_secret"] is True
    assert "something_unknown" not in result["registered"]
    assert result["api"]["status"] == 200
    assert result["read"]["status"] == 200
    assert result["read"]["body"]["client_id"] == result["registered"]["client_id"]
    assert result["gone"] == 204
    assert result["after"]["error"] == "invalid_client"
