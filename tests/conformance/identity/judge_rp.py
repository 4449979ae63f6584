"""A relying party that can be told to do anything: well-behaved by default, and each request changed as a case asks.

A value of None leaves a parameter away. Nothing of the server's own code is used here; tokens are read and proofs are
made with joserfc.
"""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import httpx
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, import_key

if TYPE_CHECKING:
    from joserfc.jwk import Key
    from judge_person import Arrival, Person
    from judge_stand import Certificate, Stand

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ANY_HEADER = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
ALGORITHMS = ["ES256", "EdDSA", "Ed25519", "PS256", "RS256"]


def s256(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def present(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


@dataclass
class Dpop:
    """A key and the nonce that each server gave last."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    nonces: dict[str, str] = field(default_factory=dict)

    @property
    def jkt(self) -> str:
        return str(self.key.thumbprint())

    def proof(
        self, method: str, url: str, token: str | None = None, *, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A proof for this request. Claims and header members given here stand in place of the right ones."""
        origin = "/".join(url.split("/")[:3])
        right = {
            "jti": secrets.token_hex(16),
            "htm": method,
            "htu": url.partition("?")[0],
            "iat": int(time.time()),
            "ath": s256(token) if token else None,
            "nonce": self.nonces.get(origin),
        }
        payload = {name: value for name, value in {**right, **claims}.items() if value is not None}
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.as_dict(private=False), **(header or {})}
        return str(jwt.encode({k: v for k, v in head.items() if v is not None}, payload, self.key, registry=ANY_HEADER))

    def learn(self, answer: httpx.Response) -> bool:
        """Keep the nonce of an answer. True where the request should be made again with it."""
        nonce = answer.headers.get("dpop-nonce")
        if nonce is None:
            return False
        origin = f"{answer.url.scheme}://{answer.url.netloc.decode()}"
        before, self.nonces[origin] = self.nonces.get(origin), nonce
        challenge = answer.headers.get("www-authenticate", "")
        asked = answer.status_code in (400, 401) and "use_dpop_nonce" in f"{challenge} {answer.text}"
        return asked and before != nonce


class Rp:
    """A client. `key` proves it by assertion, `certificate` by TLS, else its secret, else nothing does."""

    def __init__(
        self,
        stand: Stand,
        client: dict[str, Any],
        redirect_uri: str,
        *,
        scope: str = "openid",
        key: Key | None = None,
        certificate: Certificate | None = None,
        dpop: Dpop | None = None,
    ) -> None:
        self.stand, self.client, self.redirect_uri, self.scope = stand, client, redirect_uri, scope
        self.key, self.certificate, self.dpop = key, certificate, dpop
        self.metadata = stand.metadata()
        self.http = stand.shared_http(certificate)
        self.verifier = ""
        self.state = ""
        self.nonce = ""

    @property
    def client_id(self) -> str:
        return str(self.client["client_id"])

    def endpoint(self, name: str) -> str:
        """The URL of an endpoint; the one that asks for certificates where the client has one."""
        aliases = self.metadata.get("mtls_endpoint_aliases", {}) if self.certificate else {}
        return str(aliases.get(name, self.metadata[name]))

    # Authorization

    def parameters(self, **changes: Any) -> dict[str, str]:
        """A fresh authorization request."""
        self.verifier, self.state, self.nonce = (secrets.token_urlsafe(32) for _ in range(3))
        right = {
            "client_id": self.client_id,
            "response_type": "code",
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": s256(self.verifier),
            "code_challenge_method": "S256",
        }
        return present({**right, **changes})

    def url(self, parameters: dict[str, str]) -> str:
        return f"{self.metadata['authorization_endpoint']}?{urlencode(parameters)}"

    def authorize(self, person: Person, **changes: Any) -> Arrival:
        """Send a person to the server; where the browser comes back."""
        return person.visit(self.url(self.parameters(**changes)), self.redirect_uri)

    def push(self, parameters: dict[str, str], *, proof: bool = False, **client: Any) -> httpx.Response:
        """RFC 9126; `client` changes how the client proves itself."""
        url = self.endpoint("pushed_authorization_request_endpoint")
        return self.send(url, parameters, proof=proof, **client)

    def pushed(self, person: Person, *, proof: bool = False, **changes: Any) -> Arrival:
        """Push a request, then send a person with its `request_uri`."""
        answer = self.push(self.parameters(**changes), proof=proof)
        assert answer.status_code == 201, answer.text
        return person.visit(self.pushed_url(answer.json()["request_uri"]), self.redirect_uri)

    def pushed_url(self, request_uri: str, **changes: Any) -> str:
        return self.url(present({"client_id": self.client_id, "request_uri": request_uri, **changes}))

    # Tokens

    def exchange(
        self, code: str, *, proof: str | bool = True, client: dict[str, Any] | None = None, **changes: Any
    ) -> httpx.Response:
        """The code for tokens. `client` changes how the client proves itself."""
        right = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
        }
        return self.send(self.endpoint("token_endpoint"), present({**right, **changes}), proof=proof, **(client or {}))

    def sign_in(self, person: Person, **changes: Any) -> dict[str, Any]:
        """The whole way to tokens, pushed where the server wants it."""
        wants = self.metadata.get("require_pushed_authorization_requests") or self.client.get(
            "require_pushed_authorization_requests"
        )
        arrival = self.pushed(person, **changes) if wants else self.authorize(person, **changes)
        return self.redeem(arrival)

    def redeem(self, arrival: Arrival) -> dict[str, Any]:
        """The tokens for where the browser came back."""
        assert arrival.error is None, arrival
        answer = self.exchange(arrival.parameters["code"])
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def refresh(self, refresh_token: str, **changes: Any) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **changes}
        return self.send(self.endpoint("token_endpoint"), present(form))

    def send(self, url: str, form: dict[str, str], *, proof: str | bool = True, **client: Any) -> httpx.Response:
        """POST a form as this client, with a proof where it has a key; again where a nonce is asked for."""
        for _ in range(2):
            headers, fields = self._credentials(**client)
            if isinstance(proof, str):
                headers["DPoP"] = proof
            elif proof and self.dpop is not None:
                headers["DPoP"] = self.dpop.proof("POST", url)
            answer = self.http.post(url, data={**form, **fields}, headers=headers)
            if isinstance(proof, str) or self.dpop is None or not self.dpop.learn(answer):
                break
        return answer

    def _credentials(self, **changes: Any) -> tuple[dict[str, str], dict[str, str]]:
        if self.key is not None:
            text = changes.pop("assertion", None) or self.assertion(**changes)
            return {}, {"client_id": self.client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": text}
        if self.certificate is not None or "client_secret" not in self.client:
            return {}, {"client_id": self.client_id}
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client['client_secret'])}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}, {}

    def assertion(self, *, alg: str | None = None, key: Key | None = None, **claims: Any) -> str:
        """A client assertion (RFC 7523); claims given here stand in place of the right ones."""
        now = int(time.time())
        right = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.metadata["issuer"],
            "jti": secrets.token_hex(16),
            "iat": now,
            "exp": now + 60,
        }
        payload = {name: value for name, value in {**right, **claims}.items() if value is not None}
        signing = key or self.key
        assert signing is not None
        algorithm = alg or str(signing.alg or "ES256")
        head = {"alg": algorithm, "kid": signing.kid}
        if algorithm == "none":
            return ".".join((_encoded(head), _encoded(payload), ""))
        # Without its own `alg` a key lets itself be used for another, which is what a case may want.
        bare = {name: value for name, value in signing.as_dict(private=True).items() if name != "alg"}
        return str(jwt.encode(head, payload, import_key(bare), [algorithm]))

    # What tokens say, and what they open

    def id_token(self, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of an ID token whose signature is that of a published key, and in order (Core §3.1.3.7)."""
        keys = KeySet.import_key_set(self.http.get(self.metadata["jwks_uri"]).json())
        token = jwt.decode(text, keys, ALGORITHMS)
        claims = token.claims
        assert claims["iss"] == self.metadata["issuer"]
        assert claims["aud"] in (self.client_id, [self.client_id])
        assert claims["exp"] > time.time() - 5
        assert abs(claims["iat"] - time.time()) < 300
        assert isinstance(claims["sub"], str)
        assert 0 < len(claims["sub"]) <= 255
        return token.header, claims

    def userinfo(self, token: str, method: str = "GET", *, scheme: str | None = None) -> httpx.Response:
        return self.resource(self.endpoint("userinfo_endpoint"), token, method, scheme=scheme)

    def resource(
        self, url: str, token: str, method: str = "GET", *, scheme: str | None = None, proof: str | None = None
    ) -> httpx.Response:
        """A call with a token, and a proof where there is a key; again where a nonce is asked for."""
        for _ in range(2):
            headers = {"Authorization": f"{scheme or ('DPoP' if self.dpop else 'Bearer')} {token}"}
            if self.dpop is not None:
                headers["DPoP"] = proof or self.dpop.proof(method, url, token)
            answer = self.http.request(method, url, headers=headers)
            if proof or self.dpop is None or not self.dpop.learn(answer):
                break
        return answer


def _encoded(value: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unverified(token: str) -> dict[str, Any]:
    """The claims as they stand, not believed."""
    found: dict[str, Any] = json.loads(jws.extract_compact(token.encode()).payload)
    return found
