"""`fapi2-security-profile-final-test-plan`, module by module, against a product that keeps the profile.

Twice: clients that prove themselves by a private key and bind tokens by DPoP, and clients that do both by TLS
certificates. The resource is an API behind the gate. What is asked stands in our own words.
"""

from __future__ import annotations

import secrets
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from joserfc.jwk import ECKey
from judge_cases import Plan
from judge_person import Person, StoppedError
from judge_rp import Dpop, Rp
from judge_stand import jwks_file, key_pair

if TYPE_CHECKING:
    from pathlib import Path

    from judge_person import Arrival
    from judge_stand import Certificate, Stand

CALLBACK = "https://bank.example/callback"
SCOPE = "openid offline_access orders:read"
CODE_SECONDS = 6
PUSHED_SECONDS = 10

plan = Plan("fapi2-security-profile-final-test-plan", "fapi2-security-profile-final-")


@dataclass
class Variant:
    """Two clients of one kind, with what proves them."""

    stand: Stand
    kind: str
    first: dict[str, Any]
    second: dict[str, Any]
    keys: tuple[Any, Any] = (None, None)
    certificates: tuple[Certificate | None, Certificate | None] = (None, None)


@dataclass
class Scene:
    """What a case works with. `by_key`: private_key_jwt and DPoP, else mutual TLS for both."""

    variant: Variant
    people: list[Person] = field(default_factory=list)

    @property
    def stand(self) -> Stand:
        return self.variant.stand

    @property
    def by_key(self) -> bool:
        return self.variant.kind == "key"

    def rp(self, scope: str = SCOPE) -> Rp:
        return self._rp(self.variant.first, 0, scope)

    def other(self) -> Rp:
        """The second client."""
        return self._rp(self.variant.second, 1, SCOPE)

    def _rp(self, client: dict[str, Any], number: int, scope: str) -> Rp:
        key, certificate = self.variant.keys[number], self.variant.certificates[number]
        dpop = Dpop() if self.by_key else None
        return Rp(self.stand, client, CALLBACK, scope=scope, key=key, certificate=certificate, dpop=dpop)

    def person(self, **options: Any) -> Person:
        self.people.append(self.stand.person("grace", **options))
        return self.people[-1]

    def tokens(self, rp: Rp, **changes: Any) -> dict[str, Any]:
        return rp.redeem(rp.pushed(self.person(), **changes))

    def api(self, rp: Rp, tokens: dict[str, Any], **options: Any) -> httpx.Response:
        return rp.resource(self.stand.api, tokens["access_token"], **options)

    def close(self) -> None:
        for person in self.people:
            person.http.close()


OPTIONS = (
    "--grant",
    "authorization_code",
    "--grant",
    "refresh_token",
    "--redirect-uri",
    CALLBACK,
    "--profile",
    "fapi2",
)


@pytest.fixture(scope="module")
def by_key(bank: Stand, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    folder: Path = tmp_path_factory.mktemp("keys")
    keys = (key_pair("PS256"), key_pair("ES256"))
    first, second = (bank.client("bank", *OPTIONS, "--jwks", str(jwks_file(folder, key))) for key in keys)
    return Variant(bank, "key", first, second, keys=keys)


@pytest.fixture(scope="module")
def by_certificate(bank: Stand) -> Variant:
    names = ("one.bank.example", "two.bank.example")
    first, second = (bank.client("bank", *OPTIONS, "--san-dns", name, "--certificate-bound") for name in names)
    return Variant(bank, "tls", first, second, certificates=(bank.ca.certify(names[0]), bank.ca.certify(names[1])))


def refused(answer: httpx.Response, *errors: str) -> None:
    """An OAuth error, JSON, without line breaks in its description."""
    assert answer.status_code in (400, 401), answer.text
    found = answer.json()
    assert found["error"] in errors, found
    assert not set(found.get("error_description", "")) & set("\r\n\t")


def stays_here(attempt: Any, stand: Stand) -> None:
    """The person reads of an error at the server; the browser is not sent away."""
    with pytest.raises(StoppedError) as caught:
        attempt()
    assert caught.value.answer.status_code in (400, 403)
    assert str(caught.value.answer.url).startswith(stand.issuer)


def check_answer(rp: Rp, arrival: Arrival) -> None:
    assert arrival.parameters["iss"] == rp.metadata["issuer"]
    assert arrival.parameters.get("state", "") == rp.state


# Behaving well


@plan.case(
    "discovery-end-point-verification",
    "The metadata says what the profile has: pushed requests, S256, `iss`, bound tokens, no weak algorithm or method.",
    standards=("FAPI 2.0 §5.3.2.1 (1)", "FAPI 2.0 §5.3.2.1 (2)", "FAPI 2.0 §5.3.2.1 (6)",
               "FAPI 2.0 §5.4.1 (1)", "RFC 8705 §3.3 (1)", "RFC 8705 §5 (1)", "RFC 8414 §2 (4)"),
)  # fmt: skip
def discovery(scene: Scene) -> None:
    found = scene.stand.metadata()
    assert found["require_pushed_authorization_requests"] is True
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["tls_client_certificate_bound_access_tokens"] is True
    assert found["response_types_supported"] == ["code"]
    assert "password" not in found["grant_types_supported"]
    assert "implicit" not in found["grant_types_supported"]
    methods = {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
    assert set(found["token_endpoint_auth_methods_supported"]) <= methods
    for name, value in found.items():
        if name.endswith("_alg_values_supported"):
            assert set(value) <= {"PS256", "ES256", "EdDSA", "Ed25519"}, name
    aliases = found["mtls_endpoint_aliases"]
    assert {"token_endpoint", "pushed_authorization_request_endpoint", "userinfo_endpoint"} <= aliases.keys()


@plan.case(
    "happy-flow",
    "Both clients get tokens that are right in all parts, and open the API with them.",
    standards=("FAPI 2.0 §5.3.2.1 (4)", "FAPI 2.0 §5.3.2.1 (5)", "FAPI 2.0 §5.3.2.2 (7)", "FAPI 2.0 §5.3.4 (3)",
               "RFC 9126 §2.2 (1)", "RFC 9126 §2.2 (3)", "RFC 9449 §5 (1)", "RFC 8705 §3 (1)", "RFC 8705 §2 (1)"),
)  # fmt: skip
def happy_flow(scene: Scene) -> None:
    for rp in (scene.rp(), scene.other()):
        answer = rp.push(rp.parameters())
        assert answer.status_code == 201, answer.text
        assert 5 <= answer.json()["expires_in"] < 600
        arrival = scene.person().visit(rp.pushed_url(answer.json()["request_uri"]), CALLBACK)
        check_answer(rp, arrival)
        tokens = rp.redeem(arrival)
        assert tokens["token_type"].lower() == ("dpop" if scene.by_key else "bearer")
        header, claims = rp.id_token(tokens["id_token"])
        assert header["alg"] in ("ES256", "PS256", "EdDSA")
        assert claims["nonce"] == rp.nonce
        assert scene.api(rp, tokens).status_code == 200
        assert rp.userinfo(tokens["access_token"]).json()["sub"] == claims["sub"]


@plan.case(
    "user-rejects-authentication",
    "A person who refuses is sent back with `access_denied`.",
    standards=("RFC 6749 §4.1.2.1 (1)", "RFC 9207 §2 (1)", "OIDC Core §3.1.2.4 (1)"),
)
def user_rejects(scene: Scene) -> None:
    rp = scene.rp()
    with scene.stand.person("refuser", allow=False) as person:
        arrival = rp.pushed(person)
    assert arrival.error == "access_denied"
    check_answer(rp, arrival)
    assert "code" not in arrival.parameters


@plan.case("ensure-authorization-request-without-state-success", "Without state none comes back, and all is well.")
def without_state(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person(), state=None)
    assert "state" not in arrival.parameters
    rp.redeem(arrival)


@plan.case("ensure-authorization-request-without-nonce-success", "Without nonce the ID token has none.")
def without_nonce(scene: Scene) -> None:
    rp = scene.rp()
    assert "nonce" not in rp.id_token(scene.tokens(rp, nonce=None)["id_token"])[1]


@plan.case(
    "ensure-authorization-request-with-64-char-nonce-success",
    "A nonce of 64 characters comes back whole.",
    standards=("OIDC Core §2 (2)",),
)
def nonce_of_64(scene: Scene) -> None:
    rp, nonce = scene.rp(), secrets.token_hex(32)
    assert rp.id_token(scene.tokens(rp, nonce=nonce)["id_token"])[1]["nonce"] == nonce


@plan.case("ensure-other-scope-order-succeeds", "`openid` need not come first.")
def other_scope_order(scene: Scene) -> None:
    rp = scene.rp("orders:read openid")
    assert scene.api(rp, scene.tokens(rp)).status_code == 200


@plan.case(
    "test-claims-parameter-identity-claims",
    "Claims that are asked for by `claims` may be given and never make the request fail.",
    standards=("OIDC Core §5.5 (1)",),
)
def claims_parameter(scene: Scene) -> None:
    rp = scene.rp()
    wanted = '{"id_token":{"name":null,"given_name":null},"userinfo":{"email":{"essential":true}}}'
    assert "id_token" in scene.tokens(rp, claims=wanted)


@plan.case(
    "access-token-type-header-case-sensitivity",
    "The name of the scheme in `Authorization` is taken in any case.",
    standards=("RFC 6750 §2.1 (1)",),
)
def scheme_in_any_case(scene: Scene) -> None:
    rp = scene.rp()
    tokens = scene.tokens(rp)
    scheme = "dPOP" if scene.by_key else "bEARER"
    assert scene.api(rp, tokens, scheme=scheme).status_code == 200
    assert rp.userinfo(tokens["access_token"], scheme=scheme).status_code == 200


# DPoP proofs


@plan.case("check-dpop-proof-nbf-exp", "A proof may have `nbf` and `exp`; both servers take it.")
def proof_with_times(scene: Scene) -> None:
    rp, dpop, tokens = with_proofs(scene)
    now = int(time.time())
    proof = dpop.proof("GET", scene.stand.api, tokens["access_token"], nbf=now, exp=now + 300)
    assert scene.api(rp, tokens, proof=proof).status_code == 200
    arrival = rp.pushed(scene.person())
    again = dpop.proof("POST", rp.endpoint("token_endpoint"), nbf=now, exp=now + 300)
    assert rp.exchange(arrival.parameters["code"], proof=again).status_code == 200


@plan.case(
    "ensure-dpopproof-with-iat-10seconds-before-succeeds",
    "A clock that is ten seconds slow is forgiven.",
    standards=(
        "RFC 9449 §4.3 (11)",
        "FAPI 2.0 §5.3.2.1 (13)",
    ),
)
def proof_ten_seconds_old(scene: Scene) -> None:
    proof_at(scene, -10)


@plan.case("ensure-dpopproof-with-iat-10seconds-after-succeeds", "So is one that is ten seconds fast.")
def proof_of_ten_seconds_hence(scene: Scene) -> None:
    proof_at(scene, 10)


def with_proofs(scene: Scene) -> tuple[Rp, Dpop, dict[str, Any]]:
    """Tokens, and the nonces of both servers learnt."""
    rp = scene.rp()
    tokens = scene.tokens(rp)
    assert scene.api(rp, tokens).status_code == 200
    assert rp.dpop is not None
    return rp, rp.dpop, tokens


def proof_at(scene: Scene, seconds: int) -> None:
    rp, dpop, tokens = with_proofs(scene)
    proof = dpop.proof("GET", scene.stand.api, tokens["access_token"], iat=int(time.time()) + seconds)
    assert scene.api(rp, tokens, proof=proof).status_code == 200
    arrival = rp.pushed(scene.person())
    proof = dpop.proof("POST", rp.endpoint("token_endpoint"), iat=int(time.time()) + seconds)
    assert rp.exchange(arrival.parameters["code"], proof=proof).status_code == 200


# A code bound to a key


@plan.case(
    "ensure-mismatched-dpop-jkt-fails",
    "A pushed request whose `dpop_jkt` is not that of its proof is refused.",
    standards=("RFC 9449 §10.1 (1)",),
)
def mismatched_jkt(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(dpop_jkt=Dpop().jkt), proof=True), "invalid_dpop_proof", "invalid_request")


@plan.case(
    "ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt",
    "A code that was bound by a proof at the pushed request is of no use with another key.",
    standards=("RFC 9449 §10.1 (1)",),
)
def mismatched_proof(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person(), proof=True)
    rp.dpop = Dpop()
    refused(rp.exchange(arrival.parameters["code"]), "invalid_dpop_proof", "invalid_grant", "invalid_request")


@plan.case(
    "ensure-token-endpoint-fails-with-mismatched-dpop-jkt",
    "Nor one that was bound by `dpop_jkt`.",
    standards=("RFC 9449 §10 (1)", "FAPI 2.0 §5.3.2.1 (12)"),
)
def mismatched_jkt_at_token(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person(), dpop_jkt=Dpop().jkt)
    refused(rp.exchange(arrival.parameters["code"]), "invalid_dpop_proof", "invalid_grant", "invalid_request")


@plan.case("ensure-dpopproof-at-par-endpoint-binding-success", "With the key of the pushed request's proof it is.")
def proof_at_par(scene: Scene) -> None:
    rp = scene.rp()
    assert scene.api(rp, rp.redeem(rp.pushed(scene.person(), proof=True))).status_code == 200


@plan.case("ensure-dpop-auth-code-binding-success", "And with the key of `dpop_jkt`.", standards=("RFC 9449 §10 (1)",))
def jkt_at_par(scene: Scene) -> None:
    rp = scene.rp()
    assert rp.dpop is not None
    assert scene.api(rp, scene.tokens(rp, dpop_jkt=rp.dpop.jkt)).status_code == 200


# Inside and outside of the pushed request


def outside(scene: Scene, rp: Rp, parameters: dict[str, str], **more: Any) -> Arrival:
    """Push `parameters`, then go with `more` beside the `request_uri`."""
    answer = rp.push(parameters)
    assert answer.status_code == 201, answer.text
    return scene.person().visit(rp.pushed_url(answer.json()["request_uri"], **more), CALLBACK)


@plan.case(
    "ensure-different-nonce-inside-and-outside-request-object",
    "Of two nonces the pushed one counts.",
    standards=("RFC 9126 §4 (1)",),
)
def nonce_outside(scene: Scene) -> None:
    rp = scene.rp()
    arrival = outside(scene, rp, rp.parameters(), nonce="another")
    assert rp.id_token(rp.redeem(arrival)["id_token"])[1]["nonce"] == rp.nonce


@plan.case("ensure-different-state-inside-and-outside-request-object", "Of two states the pushed one comes back.")
def state_outside(scene: Scene) -> None:
    rp = scene.rp()
    arrival = outside(scene, rp, rp.parameters(), state="another")
    assert arrival.parameters["state"] == rp.state


@plan.case("ensure-authorization-request-with-long-nonce", "A long nonce comes back whole, or is refused in order.")
def long_nonce(scene: Scene) -> None:
    rp, nonce = scene.rp(), secrets.token_hex(192)
    answer = rp.push(rp.parameters(nonce=nonce))
    if answer.status_code != 201:
        refused(answer, "invalid_request")
        return
    arrival = scene.person().visit(rp.pushed_url(answer.json()["request_uri"]), CALLBACK)
    assert rp.id_token(rp.redeem(arrival)["id_token"])[1]["nonce"] == nonce


@plan.case("ensure-authorization-request-with-long-state", "A long state comes back whole, or is refused in order.")
def long_state(scene: Scene) -> None:
    rp, state = scene.rp(), secrets.token_hex(192)
    answer = rp.push(rp.parameters(state=state))
    if answer.status_code != 201:
        refused(answer, "invalid_request")
        return
    arrival = scene.person().visit(rp.pushed_url(answer.json()["request_uri"]), CALLBACK)
    assert arrival.parameters["state"] == state


@plan.case("state-only-outside-request-object-not-used", "A state that was not pushed does not come back.")
def state_only_outside(scene: Scene) -> None:
    rp = scene.rp()
    arrival = outside(scene, rp, rp.parameters(state=None), state="outside")
    assert "state" not in arrival.parameters
    rp.redeem(arrival)


@plan.case(
    "ensure-request-object-without-redirect-uri-fails",
    "A redirect URI beside the `request_uri` does not make up for one that was not pushed.",
    standards=("FAPI 2.0 §5.3.2.2 (6)",),
)
def redirect_only_outside(scene: Scene) -> None:
    rp = scene.rp()
    answer = rp.push(rp.parameters(redirect_uri=None))
    if answer.status_code == 201:
        url = rp.pushed_url(answer.json()["request_uri"], redirect_uri=CALLBACK)
        stays_here(lambda: scene.person().visit(url, CALLBACK), scene.stand)
    else:
        refused(answer, "invalid_request")


# Authorization requests that must not be answered


@plan.case(
    "ensure-registered-redirect-uri",
    "A redirect URI that is not registered is refused where it is pushed.",
    standards=("RFC 9126 §2.1 (3)", "RFC 9126 §7.3 (1)"),
)
def registered_redirect(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(redirect_uri="https://elsewhere.example/callback")), "invalid_request")


@plan.case(
    "plain-fapi-tolerate-unregistered-redirect-uri",
    "A server may let authenticated clients choose redirect URIs when they push them.",
    standards=("RFC 9126 §7.3 (1)",),
    differs="not offered: every redirect URI is registered, so this one is refused, which the plan allows",
)
def chosen_redirect(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(redirect_uri=f"{CALLBACK}/{secrets.token_hex(4)}")), "invalid_request")


@plan.case(
    "ensure-unsigned-authorization-request-without-using-par-fails",
    "A request that was not pushed is refused.",
    standards=("FAPI 2.0 §5.3.2.2 (3)", "RFC 9126 §5 (1)"),
)
def not_pushed(scene: Scene) -> None:
    rp = scene.rp()
    not_answered(scene, scene.person(), rp.url(rp.parameters()))


@plan.case(
    "ensure-redirect-uri-in-authorization-request",
    "A pushed request without redirect URI is refused.",
    standards=("FAPI 2.0 §5.3.2.2 (6)",),
)
def redirect_missing(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(redirect_uri=None)), "invalid_request", "invalid_request_object")


@plan.case(
    "ensure-response-type-code-idtoken-fails",
    "`code id_token` is refused.",
    standards=("FAPI 2.0 §5.3.2.2 (1)",),
)
def response_type_hybrid(scene: Scene) -> None:
    wrong_response_type(scene, "code id_token")


@plan.case(
    "ensure-response-type-token-fails",
    "`token` is refused.",
    standards=("FAPI 2.0 §5.3.2.2 (1)", "OAuth 2.1 §4.1.2 (1)", "RFC 9700 §2.1.2 (1)"),
)
def response_type_token(scene: Scene) -> None:
    wrong_response_type(scene, "token")


def wrong_response_type(scene: Scene, name: str) -> None:
    rp = scene.rp()
    errors = ("unsupported_response_type", "invalid_request", "unauthorized_client")
    refused(rp.push(rp.parameters(response_type=name)), *errors)


# The token endpoint


@plan.case(
    "ensure-client-id-in-token-endpoint",
    "One client's proof with the other's name is refused.",
    standards=("RFC 7521 §4.2 (1)", "RFC 8705 §2.1 (1)", "RFC 7523 §3 (9)"),
)
def client_id_of_the_other(scene: Scene) -> None:
    rp, other = scene.rp(), scene.other()
    arrival = rp.pushed(scene.person())
    if scene.by_key:
        # In the other's name, signed with the first one's key.
        text = rp.assertion(iss=other.client_id, sub=other.client_id)
        answer = rp.exchange(
            arrival.parameters["code"],
            client={"assertion": text},
            client_id=other.client_id,
        )
    else:
        rp.client = other.client
        answer = rp.exchange(arrival.parameters["code"])
    refused(answer, "invalid_client", "invalid_grant", "invalid_request")


@plan.case(
    "ensure-holder-of-key-required",
    "TLS is new enough, and no token is given to whoever shows neither key nor certificate.",
    standards=("FAPI 2.0 §5.3.2.1 (4)", "FAPI 2.0 §5.2.1 (1)", "RFC 9449 §5 (4)"),
)
def holder_of_key(scene: Scene) -> None:
    rp = scene.rp()
    check_tls(rp)
    arrival = rp.pushed(scene.person())
    if scene.by_key:
        errors = ("invalid_request", "invalid_grant", "invalid_dpop_proof", "use_dpop_nonce")
        refused(rp.exchange(arrival.parameters["code"], proof=False), *errors)
        return
    form = {"grant_type": "authorization_code", "code": arrival.parameters["code"], "redirect_uri": CALLBACK}
    form |= {"client_id": rp.client_id, "code_verifier": rp.verifier}
    with scene.stand.http() as bare:
        for url in (rp.metadata["token_endpoint"], rp.endpoint("token_endpoint")):
            refused(bare.post(url, data=form), "invalid_client", "invalid_request")


def check_tls(rp: Rp) -> None:
    """TLS 1.1 is refused; of TLS 1.2 the ciphers that BCP 195 recommends are taken, others not."""
    for name in ("token_endpoint", "authorization_endpoint"):
        url = httpx.URL(rp.metadata[name])
        assert handshake(url, ssl.TLSVersion.TLSv1_3) is not None
        assert handshake(url, ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM") is not None
        assert handshake(url, ssl.TLSVersion.TLSv1_2, "ECDHE+AES128+SHA256:AES128-SHA256:AES128-GCM-SHA256") is None


def handshake(url: httpx.URL, version: ssl.TLSVersion, ciphers: str = "") -> str | None:
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
        if "AESGCM" not in ciphers:
            context.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection((url.host, url.port or 443), 5) as raw,
            context.wrap_socket(raw, server_hostname=url.host) as connection,
        ):
            return connection.version()
    except (ssl.SSLError, ConnectionError):
        return None


@plan.case(
    "ensure-authorization-code-is-bound-to-client",
    "A code is of no use to another client, though it proves itself well.",
    standards=("RFC 6749 §4.1.3 (2)", "RFC 6749 §4.1.2 (3)"),
)
def code_of_another(scene: Scene) -> None:
    rp, other = scene.rp(), scene.other()
    arrival = rp.pushed(scene.person())
    other.verifier = rp.verifier
    refused(other.exchange(arrival.parameters["code"]), "invalid_grant")


@plan.case(
    "attempt-reuse-authorization-code-after-one-second",
    "A code that was used a second ago is refused, and what it gave no longer works.",
    standards=("FAPI 2.0 §5.3.2.2 (9)", "RFC 6749 §4.1.2 (2)"),
)
def code_again(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person())
    tokens = rp.redeem(arrival)
    assert scene.api(rp, tokens).status_code == 200
    time.sleep(1)
    refused(rp.exchange(arrival.parameters["code"]), "invalid_grant")
    deadline = time.monotonic() + 2
    while scene.api(rp, tokens).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@plan.case(
    "ensure-token-endpoint-fails-with-expired-auth-code",
    "A code that has expired is refused.",
    standards=("FAPI 2.0 §5.3.2.1 (11)", "RFC 6749 §4.1.2 (1)"),
)
def expired_code(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person())
    time.sleep(CODE_SECONDS + 1.2)
    refused(rp.exchange(arrival.parameters["code"]), "invalid_grant")


# Client assertions


@plan.case(
    "ensure-signed-client-assertion-with-RS256-fails",
    "RS256 is refused.",
    standards=("FAPI 2.0 §5.4.1 (1)",),
)
def assertion_rs256(scene: Scene) -> None:
    bad_assertion(scene, alg="RS256")


@plan.case(
    "ensure-client-assertion-in-token-endpoint", "Without an assertion nothing is given.",
    standards=("RFC 6749 §3.2.1 (1)", "RFC 6749 §5.2 (1)"),
)  # fmt: skip
def no_assertion(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person())
    form = {"grant_type": "authorization_code", "code": arrival.parameters["code"], "redirect_uri": CALLBACK}
    answer = rp.http.post(
        rp.endpoint("token_endpoint"), data={**form, "client_id": rp.client_id, "code_verifier": rp.verifier}
    )
    refused(answer, "invalid_client", "invalid_request")


@plan.case(
    "ensure-client-assertion-with-exp-is-5-minutes-in-past-fails",
    "An assertion that has expired is refused.",
    standards=("RFC 7523 §3 (4)", "RFC 7521 §5.2 (3)"),
)
def assertion_expired(scene: Scene) -> None:
    now = int(time.time())
    bad_assertion(scene, iat=now - 360, exp=now - 300)


@plan.case(
    "ensure-client-assertion-with-wrong-aud-fails",
    "So is one for somebody else.",
    standards=("RFC 7523 §3 (3)", "RFC 7521 §5.2 (2)"),
)
def assertion_wrong_aud(scene: Scene) -> None:
    bad_assertion(scene, aud="https://elsewhere.example")


@plan.case("ensure-client-assertion-with-no-sub-fails", "One without subject.", standards=("RFC 7523 §3 (2)",))
def assertion_no_sub(scene: Scene) -> None:
    bad_assertion(scene, sub=None)


@plan.case(
    "ensure-invalid-client-assertions-fail",
    "And all others that are not whole: no issuer, audience, expiry or id, another's, unsigned, signed by another.",
    standards=(
        "RFC 7521 §5.2 (1)",
        "RFC 7523 §3 (7)",
        "RFC 7523 §3 (9)",
        "RFC 7523 §3 (8)",
        "RFC 7523 §3 (10)",
        "RFC 7523 §3 (1)",
        "RFC 7523 §3.2 (1)",
        "RFC 7521 §4.2.1 (1)",
    ),
)
def assertions_not_whole(scene: Scene) -> None:
    rp = scene.rp()
    stranger = key_pair("PS256")
    for changes in (
        {"iss": None}, {"aud": None}, {"exp": None}, {"jti": None}, {"iss": "other"}, {"sub": "other"},
        {"alg": "none"}, {"key": stranger}, {"aud": [rp.metadata["issuer"], "https://elsewhere.example"]},
        {"nbf": int(time.time()) + 600},
        {"exp": int(time.time()) + 3600},
    ):  # fmt: skip
        answer = rp.push(rp.parameters(), **changes)
        refused(answer, "invalid_client", "invalid_request")
    text = rp.assertion(something="that nobody knows")
    assert rp.push(rp.parameters(), assertion=text).status_code == 201
    refused(rp.push(rp.parameters(), assertion=text), "invalid_client", "invalid_request")


def bad_assertion(scene: Scene, **changes: Any) -> None:
    """The assertion is refused at both endpoints; the code is still good for a right one."""
    rp = scene.rp()
    refused(rp.push(rp.parameters(), **changes), "invalid_client", "invalid_request")
    arrival = rp.pushed(scene.person())
    refused(rp.exchange(arrival.parameters["code"], client=changes), "invalid_client", "invalid_request")
    assert rp.exchange(arrival.parameters["code"]).status_code == 200


@plan.case(
    "dpop-negative-tests",
    "The gate holds every check of a proof: form, type, algorithm, key, method, address, time, replay, token, key.",
    standards=("RFC 9449 §4.3 (1)", "RFC 9449 §4.3 (2)", "RFC 9449 §4.3 (3)", "RFC 9449 §4.3 (4)",
               "RFC 9449 §4.3 (5)", "RFC 9449 §4.3 (6)", "RFC 9449 §4.3 (7)", "RFC 9449 §4.3 (8)",
               "RFC 9449 §4.3 (9)", "RFC 9449 §4.3 (10)", "RFC 9449 §4.3 (11)", "RFC 9449 §4.3 (12)",
               "RFC 9449 §7.1 (1)", "RFC 9449 §7.1 (2)",
               "RFC 9449 §9 (1)", "RFC 9449 §11.1 (1)", "RFC 9449 §4.2 (1)", "RFC 9449 §4.2 (2)", "RFC 9449 §7.2 (1)"),
)  # fmt: skip
def dpop_at_the_gate(scene: Scene) -> None:
    rp, dpop, tokens = with_proofs(scene)
    token, api = tokens["access_token"], scene.stand.api

    def call(proof: str | list[str] | None, *, scheme: str = "DPoP", name: str = "DPoP") -> httpx.Response:
        proofs = proof if isinstance(proof, list) else [proof] if proof else []
        headers = [("Authorization", f"{scheme} {token}"), *((name, each) for each in proofs)]
        answer = rp.http.get(api, headers=headers)
        dpop.learn(answer)
        return answer

    def proof(**changes: Any) -> str:
        return dpop.proof("GET", api, token, **changes)

    now, stranger = int(time.time()), Dpop(nonces=dpop.nonces)
    right = dpop.key.as_dict(private=False)
    bad: dict[str, str | list[str] | None] = {
        "no proof": None,
        "two proofs": [proof(), proof()],
        "no token at all": "notajwt",
        "no typ": proof(header={"typ": None}),
        "another typ": proof(header={"typ": "JWT"}),
        "no jwk": proof(header={"jwk": None}),
        "a private jwk": proof(header={"jwk": dpop.key.as_dict(private=True)}),
        "another jwk": proof(header={"jwk": ECKey.generate_key("P-256").as_dict(private=False)}),
        "no jti": proof(jti=None),
        "no htm": proof(htm=None),
        "no htu": proof(htu=None),
        "no iat": proof(iat=None),
        "no ath": proof(ath=None),
        "another method": proof(htm="PUT"),
        "another address": proof(htu="https://elsewhere.example/orders"),
        "an hour hence": proof(iat=now + 3600),
        "an hour ago": proof(iat=now - 3600),
        "another token's hash": proof(ath="fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"),
        "another key": stranger.proof("GET", api, token),
        "another nonce": proof(nonce="nobody-gave-this"),
        "unsigned": unsigned(proof(), right),
        "a bad signature": proof()[:-4] + "AAAA",
    }
    for name, each in bad.items():
        answer = call(each)
        assert answer.status_code in (400, 401), name
        assert answer.headers["www-authenticate"].find("DPoP") >= 0, name
    # As a bearer token it must not pass, with a proof or without.
    assert call(None, scheme="Bearer").status_code == 401
    assert call(proof(), scheme="Bearer").status_code == 401
    # What must pass: query and fragment of `htu` do not count, nor do members that nobody knows, nor the header's case.
    assert call(proof(htu=f"{api}?a=b#c")).status_code == 200
    assert call(proof(), name="DPOP").status_code == 200
    assert call(proof(header={"extra": "x"}, more="y")).status_code == 200
    once = proof()
    assert call(once).status_code == 200
    assert call(once).status_code == 401


def unsigned(proof: str, jwk: dict[str, Any]) -> str:
    """The claims of a proof under `alg: none`."""
    import json
    from base64 import urlsafe_b64encode

    head = urlsafe_b64encode(json.dumps({"typ": "dpop+jwt", "alg": "none", "jwk": jwk}).encode()).rstrip(b"=").decode()
    return f"{head}.{proof.split('.')[1]}."


# Refresh tokens


@plan.case(
    "refresh-token",
    "A refresh gives a bound token; the refresh token is not changed, and is of no use to another client or key.",
    standards=("FAPI 2.0 §5.3.2.1 (9)", "RFC 6749 §6 (1)", "RFC 6749 §6 (3)", "OIDC Core §12.1 (1)",
               "OIDC Core §12.2 (1)"),
)  # fmt: skip
def refresh(scene: Scene) -> None:
    rp = scene.rp()
    first = scene.tokens(rp, prompt="consent")
    before = rp.id_token(first["id_token"])[1]
    other = scene.other()
    refused(other.refresh(first["refresh_token"]), "invalid_grant")
    for _ in range(2):
        answer = rp.refresh(first["refresh_token"])
        assert answer.status_code == 200, answer.text
        second = answer.json()
        assert second.get("refresh_token", first["refresh_token"]) == first["refresh_token"]
        assert second["access_token"] != first["access_token"]
        assert scene.api(rp, second).status_code == 200
        if "id_token" in second:
            after = rp.id_token(second["id_token"])[1]
            assert [after[name] for name in ("iss", "sub", "aud")] == [before[name] for name in ("iss", "sub", "aud")]


# Pushed requests


@plan.case(
    "par-ensure-reused-request-uri-prior-to-auth-completion-succeeds",
    "Opening the address again before signing in, as when a page is reloaded, does not spend it.",
    standards=("RFC 9126 §4 (2)",),
)
def reloaded(scene: Scene) -> None:
    rp = scene.rp()
    url = rp.pushed_url(rp.push(rp.parameters()).json()["request_uri"])
    person = scene.person()
    assert person.page(url).status_code == 200
    arrival = person.visit(url, CALLBACK)
    assert "code" in arrival.parameters
    rp.redeem(arrival)


@plan.case(
    "par-attempt-reuse-request_uri",
    "Once it was answered it is spent.",
    standards=("RFC 9126 §4 (2)",),
)
def reused(scene: Scene) -> None:
    rp = scene.rp()
    url = rp.pushed_url(rp.push(rp.parameters()).json()["request_uri"])
    person = scene.person()
    rp.redeem(person.visit(url, CALLBACK))
    not_answered(scene, person, url)


@plan.case(
    "par-attempt-to-use-expired-request_uri",
    "Once it has expired it is refused.",
    standards=("RFC 9126 §4 (1)", "FAPI 2.0 §5.3.2.2 (12)"),
)
def expired(scene: Scene) -> None:
    rp = scene.rp()
    answer = rp.push(rp.parameters()).json()
    time.sleep(answer["expires_in"] + 1.2)
    not_answered(scene, scene.person(), rp.pushed_url(answer["request_uri"]))


def not_answered(scene: Scene, person: Person, url: str) -> None:
    """An error page, or an error at the client; never a code."""
    outcome = person.try_to_visit(url, CALLBACK)
    if isinstance(outcome, httpx.Response):
        assert outcome.status_code == 400
        assert str(outcome.url).startswith(scene.stand.issuer)
    else:
        assert outcome.error in ("invalid_request_uri", "invalid_request")


@plan.case(
    "par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted",
    "A client whose clock is eight seconds fast is taken.",
    standards=("FAPI 2.0 §5.3.2.1 (13)",),
)
def assertion_soon(scene: Scene) -> None:
    rp, now = scene.rp(), int(time.time())
    assert rp.push(rp.parameters(), iat=now + 8, nbf=now + 8).status_code == 201


@plan.case(
    "par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails",
    "One that is over a minute fast is not.",
    standards=("FAPI 2.0 §5.3.2.1 (13)", "RFC 7523 §3 (5)", "RFC 7523 §3 (6)"),
)
def assertion_later(scene: Scene) -> None:
    rp, now = scene.rp(), int(time.time())
    refused(rp.push(rp.parameters(), iat=now + 70, nbf=now + 70, exp=now + 130), "invalid_client", "invalid_request")


@plan.case(
    "par-attempt-to-use-request_uri-for-different-client",
    "Another client's `request_uri` is refused.",
    standards=("RFC 9126 §2.2 (2)", "RFC 9126 §4 (1)"),
)
def request_uri_of_another(scene: Scene) -> None:
    rp, other = scene.rp(), scene.other()
    request_uri = rp.push(rp.parameters()).json()["request_uri"]
    not_answered(scene, scene.person(), other.pushed_url(request_uri))


@plan.case(
    "par-authorization-request-containing-request_uri-form-param",
    "A `request_uri` cannot be pushed.",
    standards=("RFC 9126 §2.1 (2)",),
)
def request_uri_pushed(scene: Scene) -> None:
    rp = scene.rp()
    inside = "urn:ietf:params:oauth:request_uri:" + secrets.token_urlsafe(32)
    refused(rp.push(rp.parameters(request_uri=inside)), "invalid_request")


@plan.case("par-attempt-invalid-http-method", "Requests are pushed by POST alone.", standards=("RFC 9126 §2.3 (1)",))
def pushed_by_get(scene: Scene) -> None:
    rp = scene.rp()
    url = rp.endpoint("pushed_authorization_request_endpoint")
    assert rp.http.get(url).status_code == 405
    assert rp.http.put(url, data=rp.parameters()).status_code == 405


# PKCE


@plan.case(
    "par-ensure-pkce-required",
    "A pushed request without challenge is refused.",
    standards=("FAPI 2.0 §5.3.2.2 (5)", "RFC 7636 §4.4.1 (1)"),
)
def pkce_missing(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(code_challenge=None, code_challenge_method=None)), "invalid_request")


@plan.case(
    "ensure-pkce-code-verifier-required",
    "A code is not given for without the verifier.",
    standards=("RFC 7636 §4.6 (1)", "RFC 9700 §2.1.1 (1)"),
)
def verifier_missing(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person())
    refused(rp.exchange(arrival.parameters["code"], code_verifier=None), "invalid_grant", "invalid_request")


@plan.case(
    "incorrect-pkce-code-verifier-rejected",
    "Nor with a wrong one.",
    standards=("RFC 7636 §4.6 (1)", "RFC 9700 §4.5.3 (1)"),
)
def verifier_wrong(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.pushed(scene.person())
    refused(rp.exchange(arrival.parameters["code"], code_verifier=secrets.token_urlsafe(40)), "invalid_grant")


@plan.case(
    "par-plain-pkce-rejected",
    "`plain` is refused, by name or by leaving the method away.",
    standards=("FAPI 2.0 §5.3.2.2 (5)", "RFC 7636 §7.2 (1)", "RFC 7636 §4.3 (1)"),
)
def pkce_plain(scene: Scene) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(code_challenge_method="plain")), "invalid_request")
    refused(rp.push(rp.parameters(code_challenge_method=None)), "invalid_request")


@plan.case(
    "par-without-duplicate-parameters",
    "`client_id` and `request_uri` are all that go to the authorization endpoint.",
)
def nothing_twice(scene: Scene) -> None:
    rp = scene.rp()
    scene.tokens(rp)


# Audiences of assertions


@plan.case(
    "par-test-array-as-audience-fails",
    "An audience that is an array is refused.",
    standards=("FAPI 2.0 §5.3.2.1 (8)",),
)
def audience_array(scene: Scene) -> None:
    wrong_audience(scene, lambda rp: [rp.metadata["issuer"], "https://elsewhere.example"])
    wrong_audience(scene, lambda rp: [rp.metadata["issuer"]])


@plan.case(
    "par-test-par-endpoint-url-as-audience-fails",
    "The endpoint of pushed requests is no audience.",
    standards=("FAPI 2.0 §5.3.2.1 (8)",),
)
def audience_par(scene: Scene) -> None:
    wrong_audience(scene, lambda rp: rp.metadata["pushed_authorization_request_endpoint"])


@plan.case(
    "par-test-token-endpoint-url-as-audience-fails",
    "Nor is the token endpoint.",
    standards=("FAPI 2.0 §5.3.2.1 (8)",),
)
def audience_token(scene: Scene) -> None:
    wrong_audience(scene, lambda rp: rp.metadata["token_endpoint"])


def wrong_audience(scene: Scene, audience: Any) -> None:
    rp = scene.rp()
    refused(rp.push(rp.parameters(), aud=audience(rp)), "invalid_client", "invalid_request")


# The plan as a whole

KEY_ALONE = {
    plan.prefix + name
    for name in [
        "check-dpop-proof-nbf-exp",
        "ensure-dpopproof-with-iat-10seconds-before-succeeds",
        "ensure-dpopproof-with-iat-10seconds-after-succeeds",
        "ensure-mismatched-dpop-jkt-fails",
        "ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt",
        "ensure-token-endpoint-fails-with-mismatched-dpop-jkt",
        "ensure-dpopproof-at-par-endpoint-binding-success",
        "ensure-dpop-auth-code-binding-success",
        "ensure-signed-client-assertion-with-RS256-fails",
        "ensure-client-assertion-in-token-endpoint",
        "ensure-client-assertion-with-exp-is-5-minutes-in-past-fails",
        "ensure-client-assertion-with-wrong-aud-fails",
        "ensure-client-assertion-with-no-sub-fails",
        "ensure-invalid-client-assertions-fail",
        "dpop-negative-tests",
        "par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted",
        "par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails",
        "par-test-array-as-audience-fails",
        "par-test-par-endpoint-url-as-audience-fails",
        "par-test-token-endpoint-url-as-audience-fails",
    ]
}


@pytest.mark.parametrize("case", [pytest.param(each, id=each.id) for each in plan.cases.values()])
def test_plan_by_private_key_and_dpop(case: Any, by_key: Variant) -> None:
    run(case, by_key)


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=each.id) for each in plan.cases.values() if each.id not in KEY_ALONE]
)
def test_plan_by_mutual_tls(case: Any, by_certificate: Variant) -> None:
    run(case, by_certificate)


def run(case: Any, variant: Variant) -> None:
    scene = Scene(variant)
    try:
        case.run(scene)
    finally:
        scene.close()


# As the suite lists them for plain FAPI, unsigned requests and plain responses.
PLAN = """
discovery-end-point-verification happy-flow user-rejects-authentication
ensure-authorization-request-without-state-success ensure-authorization-request-without-nonce-success
ensure-authorization-request-with-64-char-nonce-success ensure-other-scope-order-succeeds
test-claims-parameter-identity-claims access-token-type-header-case-sensitivity check-dpop-proof-nbf-exp
ensure-dpopproof-with-iat-10seconds-before-succeeds ensure-dpopproof-with-iat-10seconds-after-succeeds
ensure-mismatched-dpop-jkt-fails ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt
ensure-token-endpoint-fails-with-mismatched-dpop-jkt ensure-dpopproof-at-par-endpoint-binding-success
ensure-dpop-auth-code-binding-success ensure-different-nonce-inside-and-outside-request-object
ensure-different-state-inside-and-outside-request-object ensure-authorization-request-with-long-nonce
ensure-authorization-request-with-long-state state-only-outside-request-object-not-used
ensure-request-object-without-redirect-uri-fails ensure-registered-redirect-uri
plain-fapi-tolerate-unregistered-redirect-uri ensure-unsigned-authorization-request-without-using-par-fails
ensure-redirect-uri-in-authorization-request ensure-response-type-code-idtoken-fails ensure-response-type-token-fails
ensure-client-id-in-token-endpoint ensure-holder-of-key-required ensure-authorization-code-is-bound-to-client
attempt-reuse-authorization-code-after-one-second ensure-token-endpoint-fails-with-expired-auth-code
ensure-signed-client-assertion-with-RS256-fails ensure-client-assertion-in-token-endpoint
ensure-client-assertion-with-exp-is-5-minutes-in-past-fails ensure-client-assertion-with-wrong-aud-fails
ensure-client-assertion-with-no-sub-fails ensure-invalid-client-assertions-fail dpop-negative-tests refresh-token
par-ensure-reused-request-uri-prior-to-auth-completion-succeeds par-attempt-reuse-request_uri
par-attempt-to-use-expired-request_uri par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted
par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails
par-attempt-to-use-request_uri-for-different-client par-authorization-request-containing-request_uri-form-param
par-attempt-invalid-http-method par-ensure-pkce-required ensure-pkce-code-verifier-required
incorrect-pkce-code-verifier-rejected par-plain-pkce-rejected par-without-duplicate-parameters
par-test-array-as-audience-fails par-test-par-endpoint-url-as-audience-fails
par-test-token-endpoint-url-as-audience-fails
"""


def test_plan_is_whole() -> None:
    assert list(plan.cases) == [plan.prefix + name for name in PLAN.split()]
    assert plan.cases.keys() >= KEY_ALONE
