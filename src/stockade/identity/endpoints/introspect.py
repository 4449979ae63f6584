"""`POST /internal/introspect` (RFC 7662, docs/contracts.md §3): the gateway asks what a credential is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stockade.identity.credentials import Kind, digest, kind_of
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import invalid_request
from stockade.identity.storage.clients import CANARY_CLIENT_ID
from stockade.identity.storage.tokens import Standing, find_credential
from stockade.identity.tokens.internal import mint_internal_token
from stockade.identity.tokens.verified import VerifiedCredential

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.endpoints.form import Form
    from stockade.identity.services import Services
    from stockade.identity.storage.tokens import StoredCredential

_HINTS = {"access_token": Kind.ACCESS_TOKEN, "api_key": Kind.API_KEY}


async def introspect(services: Services, request: Request) -> Response:
    """Say who holds the credential and for what, with the internal token; or `{"active": false}` without a reason."""
    form = await read_form(request)
    expected = read_hint(form)
    resource = form.required("resource")
    verified = await verify_credential(services, form.required("token"), expected, resource)
    if verified is None:
        services.metrics.count("introspections", result="inactive")
        return private_json({"active": False})
    minted = mint_internal_token(
        services.usable_keyring(), services.config, verified, services.clock(), form.optional("operation")
    )
    services.metrics.count("introspections", result="active")
    return private_json(verified.as_json() | minted.as_json())


def read_hint(form: Form) -> Kind | None:
    """The kind that the gateway expects in that place. Stricter than RFC 7662 §2.1: another kind is not looked up.

    So an API key in an `Authorization` header is no access token, nor the other way round.
    """
    hint = form.optional("token_type_hint")
    if hint is None:
        return None
    if hint not in _HINTS:
        raise invalid_request("`token_type_hint` must be `access_token` or `api_key`")
    return _HINTS[hint]


async def verify_credential(
    services: Services, text: str, expected: Kind | None, resource: str
) -> VerifiedCredential | None:
    """None for everything that must not pass, whatever the cause. Raises Unavailable when it cannot be told."""
    kind = kind_of(text)
    if kind is None:
        if expected is Kind.API_KEY or services.external is None:
            return None
        return await services.external.verify(text, resource)
    if kind not in (Kind.ACCESS_TOKEN, Kind.API_KEY) or (expected is not None and kind is not expected):
        return None
    return await _verify_stored(services, kind, digest(text), resource)


async def _verify_stored(
    services: Services, kind: Kind, token_digest: bytes, resource: str
) -> VerifiedCredential | None:
    now = services.clock()
    stored = await services.lanes.read(lambda connection: find_credential(connection, kind, token_digest, now))
    if stored is None or stored.standing is not Standing.ACTIVE or not _holds_for(services, stored, resource):
        return None
    if kind is Kind.ACCESS_TOKEN and services.external is not None and stored.client_id != CANARY_CLIENT_ID:
        return None  # The outside issuer's tokens are the only ones, but for canaries, which open nothing.
    return VerifiedCredential(
        client_id=stored.client_id,
        sub=stored.subject,
        scopes=stored.scopes,
        iss=services.config.issuer,
        aud=resource,
        iat=stored.issued_at,
        exp=stored.expires_at,
        jti=stored.jti,
        token_type=_token_type(stored),
        binding=stored.binding,
        authorization=stored.authorization,
    )


def _token_type(stored: StoredCredential) -> Literal["Bearer", "DPoP", "api_key"]:
    if stored.kind is Kind.API_KEY:
        return "api_key"
    return stored.binding.token_type if stored.binding else "Bearer"


def _holds_for(services: Services, stored: StoredCredential, resource: str) -> bool:
    if stored.audience is not None:
        return stored.audience == resource
    return resource in services.config.audiences
