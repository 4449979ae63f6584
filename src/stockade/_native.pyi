# The Rust side, as `crates/python` exports it. Everything raises ValueError with a message for the operator.

from collections.abc import Mapping, Sequence
from typing import TypedDict, final, type_check_only

__all__ = ["Engine", "check_schemas", "open_bundle", "serve"]

@type_check_only
class DenialDict(TypedDict):
    layer: str
    reason: str
    status: int
    pointer: str | None
    evidence: str

@type_check_only
class AnswerDict(TypedDict):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

@type_check_only
class RequestDict(TypedDict):
    outcome: str
    denial: DenialDict | None
    observed: list[DenialDict]
    operation: str | None
    canonical_path: str | None
    answer: AnswerDict | None
    allow: list[str]
    challenges: list[str]
    nonce: str | None

@type_check_only
class ResponseDict(TypedDict):
    outcome: str
    denial: DenialDict | None
    observed: list[DenialDict]

@type_check_only
class ReportDict(TypedDict):
    cases: int
    operations: int
    unprotected: list[str]

@type_check_only
class IdentityDict(TypedDict):
    kind: str
    client_id: str
    subject: str
    scopes: Sequence[str]
    issuer: str
    audience: Sequence[str]
    expires_at: int | None
    jkt: bytes | None
    certificate: bytes | None
    acr: str | None
    auth_time: int | None

@final
class Engine:
    @staticmethod
    def from_payload(payload: bytes) -> Engine: ...
    @staticmethod
    def from_bundle(file: bytes, public_key: bytes) -> Engine: ...
    @property
    def serial(self) -> int | None: ...
    @property
    def metadata(self) -> bytes: ...
    def nonce(self, now: int) -> str | None: ...
    def decide_request(
        self,
        *,
        method: str,
        target: str,
        headers: Sequence[tuple[str, bytes]],
        body: bytes,
        address: str,
        client_certificate: bool,
        certificate_thumbprint: bytes | None,
        identities: Mapping[str, IdentityDict | None],
        available: bool,
        now: int,
    ) -> RequestDict: ...
    def decide_response(
        self,
        *,
        method: str,
        target: str,
        headers: Sequence[tuple[str, bytes]],
        status: int,
        response_headers: Sequence[tuple[str, bytes]],
        response_body: bytes,
    ) -> ResponseDict: ...
    def self_check(self) -> ReportDict: ...

def check_schemas(dialect: str, schemas: bytes) -> list[tuple[str, str]]: ...
def open_bundle(file: bytes, public_key: bytes) -> tuple[int, bytes, bytes]: ...
def serve(config_path: str) -> int: ...
