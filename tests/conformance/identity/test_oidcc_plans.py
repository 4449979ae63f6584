"""The plans of OpenID Connect's certification, module by module, against the running product.

`oidcc-basic-certification-test-plan`, `oidcc-config-certification-test-plan` and
`oidcc-rp-initiated-logout-certification-test-plan`, with what concerns redirect URIs from the dynamic plan. What is
asked stands in our own words; every request proves its key by PKCE, without which this server gives no code.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey
from judge_cases import Plan
from judge_person import Arrival, StoppedError
from judge_rp import Rp, present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judge_person import Person
    from judge_stand import Stand

CALLBACK = "https://rp.example/callback"
SIGNED_OUT = "https://rp.example/signed-out"
CODE_WAITS = 30.0

basic = Plan("oidcc-basic-certification-test-plan", "oidcc-")
config = Plan("oidcc-config-certification-test-plan", "oidcc-")
dynamic = Plan("oidcc-dynamic-certification-test-plan (redirect URIs)", "oidcc-")
logout = Plan("oidcc-rp-initiated-logout-certification-test-plan", "oidcc-rp-initiated-logout")


@dataclass
class Scene:
    """One relying party, one server, and as many fresh browsers as a case wants; `spent` was used as the plan began."""

    stand: Stand
    client: dict[str, Any]
    spent: Spent
    people: list[Person] = field(default_factory=list)

    def rp(self, scope: str = "openid") -> Rp:
        return Rp(self.stand, self.client, CALLBACK, scope=scope)

    def person(self, **options: Any) -> Person:
        """The same user at another browser."""
        self.people.append(self.stand.person("ada", **options))
        return self.people[-1]

    def close(self) -> None:
        for person in self.people:
            person.http.close()


@dataclass(frozen=True)
class Spent:
    """A code that was exchanged, by whom, and when."""

    rp: Rp
    arrival: Arrival
    tokens: dict[str, Any]
    at: float


@pytest.fixture(scope="module")
def client(stand: Stand) -> dict[str, Any]:
    return stand.web_client(CALLBACK, "--post-logout-redirect-uri", SIGNED_OUT)


@pytest.fixture(scope="module")
def spent(stand: Stand, client: dict[str, Any]) -> Spent:
    rp = Rp(stand, client, CALLBACK)
    with stand.person("ada") as person:
        arrival = rp.authorize(person)
        return Spent(rp, arrival, rp.redeem(arrival), time.monotonic())


@pytest.fixture
def scene(stand: Stand, client: dict[str, Any], spent: Spent) -> Iterator[Scene]:
    made = Scene(stand, client, spent)
    yield made
    made.close()


def params(plan: Plan) -> list[Any]:
    return [pytest.param(each, id=each.id) for each in plan.cases.values()]


def stopped(attempt: Any) -> StoppedError:
    """The browser was not sent away: the page that it stays on."""
    with pytest.raises(StoppedError) as caught:
        attempt()
    return caught.value


def stays_here(error: StoppedError, stand: Stand) -> None:
    """An error that the person reads, at the server."""
    assert error.answer.status_code in (400, 403), error
    assert str(error.answer.url).startswith(stand.issuer)
    assert "text/html" in error.answer.headers["content-type"]


def check_answer(rp: Rp, arrival: Arrival) -> None:
    """RFC 6749 §4.1.2 and RFC 9207 §2: the state that was sent, and who answers."""
    assert arrival.parameters["state"] == rp.state
    assert arrival.parameters["iss"] == rp.metadata["issuer"]


def claims_for(scene: Scene, scope: str) -> dict[str, Any]:
    rp, person = scene.rp(scope), scene.person()
    tokens = rp.sign_in(person)
    answer = rp.userinfo(tokens["access_token"])
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["sub"] == rp.id_token(tokens["id_token"])[1]["sub"]
    return found


# The basic plan


@basic.case(
    "server",
    "The code flow gives an ID token that is right in all its parts, and userinfo tells of the same person.",
    standards=("OIDC Core §2 (1)", "OIDC Core §2 (2)", "OIDC Core §3.1.3.3 (1)", "OIDC Core §5.1 (1)",
               "RFC 6749 §4.1.2 (4)", "RFC 6749 §5.1 (1)", "RFC 6749 §5.1 (2)", "RFC 9207 §2 (1)", "RFC 9207 §2 (2)",
               "OIDC Core §3.1.2.3 (1)", "RFC 9700 §4.4.2 (1)"),
)  # fmt: skip
def server(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    arrival = rp.authorize(person)
    check_answer(rp, arrival)
    answer = rp.exchange(arrival.parameters["code"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens["token_type"].lower() == "bearer"
    assert tokens["expires_in"] > 0
    claims = rp.id_token(tokens["id_token"])[1]
    assert claims["nonce"] == rp.nonce
    assert rp.userinfo(tokens["access_token"]).json()["sub"] == claims["sub"]
    assert any(path.endswith("/sign-in") for path in person.seen)


@basic.case(
    "response-type-missing",
    "A request that does not say what it wants is an error.",
    standards=("RFC 6749 §3.1.1 (1)", "RFC 6749 §4.1.2.1 (1)"),
)
def response_type_missing(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.authorize(scene.person(), response_type=None)
    assert arrival.error in ("invalid_request", "unsupported_response_type")
    check_answer(rp, arrival)


@basic.case(
    "idtoken-signature",
    "The ID token is signed by a published key that its header names.",
    standards=("OIDC Core §2 (4)", "OIDC Core §10.1 (1)"),
)
def idtoken_signature(scene: Scene) -> None:
    rp = scene.rp()
    header, _ = rp.id_token(rp.sign_in(scene.person())["id_token"])
    published = {key["kid"]: key for key in rp.http.get(rp.metadata["jwks_uri"]).json()["keys"]}
    assert header["alg"] in rp.metadata["id_token_signing_alg_values_supported"]
    assert published[header["kid"]].get("use", "sig") == "sig"
    assert "d" not in published[header["kid"]]


@basic.case(
    "idtoken-unsigned",
    "Unsigned ID tokens, which a provider may offer for the code flow.",
    standards=("OIDC Core §2 (4)",),
    differs="not offered: `none` is never an algorithm here, which is asserted",
)
def idtoken_unsigned(scene: Scene) -> None:
    assert "none" not in scene.rp().metadata["id_token_signing_alg_values_supported"]


@basic.case("userinfo-get", "Userinfo by GET, the token in the header.", standards=("OIDC Core §5.3 (1)",))
def userinfo_get(scene: Scene) -> None:
    rp = scene.rp()
    answer = rp.userinfo(rp.sign_in(scene.person())["access_token"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")


@basic.case(
    "userinfo-post-header",
    "Userinfo by POST, the token in the header.",
    standards=("OIDC Core §5.3 (1)", "OIDC Core §5.3.1 (1)", "RFC 6750 §2.1 (1)"),
)
def userinfo_post_header(scene: Scene) -> None:
    rp = scene.rp()
    assert rp.userinfo(rp.sign_in(scene.person())["access_token"], "POST").json()["sub"]


@basic.case(
    "userinfo-post-body",
    "Userinfo by POST, the token in the form, which RFC 6750 §2.2 leaves to the server.",
    standards=("RFC 6750 §3 (1)",),
    differs="refused on purpose, with the challenge for a token that is missing: tokens travel in headers alone",
)
def userinfo_post_body(scene: Scene) -> None:
    rp = scene.rp()
    token = rp.sign_in(scene.person())["access_token"]
    answer = rp.http.post(rp.endpoint("userinfo_endpoint"), data={"access_token": token})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@basic.case(
    "ensure-request-without-nonce-succeeds-for-code-flow", "A request without `nonce` is fine; the ID token has none."
)
def without_nonce(scene: Scene) -> None:
    rp = scene.rp()
    assert "nonce" not in rp.id_token(rp.sign_in(scene.person(), nonce=None)["id_token"])[1]


@basic.case("scope-profile", "`profile` opens the claims of the profile.", standards=("OIDC Core §5.4 (1)",))
def scope_profile(scene: Scene) -> None:
    found = claims_for(scene, "openid profile")
    assert found["name"] == "Ada"
    assert "email" not in found


@basic.case("scope-email", "`email` opens the address and whether it is verified.", standards=("OIDC Core §5.4 (1)",))
def scope_email(scene: Scene) -> None:
    found = claims_for(scene, "openid email")
    assert found["email"] == "ada@example.com"
    assert isinstance(found["email_verified"], bool)
    assert "name" not in found


NOT_KEPT = "not kept of people, so not in `scopes_supported`, where the plan skips the module; refused by name"


@basic.case("scope-address", "`address` opens the address.", differs=NOT_KEPT)
def scope_address(scene: Scene) -> None:
    not_offered(scene, "address")


@basic.case("scope-phone", "`phone` opens the telephone number.", differs=NOT_KEPT)
def scope_phone(scene: Scene) -> None:
    not_offered(scene, "phone")


def not_offered(scene: Scene, scope: str) -> None:
    rp = scene.rp(f"openid {scope}")
    assert scope not in rp.metadata["scopes_supported"]
    assert rp.authorize(scene.person()).error == "invalid_scope"


@basic.case("scope-all", "All of the scopes of OpenID that are offered open together what each of them opens.")
def scope_all(scene: Scene) -> None:
    rp = scene.rp()
    offered = [each for each in rp.metadata["scopes_supported"] if each in ("profile", "email", "address", "phone")]
    found = claims_for(scene, " ".join(["openid", *offered]))
    assert found["name"] == "Ada"
    assert found["email"] == "ada@example.com"


@basic.case("ensure-other-scope-order-succeeds", "`openid` need not come first.")
def other_scope_order(scene: Scene) -> None:
    assert claims_for(scene, "email openid")["email"] == "ada@example.com"


@basic.case("display-page", "`display=page` is fine.", standards=("OIDC Core §3.1.2.1 (8)",))
def display_page(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), display="page")


@basic.case("display-popup", "`display=popup` is fine.", standards=("OIDC Core §3.1.2.1 (8)",))
def display_popup(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), display="popup")


@basic.case(
    "prompt-login",
    "`prompt=login` asks somebody who is signed in for credentials again; `auth_time` is later.",
    standards=("OIDC Core §3.1.2.1 (5)",),
)
def prompt_login(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    first = rp.id_token(rp.sign_in(person, max_age=10_000)["id_token"])[1]
    time.sleep(1.1)
    person.seen.clear()
    second = rp.id_token(rp.sign_in(person, prompt="login", max_age=10_000)["id_token"])[1]
    assert any(path.endswith("/sign-in") for path in person.seen)
    assert second["auth_time"] > first["auth_time"]
    assert second["sub"] == first["sub"]


@basic.case(
    "prompt-none-not-logged-in",
    "`prompt=none` without a session is answered at once, by an error at the client.",
    standards=("OIDC Core §3.1.2.1 (3)", "OIDC Core §3.1.2.6 (1)"),
)
def prompt_none_not_logged_in(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    arrival = rp.authorize(person, prompt="none")
    assert arrival.error == "login_required"
    check_answer(rp, arrival)
    assert person.seen == []


@basic.case(
    "prompt-none-logged-in",
    "`prompt=none` with a session gives a code without a page; person and `auth_time` are the same.",
    standards=("OIDC Core §3.1.2.1 (3)",),
)
def prompt_none_logged_in(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    first = rp.id_token(rp.sign_in(person, max_age=10_000)["id_token"])[1]
    person.seen.clear()
    second = rp.id_token(rp.sign_in(person, prompt="none", max_age=10_000)["id_token"])[1]
    assert person.seen == []
    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


@basic.case(
    "max-age-1",
    "`max_age=1` a while after signing in asks for credentials again; `auth_time` is there, and later.",
    standards=("OIDC Core §3.1.2.1 (7)", "OIDC Core §2 (3)"),
)
def max_age_1(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    first = rp.id_token(rp.sign_in(person, max_age=10_000)["id_token"])[1]
    time.sleep(2.1)
    person.seen.clear()
    second = rp.id_token(rp.sign_in(person, max_age=1)["id_token"])[1]
    assert any(path.endswith("/sign-in") for path in person.seen)
    assert second["auth_time"] > first["auth_time"]


@basic.case(
    "max-age-10000",
    "`max_age=10000` shortly after signing in asks nothing; `auth_time` stays.",
    standards=("OIDC Core §2 (3)",),
)
def max_age_10000(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    first = rp.id_token(rp.sign_in(person, max_age=10_000)["id_token"])[1]
    time.sleep(1.1)
    person.seen.clear()
    second = rp.id_token(rp.sign_in(person, max_age=10_000)["id_token"])[1]
    assert not any(path.endswith("/sign-in") for path in person.seen)
    assert second["auth_time"] == first["auth_time"]


@basic.case(
    "ensure-request-with-unknown-parameter-succeeds",
    "A parameter that nobody knows is passed over.",
    standards=("OIDC Core §3.1.2.2 (1)", "RFC 6749 §3.1 (1)"),
)
def unknown_parameter(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), extra="foobar")


@basic.case(
    "id-token-hint",
    "`id_token_hint` with `prompt=none` goes on as the person of the hint.",
    standards=("OIDC Core §3.1.2.1 (9)",),
)
def id_token_hint(scene: Scene) -> None:
    rp, person = scene.rp(), scene.person()
    first = rp.sign_in(person)
    second = rp.sign_in(person, prompt="none", id_token_hint=first["id_token"])
    assert rp.id_token(second["id_token"])[1]["sub"] == rp.id_token(first["id_token"])[1]["sub"]
    # Somebody else's hint must not be answered with this person's tokens.
    with scene.stand.person("bob") as other:
        foreign = scene.rp().sign_in(other)["id_token"]
    assert rp.authorize(person, prompt="none", id_token_hint=foreign).error == "login_required"


@basic.case("login-hint", "`login_hint` is fine.", standards=("OIDC Core §3.1.2.1 (8)",))
def login_hint(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), login_hint="ada@example.com")


@basic.case("ui-locales", "`ui_locales` is fine.", standards=("OIDC Core §3.1.2.1 (8)",))
def ui_locales(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), ui_locales="se de")


@basic.case("claims-locales", "`claims_locales` is fine.", standards=("OIDC Core §3.1.2.1 (8)",))
def claims_locales(scene: Scene) -> None:
    scene.rp().sign_in(scene.person(), claims_locales="se")


@basic.case(
    "ensure-request-with-acr-values-succeeds",
    "`acr_values` that nobody knows are a wish that is passed over.",
    standards=("OIDC Core §3.1.2.1 (10)",),
)
def acr_values(scene: Scene) -> None:
    rp = scene.rp()
    claims = rp.id_token(rp.sign_in(scene.person(), acr_values="1 2")["id_token"])[1]
    assert claims.get("acr") not in ("1", "2")


@basic.case(
    "codereuse", "A code that was used is refused.", standards=("RFC 6749 §4.1.2 (2)", "OIDC Core §3.1.3.2 (1)")
)
def codereuse(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.authorize(scene.person())
    tokens = rp.redeem(arrival)
    again = rp.exchange(arrival.parameters["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    # RFC 6749 §4.1.2: somebody else may have the first tokens.
    assert rp.userinfo(tokens["access_token"]).status_code == 401


@basic.case(
    "codereuse-30seconds",
    "A code that was used is refused after half a minute too, and what it gave no longer works.",
    standards=("RFC 6749 §4.1.2 (2)",),
)
def codereuse_30seconds(scene: Scene) -> None:
    spent = scene.spent
    time.sleep(max(0.0, spent.at + CODE_WAITS - time.monotonic()))
    assert spent.rp.userinfo(spent.tokens["access_token"]).status_code == 200
    again = spent.rp.exchange(spent.arrival.parameters["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert spent.rp.userinfo(spent.tokens["access_token"]).status_code == 401


@basic.case(
    "ensure-registered-redirect-uri",
    "A redirect URI that is not registered gets an error page; the browser stays.",
    standards=("RFC 6749 §3.1.2.3 (1)", "RFC 6749 §3.1.2.4 (1)", "RFC 9700 §2.1 (2)"),
)
def registered_redirect_uri(scene: Scene) -> None:
    rp = scene.rp()
    elsewhere = "https://elsewhere.example/callback"
    error = stopped(lambda: scene.person().visit(rp.url(rp.parameters(redirect_uri=elsewhere)), elsewhere))
    stays_here(error, scene.stand)


@basic.case(
    "ensure-post-request-succeeds",
    "The authorization request may be a form that is posted.",
    standards=("OIDC Core §3.1.2.1 (1)",),
)
def post_request(scene: Scene) -> None:
    rp = scene.rp()
    arrival = scene.person().post(rp.metadata["authorization_endpoint"], rp.parameters(), CALLBACK)
    assert "id_token" in rp.redeem(arrival)


@basic.case(
    "server-client-secret-post",
    "The client proves itself by a secret in the form.",
    differs="refused on purpose: a secret belongs in a header, not in bodies that are logged and replayed; Basic, "
    "private keys and certificates are offered (RFC 6749 §2.3.1 calls it NOT RECOMMENDED)",
)
def client_secret_post(scene: Scene) -> None:
    rp = scene.rp()
    assert "client_secret_post" not in rp.metadata["token_endpoint_auth_methods_supported"]
    arrival = rp.authorize(scene.person())
    secret = {"client_id": rp.client_id, "client_secret": scene.client["client_secret"]}
    form = {"grant_type": "authorization_code", "code": arrival.parameters["code"], "redirect_uri": CALLBACK}
    answer = rp.http.post(rp.endpoint("token_endpoint"), data={**form, "code_verifier": rp.verifier, **secret})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    # Nothing was spent by that.
    assert rp.exchange(arrival.parameters["code"]).status_code == 200


@basic.case(
    "request-uri-unsigned-supported-correctly-or-rejected-as-unsupported",
    "A request object by reference is understood, or refused by name.",
    standards=("OIDC Core §6.2 (1)", "RFC 9101 §5.2 (1)"),
)
def request_uri(scene: Scene) -> None:
    rp = scene.rp()
    assert rp.metadata.get("request_uri_parameter_supported") is False
    url = rp.url(rp.parameters(request_uri="https://rp.example/request.jwt"))
    outcome = scene.person().try_to_visit(url, CALLBACK)
    if isinstance(outcome, Arrival):
        assert outcome.error in ("request_uri_not_supported", "invalid_request_uri")
    else:
        assert outcome.status_code == 400
        assert "request_uri" in outcome.text


def request_object(**claims: Any) -> str:
    """An unsigned request object."""
    import json

    parts = ({"alg": "none"}, claims)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@basic.case(
    "unsigned-request-object-supported-correctly-or-rejected-as-unsupported",
    "A request object by value is understood, or refused by name.",
    standards=("OIDC Core §6.1 (1)", "RFC 9101 §6.1 (1)"),
)
def unsigned_request_object(scene: Scene) -> None:
    rp = scene.rp()
    assert not rp.metadata.get("request_parameter_supported")
    assert rp.authorize(scene.person(), request=request_object(state="other")).error == "request_not_supported"


@basic.case("claims-essential", "A claim may be asked for as essential.", standards=("OIDC Core §5.5 (1)",))
def claims_essential(scene: Scene) -> None:
    rp = scene.rp()
    tokens = rp.sign_in(scene.person(), claims='{"userinfo":{"name":{"essential":true}}}')
    assert rp.userinfo(tokens["access_token"]).status_code == 200


@basic.case(
    "ensure-request-object-with-redirect-uri",
    "The redirect URI inside a request object counts, so one that is not registered is refused.",
    standards=("RFC 9101 §6.1 (1)",),
    differs="request objects are not offered: refused as such, and the address inside is never used",
)
def request_object_redirect(scene: Scene) -> None:
    rp = scene.rp()
    inside = request_object(redirect_uri="https://elsewhere.example/callback")
    arrival = rp.authorize(scene.person(), request=inside)
    assert arrival.error == "request_not_supported"


@basic.case(
    "refresh-token",
    "A refresh gives tokens for the same person; the new ID token agrees with the first; another client's refresh "
    "with that token is refused.",
    standards=("OIDC Core §12.1 (1)", "OIDC Core §12.2 (1)", "RFC 6749 §6 (1)", "RFC 6749 §6 (3)"),
)
def refresh_token(scene: Scene) -> None:
    rp, person = scene.rp("openid offline_access"), scene.person()
    first = rp.sign_in(person, prompt="consent")
    before = rp.id_token(first["id_token"])[1]
    other = Rp(scene.stand, scene.stand.web_client(CALLBACK), CALLBACK)
    stolen = other.refresh(first["refresh_token"])
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    answer = rp.refresh(first["refresh_token"])
    assert answer.status_code == 200, answer.text
    second = answer.json()
    assert second["access_token"] != first["access_token"]
    if "id_token" in second:
        after = rp.id_token(second["id_token"])[1]
        assert [after[name] for name in ("iss", "sub", "aud")] == [before[name] for name in ("iss", "sub", "aud")]
        assert after.get("auth_time") == before.get("auth_time")
        assert after["iat"] >= before["iat"]
    assert rp.userinfo(second["access_token"]).json()["sub"] == before["sub"]


@basic.case(
    "ensure-request-with-valid-pkce-succeeds",
    "PKCE by S256 is understood; here every request has it, and one without is refused.",
    standards=("RFC 7636 §4.2 (1)", "RFC 7636 §4.4 (1)", "RFC 7636 §4.4.1 (1)", "RFC 7636 §4.6 (1)",
               "OAuth 2.1 §4.1.1 (1)"),
)  # fmt: skip
def valid_pkce(scene: Scene) -> None:
    rp = scene.rp()
    arrival = rp.authorize(scene.person())
    wrong = rp.exchange(arrival.parameters["code"], code_verifier="x" * 43)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    assert "id_token" in scene.rp().sign_in(scene.person())
    bare = rp.authorize(scene.person(), code_challenge=None, code_challenge_method=None)
    assert bare.error == "invalid_request"


BASIC_PLAN = """
server response-type-missing idtoken-signature idtoken-unsigned userinfo-get userinfo-post-header userinfo-post-body
ensure-request-without-nonce-succeeds-for-code-flow scope-profile scope-email scope-address scope-phone scope-all
ensure-other-scope-order-succeeds display-page display-popup prompt-login prompt-none-not-logged-in
prompt-none-logged-in max-age-1 max-age-10000 ensure-request-with-unknown-parameter-succeeds id-token-hint login-hint
ui-locales claims-locales ensure-request-with-acr-values-succeeds codereuse codereuse-30seconds
ensure-registered-redirect-uri ensure-post-request-succeeds server-client-secret-post
request-uri-unsigned-supported-correctly-or-rejected-as-unsupported
unsigned-request-object-supported-correctly-or-rejected-as-unsupported claims-essential
ensure-request-object-with-redirect-uri refresh-token ensure-request-with-valid-pkce-succeeds
"""


@pytest.mark.parametrize("case", params(basic))
def test_basic_plan(case: Any, scene: Scene) -> None:
    case.run(scene)


def test_basic_plan_is_whole() -> None:
    assert list(basic.cases) == [f"oidcc-{name}" for name in BASIC_PLAN.split()]


@pytest.mark.standard("OIDC Core §3.1.2.1 (1)")
def test_the_answer_may_be_a_form_that_posts_itself(scene: Scene) -> None:
    """`oidcc-formpost-basic-certification-test-plan`: oidcc-server with `response_mode=form_post`."""
    rp = scene.rp()
    arrival = rp.authorize(scene.person(), response_mode="form_post")
    assert urlsplit(arrival.url).query == ""
    check_answer(rp, arrival)
    assert "id_token" in rp.redeem(arrival)


# The configuration plan


@config.case(
    "discovery-endpoint-verification",
    "The metadata is whole, true, of this issuer, and over https throughout.",
    standards=("OIDC Discovery §3 (1)", "OIDC Discovery §3 (2)", "OIDC Discovery §4 (1)", "OIDC Discovery §4.2 (1)",
               "OIDC Discovery §4.3 (1)", "RFC 8414 §2 (1)", "RFC 8414 §2 (2)", "RFC 8414 §2 (4)", "RFC 8414 §3.2 (1)",
               "RFC 8414 §3.3 (1)", "RFC 9207 §3 (1)"),
)  # fmt: skip
def discovery(scene: Scene) -> None:
    with scene.stand.http() as http:
        answer = http.get("/.well-known/openid-configuration")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        found = answer.json()
        assert found["issuer"] == scene.stand.issuer
        needed = (
            "authorization_endpoint token_endpoint userinfo_endpoint jwks_uri end_session_endpoint revocation_endpoint "
            "introspection_endpoint pushed_authorization_request_endpoint device_authorization_endpoint"
        )
        for name in needed.split():
            assert found[name].startswith(f"{scene.stand.issuer}/"), name
        assert found["response_types_supported"] == ["code"]
        assert {"query", "form_post"} >= set(found["response_modes_supported"])
        assert found["subject_types_supported"] == ["public"]
        assert found["id_token_signing_alg_values_supported"] == ["ES256"]
        assert "openid" in found["scopes_supported"]
        assert found["code_challenge_methods_supported"] == ["S256"]
        assert found["authorization_response_iss_parameter_supported"] is True
        assert found.get("request_uri_parameter_supported") is False
        assert {"sub", "name", "email", "email_verified"} <= set(found["claims_supported"])
        for name, value in found.items():
            assert value not in ([], "", None), name
            if name.endswith("_alg_values_supported"):
                assert "none" not in value, name
                assert not [each for each in value if each.startswith("HS")], name
            if name.endswith(("_endpoint", "_uri")) and isinstance(value, str):
                assert value.startswith("https://"), name
        keys = http.get(found["jwks_uri"]).json()["keys"]
        assert len({key["kid"] for key in keys}) == len(keys)
        assert not [key for key in keys if {"d", "p", "q", "k"} & key.keys()]
        assert http.get("/.well-known/oauth-authorization-server").json()["issuer"] == scene.stand.issuer


@pytest.mark.parametrize("case", params(config))
def test_config_plan(case: Any, scene: Scene) -> None:
    case.run(scene)


# Of the dynamic plan, what concerns redirect URIs


@dynamic.case(
    "redirect-uri-query-OK",
    "A registered query of the redirect URI stays; the answer comes beside it.",
    standards=("RFC 6749 §3.1.2 (1)",),
)
def redirect_query(scene: Scene) -> None:
    uri = f"{CALLBACK}?foo=bar"
    rp = Rp(scene.stand, scene.stand.web_client(uri), uri)
    arrival = rp.authorize(scene.person())
    assert arrival.parameters["foo"] == "bar"
    assert "id_token" in rp.redeem(arrival)


@dynamic.case(
    "redirect-uri-query-added",
    "A query that was not registered makes another address of it: an error page.",
    standards=("RFC 9700 §2.1 (1)", "OAuth 2.1 §2.3.1 (1)"),
)
def redirect_query_added(scene: Scene) -> None:
    rp = scene.rp()
    uri = f"{CALLBACK}?foo=bar"
    error = stopped(lambda: scene.person().visit(rp.url(rp.parameters(redirect_uri=uri)), CALLBACK))
    stays_here(error, scene.stand)


@dynamic.case(
    "redirect-uri-query-mismatch",
    "So does another query than the registered one.",
    standards=("RFC 9700 §2.1 (1)", "RFC 9700 §4.1.3 (1)"),
)
def redirect_query_mismatch(scene: Scene) -> None:
    rp = Rp(scene.stand, scene.stand.web_client(f"{CALLBACK}?foo=bar"), f"{CALLBACK}?foo=bar")
    uri = f"{CALLBACK}?foo=baz"
    error = stopped(lambda: scene.person().visit(rp.url(rp.parameters(redirect_uri=uri)), CALLBACK))
    stays_here(error, scene.stand)


@dynamic.case(
    "redirect-uri-regfrag", "A redirect URI with a fragment is not registered.", standards=("RFC 6749 §3.1.2 (1)",)
)
def redirect_fragment(scene: Scene) -> None:
    options = ("--grant", "authorization_code", "--redirect-uri", f"{CALLBACK}#frag")
    refused = scene.stand.stack.cli("client", "create", "fragment", *options)
    assert refused.returncode != 0
    assert "fragment" in refused.stderr


@dynamic.case(
    "ensure-redirect-uri-in-authorization-request",
    "A request without redirect URI gets an error page.",
    standards=("RFC 6749 §3.1.2.3 (1)",),
)
def redirect_missing(scene: Scene) -> None:
    rp = scene.rp()
    error = stopped(lambda: scene.person().visit(rp.url(rp.parameters(redirect_uri=None)), CALLBACK))
    stays_here(error, scene.stand)


@pytest.mark.parametrize("case", params(dynamic))
def test_redirect_uris_of_the_dynamic_plan(case: Any, scene: Scene) -> None:
    case.run(scene)


# The plan of signing out


def leave_url(rp: Rp, **parameters: Any) -> str:
    from urllib.parse import urlencode

    return f"{rp.metadata['end_session_endpoint']}?{urlencode(present(parameters))}".rstrip("?")


def signed_in(scene: Scene) -> tuple[Rp, Person, str]:
    rp, person = scene.rp(), scene.person()
    return rp, person, rp.sign_in(person)["id_token"]


def is_signed_out(rp: Rp, person: Person) -> bool:
    return rp.authorize(person, prompt="none").error == "login_required"


def leave(rp: Rp, person: Person, **parameters: Any) -> StoppedError:
    """Sign out, confirming where asked; the browser must stay at the server."""
    return stopped(lambda: person.visit(leave_url(rp, **parameters), SIGNED_OUT))


@logout.case(
    "-discovery-endpoint-verification", "The metadata names the endpoint.", standards=("OIDC Logout §2.1 (1)",)
)
def logout_discovery(scene: Scene) -> None:
    assert scene.rp().metadata["end_session_endpoint"].startswith("https://")


@logout.case(
    "",
    "With hint, registered address and state the browser comes back with the state, signed out.",
    standards=("OIDC Logout §3 (2)", "OIDC Logout §2 (1)", "OIDC Logout §2 (2)"),
)
def logout_whole(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    url = leave_url(rp, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT, state="xyz")
    assert person.visit(url, SIGNED_OUT).parameters == {"state": "xyz"}
    assert is_signed_out(rp, person)
    # The same by POST.
    rp, person, hint = signed_in(scene)
    form = {"id_token_hint": hint, "post_logout_redirect_uri": SIGNED_OUT, "state": "xyz"}
    assert person.post(rp.metadata["end_session_endpoint"], form, SIGNED_OUT).parameters == {"state": "xyz"}
    assert is_signed_out(rp, person)


@logout.case(
    "-bad-post-logout-redirect-uri",
    "An address that is not registered is never gone to.",
    standards=("OIDC Logout §3 (1)",),
)
def logout_bad_address(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    bad = "https://elsewhere.example/bye"
    error = stopped(
        lambda: person.visit(leave_url(rp, id_token_hint=hint, post_logout_redirect_uri=bad, state="x"), bad)
    )
    assert str(error.answer.url).startswith(scene.stand.issuer)


@logout.case("-modified-id-token-hint", "A hint whose signature does not hold leads nowhere.")
def logout_modified_hint(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    head, body, signature = hint.split(".")
    # The last characters of a signature may hold unused bits; the first do not.
    modified = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    leave(rp, person, id_token_hint=modified, post_logout_redirect_uri=SIGNED_OUT, state="x")


@logout.case(
    "-no-id-token-hint",
    "Without a hint the person is asked; without knowing who asks, the browser stays.",
    standards=("OIDC Logout §2 (3)",),
)
def logout_no_hint(scene: Scene) -> None:
    rp, person, _ = signed_in(scene)
    page = person.page(leave_url(rp, post_logout_redirect_uri=SIGNED_OUT, state="x"))
    assert str(page.url).startswith(scene.stand.issuer)
    assert not is_signed_out(rp, person)


@logout.case("-no-params", "Without anything the person is asked, then signed out.", standards=("OIDC Logout §2 (3)",))
def logout_no_parameters(scene: Scene) -> None:
    rp, person, _ = signed_in(scene)
    person.page(leave_url(rp))
    assert not is_signed_out(rp, person)
    leave(rp, person)
    assert is_signed_out(rp, person)


@logout.case("-no-post-logout-redirect-uri", "With a hint alone the person ends on a page that says so.")
def logout_hint_alone(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    assert leave(rp, person, id_token_hint=hint, state="x").answer.status_code == 200
    assert is_signed_out(rp, person)


@logout.case("-no-state", "Without state the browser comes back without.", standards=("OIDC Logout §3 (2)",))
def logout_no_state(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    arrival = person.visit(leave_url(rp, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT), SIGNED_OUT)
    assert arrival.parameters == {}
    assert is_signed_out(rp, person)


@logout.case("-only-state", "With a state alone the person is asked, and stays.", standards=("OIDC Logout §2 (3)",))
def logout_only_state(scene: Scene) -> None:
    rp, person, _ = signed_in(scene)
    person.page(leave_url(rp, state="x"))
    assert not is_signed_out(rp, person)
    leave(rp, person, state="x")
    assert is_signed_out(rp, person)


@logout.case(
    "-query-added-to-post-logout-redirect-uri",
    "A query that was not registered makes another address of it.",
    standards=("OIDC Logout §3 (1)",),
)
def logout_query_added(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    leave(rp, person, id_token_hint=hint, post_logout_redirect_uri=f"{SIGNED_OUT}?foo=bar", state="x")


@logout.case("-bad-id-token-hint", "A hint that somebody else signed leads nowhere.")
def logout_bad_hint(scene: Scene) -> None:
    rp, person, hint = signed_in(scene)
    payload = jws.extract_compact(hint.encode()).payload
    import json

    forged = jwt.encode({"alg": "ES256"}, json.loads(payload), ECKey.generate_key("P-256"), ["ES256"])
    leave(rp, person, id_token_hint=forged, post_logout_redirect_uri=SIGNED_OUT, state="x")


@pytest.mark.standard("OIDC Logout §2 (2)", "OIDC Logout §2 (4)")
def test_the_id_token_of_a_refresh_signs_out_that_sign_in_and_no_other(scene: Scene) -> None:
    rp, person = scene.rp("openid offline_access"), scene.person()
    first = rp.sign_in(person, prompt="consent")
    hint = rp.refresh(first["refresh_token"]).json()["id_token"]
    parameters = {"id_token_hint": hint, "post_logout_redirect_uri": SIGNED_OUT}
    time.sleep(1.1)
    other = scene.person()
    rp.sign_in(other)
    page = other.page(leave_url(rp, **parameters))
    assert str(page.url).startswith(scene.stand.issuer)
    assert not is_signed_out(rp, other)
    assert person.page(leave_url(rp, **parameters), stop_at=SIGNED_OUT).is_redirect
    assert is_signed_out(rp, person)


@pytest.mark.parametrize("case", params(logout))
def test_logout_plan(case: Any, scene: Scene) -> None:
    case.run(scene)
