"""The decision engine for Python: a compiled bundle and a message in, a decision out.

It is the engine that the gateway runs, so the answers are the same. Nothing here does I/O or reads a clock. A proof of
possession (RFC 9449) is used up by the decision on its request, as at the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stockade import _native
from stockade.errors import BundleError

if TYPE_CHECKING:
    from stockade._native import DenialDict, IdentityDict

Headers = Sequence[tuple[str, str | bytes]]
"""Fields in order; names in any case, text as UTF-8."""


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """A schema that the engine cannot build. `schema` is its key, empty where all of them together are at fault."""

    schema: str
    message: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What an authorization server said about one credential. `expires_at` is NumericDate; None: never.

    `jkt` (RFC 9449 §6.1) and `certificate` (`x5t#S256`, RFC 8705 §3.1) are the SHA-256 thumbprints, 32 bytes, that the
    credential is bound to. `acr` and `auth_time` (NumericDate) tell how and when its user signed in.
    """

    client_id: str
    subject: str
    scopes: tuple[str, ...]
    issuer: str
    audience: tuple[str, ...]
    expires_at: int | None
    kind: Literal["access_token", "api_key"] = "access_token"
    jkt: bytes | None = None
    certificate: bytes | None = None
    acr: str | None = None
    auth_time: int | None = None


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a message was refused (docs/contracts.md §2). Only `status` is for the caller."""

    layer: str
    reason: str
    status: int
    pointer: str | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine answers by itself: a CORS preflight, protected resource metadata."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request. `observed` is what layers in `observe` mode would have refused.

    `challenges` are the `WWW-Authenticate` fields of the answer, `nonce` its `DPoP-Nonce` (RFC 9449 §8.2).
    """

    outcome: Literal["allow", "deny", "answer"]
    denial: Denial | None = None
    observed: tuple[Denial, ...] = ()
    operation: str | None = None
    canonical_path: str | None = None
    answer: Answer | None = None
    allow: tuple[str, ...] = ()
    challenges: tuple[str, ...] = ()
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseDecision:
    """What becomes of a response. `sanitise`: the status stays, the body becomes a problem document."""

    outcome: Literal["allow", "deny", "sanitise"]
    denial: Denial | None = None
    observed: tuple[Denial, ...] = ()


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What the self-check tried; `unprotected`: operations whose policy does not enforce authentication."""

    cases: int
    operations: int
    unprotected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. `target` is path and query as on the wire; `headers` hold `Host`.

    `client_certificate`: the TLS peer showed a certificate of the configured CA; `certificate_thumbprint`: the SHA-256
    of whatever certificate it showed.
    """

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    address: str = "127.0.0.1"
    client_certificate: bool = False
    certificate_thumbprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded bundle with its own limits. Build it by `from_bundle` or `from_payload`."""

    _native: _native.Engine = field(repr=False)

    @classmethod
    def from_bundle(cls, file: bytes, public_key: bytes) -> Engine:
        """Open a signed bundle; `public_key` is the 32 bytes of the Ed25519 key that must have signed it.

        Raises BundleError.
        """
        try:
            return cls(_native.Engine.from_bundle(file, public_key))
        except ValueError as error:
            raise BundleError(str(error)) from None

    @classmethod
    def from_payload(cls, payload: bytes) -> Engine:
        """Load a payload that needs no signature, because it was compiled here. Raises BundleError."""
        try:
            return cls(_native.Engine.from_payload(payload))
        except ValueError as error:
            raise BundleError(str(error)) from None

    @property
    def serial(self) -> int | None:
        """The bundle's serial; None for a bare payload."""
        return self._native.serial

    @property
    def metadata(self) -> bytes:
        """The protected resource metadata document (RFC 9728 §2)."""
        return self._native.metadata

    def nonce(self, now: int) -> str | None:
        """The nonce that a proof of possession made at `now` needs (RFC 9449 §9); None where none is asked for."""
        return self._native.nonce(now)

    def decide_request(
        self,
        request: Request,
        *,
        identities: Mapping[str, Identity | None] | None = None,
        available: bool = True,
        now: int,
    ) -> Decision:
        """Decide one request at `now` (NumericDate), which is also the limits' clock.

        `identities` maps credentials to what they stand for; one that is missing or None is not active.
        `available`: whether the authorization server can be asked at all.
        """
        known = {secret: _identity(identity) for secret, identity in (identities or {}).items()}
        decided = self._native.decide_request(
            method=request.method,
            target=request.target,
            headers=_fields(request.headers),
            body=request.body,
            address=request.address,
            client_certificate=request.client_certificate,
            certificate_thumbprint=request.certificate_thumbprint,
            identities=known,
            available=available,
            now=now,
        )
        answer = decided["answer"]
        return Decision(
            outcome=_known(decided["outcome"]),
            denial=_denial(decided["denial"]),
            observed=tuple(Denial(**denial) for denial in decided["observed"]),
            operation=decided["operation"],
            canonical_path=decided["canonical_path"],
            answer=Answer(answer["status"], tuple(answer["headers"]), answer["body"]) if answer else None,
            allow=tuple(decided["allow"]),
            challenges=tuple(decided["challenges"]),
            nonce=decided["nonce"],
        )

    def decide_response(self, request: Request, response: Response) -> ResponseDecision:
        """Decide the answer to a request that was allowed."""
        decided = self._native.decide_response(
            method=request.method,
            target=request.target,
            headers=_fields(request.headers),
            status=response.status,
            response_headers=_fields(response.headers),
            response_body=response.body,
        )
        return ResponseDecision(
            outcome=_known(decided["outcome"]),
            denial=_denial(decided["denial"]),
            observed=tuple(Denial(**denial) for denial in decided["observed"]),
        )

    def self_check(self) -> SelfCheck:
        """Attack the plan. Raises BundleError that names the operation and the attack that passed."""
        try:
            report = self._native.self_check()
        except ValueError as error:
            raise BundleError(str(error)) from None
        return SelfCheck(report["cases"], report["operations"], tuple(report["unprotected"]))


def check_schemas(dialect: str, schemas: Mapping[str, Any]) -> list[SchemaProblem]:
    """Name every schema of a bundle that the engine cannot build. `dialect`: `draft4` or `draft2020-12`."""
    text = json.dumps(schemas, ensure_ascii=False, allow_nan=False).encode()
    return [SchemaProblem(schema, message) for schema, message in _native.check_schemas(dialect, text)]


def open_bundle(file: bytes, public_key: bytes) -> tuple[int, bytes, bytes]:
    """Check a bundle file's digest and signature: serial, SHA-256 of the payload, payload. Raises BundleError."""
    try:
        return _native.open_bundle(file, public_key)
    except ValueError as error:
        raise BundleError(str(error)) from None


def _fields(headers: Headers) -> list[tuple[str, bytes]]:
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in headers]


def _identity(identity: Identity | None) -> IdentityDict | None:
    if identity is None:
        return None
    return {
        "kind": identity.kind,
        "client_id": identity.client_id,
        "subject": identity.subject,
        "scopes": identity.scopes,
        "issuer": identity.issuer,
        "audience": identity.audience,
        "expires_at": identity.expires_at,
        "jkt": identity.jkt,
        "certificate": identity.certificate,
        "acr": identity.acr,
        "auth_time": identity.auth_time,
    }


def _denial(denial: DenialDict | None) -> Denial | None:
    return Denial(**denial) if denial else None


def _known(outcome: str) -> Any:
    return outcome
