"""What a DPoP-bound request costs the gate beside a bearer one: the same GET over TLS, with and without a proof.

The proofs are made beforehand, one for each request, each with an id of its own and the gate's nonce, so that the gate
verifies a signature and remembers an id every time, as it must.
"""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from bench.api import GET_TARGET
from bench.load import InvalidError, Rate, run_wrk, throughput

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers import Endpoint
    from bench.stockade_peer import BoundClient

# More than are sent, or the run has no result.
SPARE = 1.5
MOST_PROOFS = 200_000
FIRST_PER_SECOND = 20_000


class ProofKey:
    """A P-256 key that signs proofs (RFC 9449 §4.2), fast enough to make them by the ten thousand."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        jwk = {"kty": "EC", "crv": "P-256", "x": _b64(_bytes(numbers.x)), "y": _b64(_bytes(numbers.y))}
        self._header = _json({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk})

    def proof(self, method: str, url: str, **claims: str | None) -> str:
        """One proof; `nonce` and `ath` where given."""
        body = {"jti": secrets.token_hex(16), "htm": method, "htu": url, "iat": int(time.time())}
        text = f"{self._header}.{_json(body | {name: value for name, value in claims.items() if value})}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{_b64(_bytes(r) + _bytes(s))}"


def measure(
    work: Path, endpoint: Endpoint, client: BoundClient, pids: list[int], rounds: int, seconds: float
) -> tuple[float, Any]:
    """Share of the bearer rate that a core gives with DPoP, and the details. Raises InvalidError."""
    key = ProofKey()
    token = _token(key, client)
    bearer: list[Rate] = []
    bound: list[Rate] = []
    per_second = float(FIRST_PER_SECOND)
    for _round in range(rounds):
        bearer.append(throughput(endpoint, "GET", seconds, pids))
        bound.append(_bound(work, endpoint, key, token, pids, seconds, per_second))
        per_second = bound[-1].per_second
    costs = {name: median(rate.cpu_us for rate in rates) for name, rates in (("bearer", bearer), ("dpop", bound))}
    details = {
        "cpu_us_per_request": {name: round(value, 1) for name, value in costs.items()},
        "per_second": {
            "bearer": [round(rate.per_second) for rate in bearer],
            "dpop": [round(rate.per_second) for rate in bound],
        },
    }
    return round(costs["bearer"] / costs["dpop"], 3), details


def _bound(
    work: Path, endpoint: Endpoint, key: ProofKey, token: str, pids: list[int], seconds: float, per_second: float
) -> Rate:
    url = endpoint.url + GET_TARGET.partition("?")[0]
    ath = _b64(sha256(token.encode()).digest())
    nonce = _nonce(endpoint, key, token, url, ath)
    count = min(MOST_PROOFS, round(max(per_second, FIRST_PER_SECOND) * seconds * SPARE) + 1_000)
    file = work / "proofs"
    file.write_text("".join(key.proof("GET", url, nonce=nonce, ath=ath) + "\n" for _ in range(count)))
    environment = {"BENCH_PROOFS": str(file), "BENCH_TOKEN": token}
    return run_wrk("dpop.lua", endpoint.url + GET_TARGET, environment, seconds, pids)


def _nonce(endpoint: Endpoint, key: ProofKey, token: str, url: str, ath: str) -> str | None:
    """What the gate wants in proofs; None where it wants nothing."""
    status, headers, _ = _ask(endpoint.url, "GET", GET_TARGET, b"", _proved(token, key.proof("GET", url, ath=ath)))
    nonce = headers.get("DPoP-Nonce")
    if status != 200 and nonce is None:
        raise InvalidError(f"the gate answers a bound request with {status} and no nonce")
    return nonce


def _proved(token: str, proof: str) -> dict[str, str]:
    return {"Authorization": f"DPoP {token}", "DPoP": proof}


def _token(key: ProofKey, client: BoundClient) -> str:
    """An access token bound to the key (RFC 9449 §5), asked for again with the nonce where one is demanded (§8)."""
    form = urlencode({"grant_type": "client_credentials", "scope": "orders"}).encode()
    base, _, path = client.token_endpoint.partition("/oauth2")
    nonce: str | None = None
    for _ in range(2):
        proof = key.proof("POST", client.token_endpoint, nonce=nonce)
        headers = {
            "Authorization": client.authorization,
            "DPoP": proof,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        status, answered, body = _ask(base, "POST", f"/oauth2{path}", form, headers)
        if status == 200:
            found: str = json.loads(body)["access_token"]
            return found
        nonce = answered.get("DPoP-Nonce")
    raise InvalidError(f"no bound token: {status} {body[:200]!r}")


def _ask(
    url: str, method: str, target: str, body: bytes, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=10, context=context)
    connection.request(method, target, body or None, headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def _json(value: Any) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(number: int) -> bytes:
    return number.to_bytes(32, "big")
