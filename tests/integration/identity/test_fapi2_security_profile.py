"""FAPI 2.0 Security Profile (final), §5.3.2: what it requires of authorization servers, clause by clause.

The clause is in each test's name: `5_3_2_1` general requirements, `5_3_2_2` authorization code flow, `5_4`
cryptography. One server holds all of its clients to the profile; another serves one that is held to it by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from certificate_support import ask_with, dns, make_certificate, with_certificate
from code_support import CALLBACK, Attempt, Someone, code_of, sent_back
from dpop_support import DpopKey
from identity_support import Server, assertion, credentials, free_port, introspect, jwks_of, signing_key

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, generate, kind_of
from stockade.identity.errors import AdministrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joserfc.jwk import Key

    from stockade.identity.admin import CreatedClient
    from stockade.identity.certificates import DevelopmentCertificates, InternalCertificates

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SCOPES = ("orders:read", "openid", "offline_access")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    internal_certificates: InternalCertificates,
    public_certificates: DevelopmentCertificates,
) -> Iterator[Server]:
    authority = make_certificate(tmp_path_factory.mktemp("fapi-ca") / "ca.pem", "CN=FAPI CA", authority=True)
    port = free_port()
    changes: dict[str, Any] = {
        "profile": "fapi2",
        "mtls": {"address": f"127.0.0.1:{port}", "ca": str(authority.path)},
        "throttling": {"client_burst": 100_000, "address_burst": 100_000},
    }
    made = Server(tmp_path_factory.mktemp("fapi"), internal_certificates, public_certificates, changes)
    made.mtls_port = port
    made.authority = authority  # type: ignore[attr-defined]
    with made as running:
        yield running


@dataclass
class Fapi:
    """A client that keeps to the profile: `private_key_jwt`, DPoP, PAR."""

    server: Server
    http: httpx.Client
    client: CreatedClient
    key: Key
    dpop: DpopKey = field(default_factory=DpopKey)
    alg: str = "ES256"

    @property
    def client_id(self) -> str:
        return self.client.client_id

    def proof(self, **claims: Any) -> dict[str, str]:
        text = assertion(self.server, self.client_id, self.key, {"alg": self.alg}, **claims)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": text}

    def post(self, path: str, dpop: bool = True, claims: dict[str, Any] | None = None, **form: str) -> httpx.Response:
        """An assertion is good once, so each try has its own."""
        uri = self.server.issuer + path
        for _ in range(2):
            headers = {"DPoP": self.dpop.proof("POST", uri)} if dpop else {}
            answer = self.http.post(path, data={**self.proof(**(claims or {})), **form}, headers=headers)
            self.dpop.nonce = answer.headers.get("dpop-nonce", self.dpop.nonce)
            if answer.json().get("error") != "use_dpop_nonce":
                break
        return answer

    def push(self, attempt: Attempt, dpop: bool = False, **changes: str | None) -> httpx.Response:
        return self.post("/oauth2/par", dpop=dpop, **attempt.parameters(**changes))

    def code(self, attempt: Attempt, **changes: str | None) -> str:
        pushed = self.push(attempt, **changes)
        assert pushed.status_code == 201, pushed.text
        someone = Someone(self.server, self.http)
        someone.sign_in()
        return code_of(someone.open(self.url(pushed.json()["request_uri"])))

    def url(self, request_uri: str) -> str:
        return str(httpx.URL("/oauth2/authorize", params={"client_id": self.client_id, "request_uri": request_uri}))

    def redeem(self, attempt: Attempt, code: str, dpop: bool = True) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return self.post("/oauth2/token", dpop=dpop, code_verifier=attempt.verifier, **form)

    def ask(self, dpop: bool = True, claims: dict[str, Any] | None = None) -> httpx.Response:
        return self.post("/oauth2/token", dpop=dpop, claims=claims, grant_type="client_credentials")


def metadata(**changes: Any) -> ClientMetadata:
    described = {
        "grant_types": ("authorization_code", "refresh_token", "client_credentials"),
        "redirect_uris": (CALLBACK,),
        "first_party": True,
        "dpop_bound_access_tokens": True,
        "require_pushed_authorization_requests": True,
        **changes,
    }
    return ClientMetadata.model_validate(described)


def fapi_client(server: Server, http: httpx.Client, name: str, alg: str = "ES256", **changes: Any) -> Fapi:
    key = signing_key(alg, kid="k")
    client = server.client(name, SCOPES, auth_method="private_key_jwt", jwks=jwks_of(key), metadata=metadata(**changes))
    return Fapi(server, http, client, key, alg=alg)


@pytest.fixture(scope="module")
def shared(server: Server) -> CreatedClient:
    return server.client("shared", SCOPES, auth_method="private_key_jwt", jwks=jwks_of(KEY), metadata=metadata())


KEY = signing_key(kid="shared")


@pytest.fixture
def app(server: Server, outside: httpx.Client, shared: CreatedClient) -> Fapi:
    return Fapi(server, outside, shared, KEY)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# --- §5.3.2.1 General requirements ---


def test_5_3_2_1_1_discovery_metadata_are_distributed(server: Server, outside: httpx.Client) -> None:
    """OIDC Discovery and RFC 8414; and they announce the profile, no more."""
    document = outside.get("/.well-known/openid-configuration").json()
    assert document == outside.get("/.well-known/oauth-authorization-server").json()
    assert document["issuer"] == server.issuer
    assert document["require_pushed_authorization_requests"] is True
    methods = {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
    assert set(document["token_endpoint_auth_methods_supported"]) == methods
    assert "RS256" not in document["token_endpoint_auth_signing_alg_values_supported"]


@pytest.mark.parametrize("grant", ["password", "implicit"])
def test_5_3_2_1_2_the_password_grant_is_refused(app: Fapi, grant: str) -> None:
    answer = app.post("/oauth2/token", grant_type=grant, username="a", password="b")
    assert error_of(answer) == (400, "unsupported_grant_type")


@pytest.mark.parametrize("response_type", ["token", "code token", "code id_token", "id_token", "none"])
def test_5_3_2_1_2_implicit_and_hybrid_flows_are_refused(app: Fapi, response_type: str) -> None:
    answer = app.push(Attempt(app.client_id), response_type=response_type)
    assert error_of(answer) == (400, "unsupported_response_type")


def test_5_3_2_1_3_public_clients_are_refused(server: Server, outside: httpx.Client) -> None:
    public = server.client("public", SCOPES, auth_method="none", metadata=metadata(grant_types=("authorization_code",)))
    form = {"client_id": public.client_id, "grant_type": "authorization_code", "code": "x", "code_verifier": "y" * 43}
    assert error_of(outside.post("/oauth2/token", data=form)) == (401, "invalid_client")
    pushed = outside.post("/oauth2/par", data=Attempt(public.client_id).parameters())
    assert error_of(pushed) == (401, "invalid_client")


def test_5_3_2_1_4_only_sender_constrained_tokens_are_issued(app: Fapi) -> None:
    assert error_of(app.ask(dpop=False)) == (400, "invalid_request")
    attempt = Attempt(app.client_id)
    assert error_of(app.redeem(attempt, app.code(attempt), dpop=False)) == (400, "invalid_request")


def test_5_3_2_1_5_tokens_are_constrained_by_dpop(app: Fapi, gateway: httpx.Client) -> None:
    body = app.ask().json()
    assert body["token_type"] == "DPoP"
    assert introspect(gateway, body["access_token"])["cnf"] == {"jkt": app.dpop.jkt}


def test_5_3_2_1_5_tokens_are_constrained_by_mutual_tls(server: Server, gateway: httpx.Client, tmp_path: Any) -> None:
    """Without a word in the registration: the profile leaves no other."""
    certificate = make_certificate(tmp_path / "c.pem", "CN=x", server.authority, dns("fapi.example"))  # type: ignore[attr-defined]
    client = server.client(
        "by-certificate",
        ("orders:read",),
        auth_method="tls_client_auth",
        metadata=ClientMetadata(tls_client_auth_san_dns="fapi.example"),
    )
    with with_certificate(server, certificate) as http:
        token = ask_with(http, client.client_id).json()["access_token"]
    assert introspect(gateway, token)["cnf"] == {"x5t#S256": certificate.thumbprint}


def test_5_3_2_1_6_a_shared_secret_does_not_authenticate(server: Server, outside: httpx.Client) -> None:
    client = server.client("secretive", ("orders:read",), metadata=ClientMetadata(dpop_bound_access_tokens=True))
    answer = outside.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=credentials(client))
    assert error_of(answer) == (401, "invalid_client")


def test_5_3_2_1_6_private_key_jwt_authenticates(app: Fapi) -> None:
    assert app.ask().status_code == 200


def test_5_3_2_1_7_there_is_no_open_redirector(app: Fapi) -> None:
    pushed = app.push(Attempt(app.client_id), redirect_uri="https://evil.example/cb")
    assert error_of(pushed) == (400, "invalid_request")
    url = httpx.URL("/oauth2/authorize", params={"client_id": app.client_id, "redirect_uri": "https://evil.example"})
    answer = app.http.get(str(url), follow_redirects=False)
    assert "location" not in answer.headers
    logout = httpx.URL("/oauth2/logout", params={"post_logout_redirect_uri": "https://evil.example"})
    assert "evil.example" not in app.http.get(str(logout), follow_redirects=False).headers.get("location", "")


def test_5_3_2_1_8_assertions_name_the_issuer_as_a_string_alone(server: Server, app: Fapi) -> None:
    assert app.ask(claims={"aud": server.issuer}).status_code == 200
    for aud in ([server.issuer], server.token_url, [server.issuer, server.token_url], f"{server.issuer}/"):
        assert error_of(app.ask(claims={"aud": aud})) == (401, "invalid_client")
    at_par = app.post("/oauth2/par", dpop=False, claims={"aud": f"{server.issuer}/oauth2/par"})
    assert error_of(at_par) == (401, "invalid_client")


def test_5_3_2_1_9_refresh_tokens_are_not_rotated(app: Fapi) -> None:
    attempt = Attempt(app.client_id)
    tokens = app.redeem(attempt, app.code(attempt, scope="openid offline_access orders:read")).json()
    for _ in range(3):
        answer = app.post("/oauth2/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"])
        assert answer.status_code == 200, answer.text
        assert answer.json().get("refresh_token", tokens["refresh_token"]) == tokens["refresh_token"]
        assert answer.json()["token_type"] == "DPoP"
    unbound = app.post("/oauth2/token", dpop=False, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert unbound.status_code == 400


def test_5_3_2_1_10_the_server_provides_dpop_nonces(server: Server, app: Fapi) -> None:
    answer = app.http.post(
        "/oauth2/token",
        data={**app.proof(), "grant_type": "client_credentials"},
        headers={"DPoP": DpopKey().proof("POST", server.token_url)},
    )
    assert error_of(answer) == (400, "use_dpop_nonce")
    assert answer.headers["dpop-nonce"]


def test_5_3_2_1_11_codes_live_for_a_minute_at_most(make_server: Callable[..., Server]) -> None:
    """The configuration takes no longer life, and a server that is told of one does not start."""
    server = make_server(profile="fapi2", lifetimes={"code_seconds": 61})
    assert server.spawn().wait(20) != 0
    server.stop()
    assert "code_seconds" in server.log_path.read_text()


@pytest.mark.parametrize("by", ["dpop_jkt", "proof"])
def test_5_3_2_1_12_a_code_is_bound_to_a_dpop_key(app: Fapi, by: str) -> None:
    """RFC 9449 §10.1: by the parameter, and by a proof at PAR."""
    attempt, own, thief = Attempt(app.client_id), app.dpop, DpopKey()
    changes: dict[str, Any] = {"dpop_jkt": own.jkt} if by == "dpop_jkt" else {}
    pushed = app.push(attempt, dpop=by == "proof", **changes)
    assert pushed.status_code == 201, pushed.text
    someone = Someone(app.server, app.http)
    someone.sign_in()
    code = code_of(someone.open(app.url(pushed.json()["request_uri"])))
    app.dpop = thief
    assert error_of(app.redeem(attempt, code)) == (400, "invalid_grant")
    app.dpop = own
    assert app.redeem(attempt, code).status_code == 200


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(("ahead", "status"), [(0, 200), (9, 200), (62, 401), (3_600, 401)])
def test_5_3_2_1_13_clocks_may_differ_by_ten_seconds_and_not_by_sixty(
    app: Fapi, claim: str, ahead: int, status: int
) -> None:
    claims = {claim: int(time.time()) + ahead, "exp": int(time.time()) + 300}
    if ahead > 300:
        claims["exp"] = int(time.time()) + ahead
    assert app.ask(claims=claims).status_code == status


@pytest.mark.parametrize(("ahead", "taken"), [(0, True), (9, True), (62, False)])
def test_5_3_2_1_13_the_same_holds_for_dpop_proofs(server: Server, app: Fapi, ahead: int, taken: bool) -> None:
    app.ask()
    proof = app.dpop.proof("POST", server.token_url, iat=int(time.time()) + ahead)
    answer = app.http.post(
        "/oauth2/token", data={**app.proof(), "grant_type": "client_credentials"}, headers={"DPoP": proof}
    )
    assert (answer.status_code == 200) is taken


def test_5_3_2_1_14_a_token_has_no_more_than_was_asked_for(app: Fapi, gateway: httpx.Client) -> None:
    attempt = Attempt(app.client_id)
    tokens = app.redeem(attempt, app.code(attempt, scope="openid")).json()
    assert tokens["scope"] == "openid"
    assert introspect(gateway, tokens["access_token"])["scope"] == "openid"


# --- §5.3.2.2 Authorization code flow ---


def test_5_3_2_2_1_the_code_flow_is_supported(app: Fapi, gateway: httpx.Client) -> None:
    attempt = Attempt(app.client_id)
    tokens = app.redeem(attempt, app.code(attempt)).json()
    assert introspect(gateway, tokens["access_token"])["cnf"] == {"jkt": app.dpop.jkt}
    assert "id_token" in tokens


def test_5_3_2_2_2_requests_are_pushed_by_clients_that_prove_themselves(app: Fapi) -> None:
    assert app.push(Attempt(app.client_id)).status_code == 201


def test_5_3_2_2_3_requests_that_were_not_pushed_are_refused(server: Server, app: Fapi) -> None:
    someone = Someone(server, app.http)
    someone.sign_in()
    answer = someone.open(Attempt(app.client_id).url())
    assert sent_back(answer)["error"] == "invalid_request"
    assert "code" not in sent_back(answer)


def test_5_3_2_2_4_pushed_requests_without_authentication_are_refused(app: Fapi) -> None:
    assert error_of(app.http.post("/oauth2/par", data=Attempt(app.client_id).parameters())) == (401, "invalid_client")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge": None, "code_challenge_method": None},
    ],
    ids=str,
)
def test_5_3_2_2_5_pkce_with_s256_is_required(app: Fapi, changes: dict[str, str | None]) -> None:
    assert error_of(app.push(Attempt(app.client_id), **changes)) == (400, "invalid_request")


def test_5_3_2_2_6_the_redirect_uri_is_required_in_pushed_requests(app: Fapi) -> None:
    assert error_of(app.push(Attempt(app.client_id), redirect_uri=None)) == (400, "invalid_request")


def test_5_3_2_2_7_the_response_names_its_issuer(server: Server, app: Fapi) -> None:
    """RFC 9207, with codes and with errors."""
    attempt, someone = Attempt(app.client_id), Someone(server, app.http)
    someone.sign_in()
    good = someone.open(app.url(app.push(attempt).json()["request_uri"]))
    assert sent_back(good)["iss"] == server.issuer
    someone.sign_out()
    bad = someone.open(app.url(app.push(attempt, prompt="none").json()["request_uri"]))
    assert sent_back(bad) | {"iss": server.issuer} == sent_back(bad)
    assert sent_back(bad)["error"] == "login_required"


def test_5_3_2_2_8_redirects_without_encryption_are_refused(server: Server, outside: httpx.Client) -> None:
    uri = "http://127.0.0.1/cb"
    native = fapi_client(server, outside, "native", redirect_uris=(uri,), application_type="native")
    assert error_of(native.push(Attempt(native.client_id), redirect_uri=uri)) == (400, "invalid_request")


def test_5_3_2_2_9_a_used_code_is_refused(app: Fapi) -> None:
    attempt = Attempt(app.client_id)
    code = app.code(attempt)
    assert app.redeem(attempt, code).status_code == 200
    assert error_of(app.redeem(attempt, code)) == (400, "invalid_grant")


def test_5_3_2_2_10_and_11_the_browser_is_sent_on_with_303(server: Server, app: Fapi) -> None:
    """Never 307, by which a form with a password would be sent on."""
    someone = Someone(server, app.http)
    request_uri = app.push(Attempt(app.client_id)).json()["request_uri"]
    assert someone.open(app.url(request_uri)).status_code == 303
    form = {"client_id": app.client_id, "request_uri": app.push(Attempt(app.client_id)).json()["request_uri"]}
    assert app.http.post("/oauth2/authorize", data=form, follow_redirects=False).status_code == 303


def test_5_3_2_2_12_a_pushed_request_lives_less_than_600_seconds(app: Fapi, make_server: Any) -> None:
    assert 0 < app.push(Attempt(app.client_id)).json()["expires_in"] < 600
    server = make_server(profile="fapi2", par={"seconds": 600})
    assert server.spawn().wait(20) != 0
    server.stop()


# --- §5.4 Cryptography and secrets ---


@pytest.mark.parametrize("alg", ["PS256", "ES256", "EdDSA"])
def test_5_4_1_the_algorithms_of_the_profile_are_taken(server: Server, outside: httpx.Client, alg: str) -> None:
    assert fapi_client(server, outside, f"alg-{alg}", alg).ask().status_code == 200


def test_5_4_1_rs256_is_not(server: Server, outside: httpx.Client) -> None:
    assert error_of(fapi_client(server, outside, "alg-rs256", "RS256").ask()) == (401, "invalid_client")


@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_5_4_1_no_signature_and_shared_secrets_are_not(app: Fapi, alg: str) -> None:
    import json
    from base64 import urlsafe_b64encode

    _, claims, signature = app.proof()["client_assertion"].split(".")
    header = urlsafe_b64encode(json.dumps({"alg": alg}).encode()).rstrip(b"=").decode()
    for last in (signature, "AA"):
        form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": f"{header}.{claims}.{last}"}
        answer = app.http.post("/oauth2/token", data={**form, "grant_type": "client_credentials"})
        assert error_of(answer) == (401, "invalid_client")


def test_5_4_2_rsa_keys_are_2048_bits_at_least(server: Server, outside: httpx.Client) -> None:
    import secrets

    modulus = secrets.token_urlsafe(128)
    small = {"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "k"}
    with pytest.raises(AdministrationError):
        server.client("small-key", auth_method="private_key_jwt", jwks={"keys": [small]})


@pytest.mark.parametrize("kind", list(Kind))
def test_5_4_4_credentials_hold_256_random_bits(kind: Kind) -> None:
    made = {generate(kind) for _ in range(100)}
    assert len(made) == 100
    assert all(kind_of(text) is kind and len(text) == 56 for text in made)


# --- One client by itself, on a server for others too ---


def test_a_client_is_held_to_the_profile_where_others_are_not(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http:
        strict = fapi_client(server, http, "strict", profile="fapi2")
        loose = fapi_client(server, http, "loose", dpop_bound_access_tokens=False)
        assert loose.ask(dpop=False, claims={"aud": server.token_url}).status_code == 200
        assert error_of(strict.ask(claims={"aud": server.token_url})) == (401, "invalid_client")
        assert error_of(strict.ask(dpop=False)) == (400, "invalid_request")
        assert strict.ask().json()["token_type"] == "DPoP"
        someone = Someone(server, http)
        someone.sign_in()
        answer = someone.open(Attempt(strict.client_id).url())
        assert sent_back(answer)["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("client_secret_basic", {}),
        ("none", {"grant_types": ("authorization_code",)}),
        ("private_key_jwt", {"dpop_bound_access_tokens": False}),
        ("private_key_jwt", {"require_pushed_authorization_requests": False}),
        ("private_key_jwt", {"redirect_uris": ("http://127.0.0.1/cb",), "application_type": "native"}),
    ],
    ids=str,
)
def test_a_registration_that_breaks_the_profile_is_refused(
    server: Server, method: str, changes: dict[str, Any]
) -> None:
    jwks = jwks_of(signing_key(kid="k")) if method == "private_key_jwt" else None
    with pytest.raises(AdministrationError):
        server.client("wrong", SCOPES, auth_method=method, jwks=jwks, metadata=metadata(profile="fapi2", **changes))
