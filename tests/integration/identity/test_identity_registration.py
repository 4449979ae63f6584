"""Dynamic registration (RFC 7591, RFC 7592) behind an initial access token, and how it could be abused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from identity_support import AUDIENCE, basic, introspect, jwks_of, signing_key

from stockade.identity import admin
from stockade.identity.admin_registration import (
    create_initial_access_token,
    list_initial_access_tokens,
    revoke_initial_access_token,
)
from stockade.identity.audit import read
from stockade.identity.credentials import Kind, digest, generate, kind_of
from stockade.identity.errors import AdministrationError
from stockade.identity.storage.clients import find_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from identity_support import Server

    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates

GRANTS = ("authorization_code", "refresh_token", "client_credentials")
WEB = {"redirect_uris": ["https://app.example/cb"], "client_name": "App"}
MACHINE: dict[str, Any] = {"grant_types": ["client_credentials"], "scope": "orders:read"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
) -> Iterator[Server]:
    from identity_support import Server

    folder: Path = tmp_path_factory.mktemp("registration")
    changes = {"registration": "initial_access_token"}
    with Server(folder, internal_certificates, public_certificates, changes) as running:
        yield running


def initial(server: Server, scopes: tuple[str, ...] = ("orders:read",), uses: int = 1, **options: Any) -> str:
    with server.storage() as storage:
        made = create_initial_access_token(
            storage, "partner", scopes, options.pop("grants", GRANTS), uses=uses, **options
        )
    return made.initial_access_token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def register(http: httpx.Client, token: str, document: Any) -> httpx.Response:
    return http.post("/oauth2/register", json=document, headers=bearer(token))


def registered(server: Server, http: httpx.Client, document: Any, **options: Any) -> dict[str, Any]:
    answer = register(http, initial(server, **options), document)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def manage(http: httpx.Client, client: dict[str, Any], method: str, document: Any = None) -> httpx.Response:
    path = client["registration_client_uri"].removeprefix(str(http.base_url).rstrip("/"))
    return http.request(method, path, json=document, headers=bearer(client["registration_access_token"]))


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_a_client_registers_and_gets_tokens(server: Server, outside: httpx.Client, gateway: httpx.Client) -> None:
    client = registered(server, outside, MACHINE)
    assert kind_of(client["client_secret"]) is Kind.CLIENT_SECRET
    assert client["client_secret_expires_at"] == 0
    assert kind_of(client["registration_access_token"]) is Kind.REGISTRATION_ACCESS_TOKEN
    assert client["registration_client_uri"] == f"{server.issuer}/oauth2/register/{client['client_id']}"
    answer = outside.post(
        "/oauth2/token",
        data={"grant_type": "client_credentials"},
        headers=basic(client["client_id"], client["client_secret"]),
    )
    assert introspect(gateway, answer.json()["access_token"])["scope"] == "orders:read"


def test_what_is_left_out_has_the_defaults_of_the_rfc(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, {**WEB, "unheard_of": {"x": 1}, "tos_uri": None})
    assert client["token_endpoint_auth_method"] == "client_secret_basic"
    assert client["grant_types"] == ["authorization_code"]
    assert client["response_types"] == ["code"]
    assert client["redirect_uris"] == WEB["redirect_uris"]
    assert "unheard_of" not in client


def test_the_metadata_name_the_endpoint(server: Server, outside: httpx.Client) -> None:
    document = outside.get("/.well-known/oauth-authorization-server").json()
    assert document["registration_endpoint"] == f"{server.issuer}/oauth2/register"


def test_registration_is_audited(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, MACHINE)
    with server.storage() as storage, storage.read() as connection:
        events = [row.event for row in read(connection) if row.event.client_id == client["client_id"]]
    assert [event.kind for event in events] == ["client.created"]


def test_secrets_and_tokens_are_kept_as_digests(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, MACHINE)
    with server.storage() as storage, storage.read() as connection:
        found = find_client(connection, client["client_id"], 0)
    assert found is not None
    assert found.registration_digest == digest(client["registration_access_token"])
    assert client["registration_access_token"] not in repr(found)


# --- Who may register ---


@pytest.mark.parametrize(
    "token", ["", "x", generate(Kind.INITIAL_ACCESS_TOKEN), generate(Kind.ACCESS_TOKEN), "registration access token"]
)
def test_without_a_good_token_nothing_is_registered(server: Server, outside: httpx.Client, token: str) -> None:
    if token.startswith("registration"):
        token = registered(server, outside, MACHINE)["registration_access_token"]
    answer = outside.post("/oauth2/register", json=MACHINE, headers=bearer(token) if token else {})
    assert error_of(answer) == (401, "invalid_token")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_token_is_good_for_as_many_clients_as_it_says(server: Server, outside: httpx.Client) -> None:
    token = initial(server, uses=2)
    assert [register(outside, token, MACHINE).status_code for _ in range(3)] == [201, 201, 401]


def test_a_token_used_in_parallel_is_not_used_more_often(server: Server, outside: httpx.Client) -> None:
    token = initial(server, uses=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: register(outside, token, MACHINE).status_code, range(8)))
    assert sorted(answers) == [201] * 3 + [401] * 5


def test_a_refused_document_does_not_use_the_token_up(server: Server, outside: httpx.Client) -> None:
    token = initial(server)
    assert register(outside, token, {"scope": "admin"}).status_code == 400
    assert register(outside, token, MACHINE).status_code == 201


def test_an_expired_and_a_revoked_token_are_no_good(server: Server, outside: httpx.Client) -> None:
    from sqlalchemy import update

    from stockade.identity.storage.schema import initial_access_tokens

    expired, revoked = initial(server), initial(server)
    with server.storage() as storage:
        with storage.write() as connection:
            old = initial_access_tokens.c.digest == digest(expired)
            connection.execute(update(initial_access_tokens).where(old).values(expires_at=1))
        newest = next(one for one in list_initial_access_tokens(storage) if one.expires_at != 1 and one.uses_left == 1)
        for one in list_initial_access_tokens(storage):
            revoke_initial_access_token(storage, one.token_id)
        assert not revoke_initial_access_token(storage, newest.token_id)
    assert register(outside, expired, MACHINE).status_code == 401
    assert register(outside, revoked, MACHINE).status_code == 401


def test_registration_is_off_unless_it_is_switched_on(make_server: Any) -> None:
    with make_server() as closed, closed.outside() as http:
        token = initial(closed)
        assert register(http, token, MACHINE).status_code == 404
        assert http.get("/oauth2/register/c_x", headers=bearer(token)).status_code == 404
        assert "registration_endpoint" not in http.get("/.well-known/openid-configuration").json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"uses": 0},
        {"uses": 10**6},
        {"expires_in_seconds": 0},
        {"grants": ("password",)},
        {"scopes": ("a b",)},
    ],
    ids=str,
)
def test_an_initial_token_without_bounds_cannot_be_made(server: Server, wrong: dict[str, Any]) -> None:
    with pytest.raises(AdministrationError):
        initial(server, **wrong)


# --- What may be registered ---


@pytest.mark.parametrize(
    "document",
    [
        {**MACHINE, "scope": "orders:read orders:write"},
        {**MACHINE, "scope": "admin"},
        {**MACHINE, "scope": ["orders:read"]},
        {**MACHINE, "grant_types": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"]},
        {**MACHINE, "grant_types": ["password"]},
        {**MACHINE, "grant_types": ["implicit"], "response_types": ["token"]},
        {**MACHINE, "grant_types": "client_credentials"},
        {**MACHINE, "grant_types": ["client_credentials", "client_credentials"]},
        {**WEB, "response_types": ["code", "token"]},
        {**WEB, "response_types": ["code id_token"]},
    ],
    ids=str,
)
def test_a_client_cannot_register_itself_more_than_the_token_allows(
    server: Server, outside: httpx.Client, document: dict[str, Any]
) -> None:
    assert error_of(register(outside, initial(server), document)) == (400, "invalid_client_metadata")


def test_what_only_an_administrator_gives_is_not_taken(server: Server, outside: httpx.Client) -> None:
    """No skipped consent, no other party's tokens, no better origin than it has."""
    greedy = {
        "first_party": True,
        "introspection_audiences": [AUDIENCE],
        "exchange_audiences": [AUDIENCE],
        "registered_by": "admin",
        "client_id": "c_chosen",
        "client_secret": "chosen",
        "profile": "",
    }
    client = registered(server, outside, MACHINE | greedy)
    assert client["client_id"] != "c_chosen"
    assert client["client_secret"] != "chosen"
    with server.storage() as storage:
        known = admin.show_client(storage, client["client_id"]).metadata
    assert (known.first_party, known.introspection_audiences, known.exchange_audiences) == (False, (), ())
    assert known.registered_by == "dynamic"


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)//.x",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "http://app.example/cb",
        "https://app.example/cb#fragment",
        "https://*.example/cb",
        "https://user@app.example/cb",
        "https://app.example/cb\n",
        "https://app.example\\@evil.example/cb",
        "//app.example/cb",
        "/cb",
        "",
        "https:///cb",
        "http://127.0.0.1/cb",
        "http://localhost/cb",
        "com.example.app:/cb",
        "https://app.example/" + "a" * 3000,
    ],
)
def test_a_redirect_to_nowhere_good_is_refused(server: Server, outside: httpx.Client, uri: str) -> None:
    for member in ("redirect_uris", "post_logout_redirect_uris"):
        answer = register(outside, initial(server), {**WEB, member: [uri]})
        assert answer.status_code == 400
        assert answer.json()["error"] in ("invalid_redirect_uri", "invalid_client_metadata")


def test_an_application_on_a_device_has_loopback_and_app_schemes(server: Server, outside: httpx.Client) -> None:
    uris = ["http://127.0.0.1/cb", "http://[::1]/cb", "com.example.app:/cb"]
    native = {"redirect_uris": uris, "application_type": "native", "token_endpoint_auth_method": "none"}
    client = registered(server, outside, native)
    assert client["redirect_uris"] == uris
    assert "client_secret" not in client
    assert error_of(register(outside, initial(server), {**native, "redirect_uris": ["http://localhost/cb"]})) == (
        400,
        "invalid_redirect_uri",
    )


@pytest.mark.parametrize(
    "member", ["jwks_uri", "logo_uri", "sector_identifier_uri", "request_uris", "initiate_login_uri"]
)
@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/meta-data/", "https://localhost:8445/internal/health"])
def test_the_server_cannot_be_made_to_fetch_what_a_client_names(
    server: Server, outside: httpx.Client, member: str, url: str
) -> None:
    value: Any = [url] if member == "request_uris" else url
    answer = register(outside, initial(server), {**MACHINE, member: value})
    assert error_of(answer) == (400, "invalid_client_metadata")


def test_software_statements_are_refused_aloud(server: Server, outside: httpx.Client) -> None:
    document = {**MACHINE, "software_statement": "eyJhbGciOiJub25lIn0.e30."}
    assert error_of(register(outside, initial(server), document)) == (400, "invalid_software_statement")


@pytest.mark.parametrize(
    "document",
    [
        {**MACHINE, "token_endpoint_auth_method": "client_secret_post"},
        {**MACHINE, "token_endpoint_auth_method": "client_secret_jwt"},
        {**MACHINE, "token_endpoint_auth_method": "none"},
        {**MACHINE, "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "x.example"},
        {**MACHINE, "token_endpoint_auth_method": 7},
        {**MACHINE, "token_endpoint_auth_method": "private_key_jwt"},
        {**MACHINE, "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {**MACHINE, "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "AA"}]}},
        {**MACHINE, "token_endpoint_auth_method": "private_key_jwt", "jwks": "x"},
        {**MACHINE, "jwks": jwks_of(signing_key(kid="k"))},
        {**MACHINE, "redirect_uris": ["https://app.example/cb"]},
        {"grant_types": ["authorization_code"]},
        {"grant_types": ["refresh_token"], "response_types": []},
        {**WEB, "client_name": "Your Bank\u202e"},
        {**WEB, "client_name": "two\nlines"},
        {**WEB, "client_name": "x" * 300},
        {**WEB, "client_name": ["x"]},
        {**WEB, "client_uri": "javascript:alert(1)"},
        {**WEB, "tos_uri": "http://app.example"},
        {**WEB, "contacts": ["x"] * 17},
        {**WEB, "redirect_uris": [f"https://app.example/{n}" for n in range(17)]},
        {**WEB, "redirect_uris": "https://app.example/cb"},
        {**WEB, "default_max_age": -1},
        {**WEB, "require_auth_time": "yes"},
        {**WEB, "id_token_signed_response_alg": "none"},
        {**WEB, "id_token_signed_response_alg": "HS256"},
    ],
    ids=lambda document: json.dumps(document)[-60:],
)
def test_metadata_that_cannot_be_kept_is_refused(
    server: Server, outside: httpx.Client, document: dict[str, Any]
) -> None:
    assert error_of(register(outside, initial(server), document))[0] == 400


def test_a_private_key_sent_by_mistake_is_refused(server: Server, outside: httpx.Client) -> None:
    jwks = {"keys": [signing_key(kid="k").as_dict(private=True)]}
    document = {**MACHINE, "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks}
    assert error_of(register(outside, initial(server), document)) == (400, "invalid_client_metadata")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"{", 400),
        (b'{"scope":"a","scope":"b"}', 400),
        (b'{"default_max_age":NaN}', 400),
        (b"\xff", 400),
        (b'{"client_name":"\\ud800"}', 400),
        (b'{"\\udc00":1}', 400),
        (b"[" * 30_000, 400),
        (b'{"x":' * 6_000, 400),
        (b'{"client_name":"' + b"a" * 40_000 + b'"}', 413),
    ],
)
def test_huge_deep_and_broken_documents_are_refused(
    server: Server, outside: httpx.Client, body: bytes, status: int
) -> None:
    headers = {**bearer(initial(server)), "Content-Type": "application/json"}
    answer = outside.post("/oauth2/register", content=body, headers=headers)
    assert error_of(answer) == (status, "invalid_request")


def test_where_the_profile_is_fapi2_only_clients_that_keep_to_it_register(make_server: Any) -> None:
    key = jwks_of(signing_key(kid="k"))
    good = {
        **WEB,
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": key,
        "dpop_bound_access_tokens": True,
        "require_pushed_authorization_requests": True,
    }
    with make_server(profile="fapi2", registration="initial_access_token") as server, server.outside() as http:
        assert register(http, initial(server), good).status_code == 201
        for change in (
            {"token_endpoint_auth_method": "client_secret_basic", "jwks": None},
            {"dpop_bound_access_tokens": False},
            {"require_pushed_authorization_requests": False},
        ):
            answer = register(http, initial(server), good | change)
            assert error_of(answer) == (400, "invalid_client_metadata")


# --- Managing (RFC 7592) ---


def test_a_client_reads_itself_without_its_secret(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, WEB)
    answer = manage(outside, client, "GET")
    assert answer.status_code == 200
    assert "client_secret" not in answer.json()
    secret_parts = ("client_secret", "client_secret_expires_at")
    assert answer.json() == {name: value for name, value in client.items() if name not in secret_parts}
    assert answer.headers["cache-control"] == "no-store"


def test_replacing_a_client_gives_a_new_registration_token(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, WEB)
    document = {**WEB, "client_id": client["client_id"], "redirect_uris": ["https://app.example/other"]}
    answer = manage(outside, client, "PUT", document)
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed["redirect_uris"] == ["https://app.example/other"]
    assert changed["registration_access_token"] != client["registration_access_token"]
    assert manage(outside, client, "GET").status_code == 401
    assert manage(outside, changed, "GET").status_code == 200


def test_a_client_cannot_widen_itself_afterwards(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, {**WEB, "scope": "orders:read"}, scopes=("orders:read", "orders:write"))
    own = {"client_id": client["client_id"]}
    wider = [{"scope": "orders:read orders:write"}, {"grant_types": ["authorization_code", "client_credentials"]}]
    for change in wider:
        assert error_of(manage(outside, client, "PUT", WEB | own | change)) == (400, "invalid_client_metadata")
    assert manage(outside, client, "PUT", WEB | own | {"scope": ""}).json()["scope"] == ""


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": None},
        {"client_id": "c_other"},
        {"client_secret": "wrong"},
        {"registration_access_token": "x"},
        {"registration_client_uri": "https://evil.example"},
        {"client_secret_expires_at": 0},
        {"client_id_issued_at": 0},
    ],
    ids=str,
)
def test_what_is_not_the_clients_to_say_is_refused(
    server: Server, outside: httpx.Client, change: dict[str, Any]
) -> None:
    client = registered(server, outside, WEB)
    document = {**WEB, "client_id": client["client_id"], **change}
    assert error_of(manage(outside, client, "PUT", document)) == (400, "invalid_request")


def test_a_client_without_a_secret_gets_one_when_it_needs_one_and_loses_it_when_not(
    server: Server, outside: httpx.Client
) -> None:
    key = signing_key(kid="k")
    client = registered(server, outside, MACHINE)
    own = {"client_id": client["client_id"]}
    by_key = MACHINE | own | {"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks_of(key)}
    changed = manage(outside, client, "PUT", by_key).json()
    assert "client_secret" not in changed
    token_form = {"grant_type": "client_credentials"}
    old = basic(client["client_id"], client["client_secret"])
    assert outside.post("/oauth2/token", data=token_form, headers=old).status_code == 401
    again = manage(outside, changed, "PUT", MACHINE | own).json()
    new = basic(client["client_id"], again["client_secret"])
    assert outside.post("/oauth2/token", data=token_form, headers=new).status_code == 200
    assert outside.post("/oauth2/token", data=token_form, headers=old).status_code == 401


def test_a_deleted_client_and_all_its_tokens_are_dead(
    server: Server, outside: httpx.Client, gateway: httpx.Client
) -> None:
    client = registered(server, outside, MACHINE)
    headers = basic(client["client_id"], client["client_secret"])
    ask = {"grant_type": "client_credentials"}
    token = outside.post("/oauth2/token", data=ask, headers=headers).json()["access_token"]
    assert manage(outside, client, "DELETE").status_code == 204
    assert introspect(gateway, token) == {"active": False}
    assert outside.post("/oauth2/token", data=ask, headers=headers).status_code == 401
    assert manage(outside, client, "GET").status_code == 401
    assert manage(outside, client, "DELETE").status_code == 401
    with server.storage() as storage:
        admin.enable_client(storage, client["client_id"])
    assert manage(outside, client, "GET").status_code == 401


def test_one_client_cannot_manage_another(server: Server, outside: httpx.Client) -> None:
    mine, other = registered(server, outside, WEB), registered(server, outside, WEB)
    by_admin = server.client("by-admin")
    for victim in (other["client_id"], by_admin.client_id, "c_nobody", "c_%00", "x", "c_" + "a" * 100):
        for method in ("GET", "DELETE", "PUT"):
            forged = {**mine, "registration_client_uri": f"{server.issuer}/oauth2/register/{victim}"}
            answer = manage(outside, forged, method, {**WEB, "client_id": victim} if method == "PUT" else None)
            assert error_of(answer) == (401, "invalid_token")


def test_of_two_replacements_in_parallel_one_comes_first(server: Server, outside: httpx.Client) -> None:
    client = registered(server, outside, WEB)
    document = {**WEB, "client_id": client["client_id"]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: manage(outside, client, "PUT", document).status_code, range(4)))
    assert sorted(answers) == [200, 401, 401, 401]
