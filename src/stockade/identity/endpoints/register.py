"""`/oauth2/register` (RFC 7591) and `/oauth2/register/{client_id}` (RFC 7592): clients that register themselves.

Behind an initial access token, which bounds how many and what they may have. What an administrator registered cannot
be touched here: such a client has no registration access token.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from stockade.identity.audit import AuditEvent, record
from stockade.identity.credentials import Kind, digest, generate, kind_of
from stockade.identity.endpoints.guard import private_json
from stockade.identity.endpoints.registration_request import Limits, read_document, read_registration
from stockade.identity.errors import OAuthError, invalid_request
from stockade.identity.observability import log
from stockade.identity.storage import clients as table
from stockade.identity.storage.clients import AuthMethod, ClientRecord, find_client
from stockade.identity.storage.initial_tokens import find_initial_token, spend_initial_token
from stockade.identity.storage.revocations import record_client_revocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from starlette.requests import Request

    from stockade.identity.endpoints.registration_request import Registration
    from stockade.identity.services import Services

# RFC 7592 §2.2: what a client sends back must not hold.
_NOT_SENT_BACK = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)


_CLIENT_ID = re.compile(r"c_[0-9a-z_]{1,62}")


@dataclass(frozen=True, slots=True)
class _Shown:
    """A client as its answer has it. The secrets are shown once and kept out of the repr."""

    client: ClientRecord
    registration_access_token: str = field(repr=False)
    client_secret: str | None = field(default=None, repr=False)


async def register(services: Services, request: Request) -> Response:
    """RFC 7591 §3.1, §3.2.1: 201 with all that is registered. One use of the token is spent with the client's row."""
    _require_open(services)
    text = await _bearer(services, request, Kind.INITIAL_ACCESS_TOKEN)
    wanted, now = digest(text), services.clock()
    initial = await services.lanes.read(lambda connection: find_initial_token(connection, wanted, now))
    if initial is None:
        raise _refused(services, request)
    limits = Limits(initial.scopes, initial.grant_types)
    registration = read_registration(services.config, await read_document(request), limits)
    shown = _new_client(registration, int(now))

    def work(connection: Connection) -> bool:
        if not spend_initial_token(connection, wanted, now):
            return False
        table.insert_client(connection, shown.client)
        _store_secret(connection, shown, int(now))
        _audit(connection, "client.created", request, shown.client, now, initial_token=initial.token_id)
        return True

    if not await services.lanes.write(work):
        raise _refused(services, request)
    services.metrics.count("clients_registered")
    log("info", "client_registered", client_id=shown.client.client_id, initial_token=initial.token_id)
    return private_json(_as_json(services, shown), 201)


async def read_client(services: Services, request: Request) -> Response:
    """RFC 7592 §2.1. The secret is known as a digest only, so it is not among the answer."""
    client, text = await _managed(services, request)
    return private_json(_as_json(services, _Shown(client, text)))


async def replace_client(services: Services, request: Request) -> Response:
    """RFC 7592 §2.2: the document replaces all that was registered; the registration access token is a new one.

    A client can narrow what it has. What its initial access token allowed beyond is gone with it.
    """
    client, text = await _managed(services, request)
    document = await read_document(request)
    _require_own_document(client, document)
    limits = Limits(client.scopes, client.metadata.grant_types)
    registration = read_registration(services.config, document, limits)
    fresh = generate(Kind.REGISTRATION_ACCESS_TOKEN)
    changed = replace(
        client,
        auth_method=registration.auth_method,
        jwks=registration.jwks,
        scopes=registration.scopes,
        metadata=registration.metadata,
        registration_digest=digest(fresh),
    )
    becomes_secret = changed.auth_method is AuthMethod.CLIENT_SECRET_BASIC is not client.auth_method
    shown = _Shown(changed, fresh, generate(Kind.CLIENT_SECRET) if becomes_secret else None)
    now = services.clock()

    def work(connection: Connection) -> bool:
        if not _still_holds(connection, client, text, now):
            return False
        table.update_client(connection, changed)
        if changed.auth_method is not client.auth_method:
            table.retire_secrets(connection, client.client_id, None)
        _store_secret(connection, shown, int(now))
        _audit(connection, "client.updated", request, changed, now)
        return True

    if not await services.lanes.write(work):
        raise _refused(services, request)
    return private_json(_as_json(services, shown))


async def delete_client(services: Services, request: Request) -> Response:
    """RFC 7592 §2.3: the client is disabled for good, with all that it holds; its row stays for the record."""
    client, text = await _managed(services, request)
    now = services.clock()

    def work(connection: Connection) -> bool:
        if not _still_holds(connection, client, text, now):
            return False
        table.update_client(connection, replace(client, registration_digest=None))
        table.retire_secrets(connection, client.client_id, None)
        table.set_disabled(connection, client.client_id, int(now))
        record_client_revocation(connection, client.client_id, now)
        _audit(connection, "client.disabled", request, client, now)
        return True

    if not await services.lanes.write(work):
        raise _refused(services, request)
    services.feed.announce()
    return Response(status_code=204, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


def _require_open(services: Services) -> None:
    if services.config.registration == "off":
        raise OAuthError("not_found", "dynamic registration is off", 404)


async def _bearer(services: Services, request: Request, kind: Kind) -> str:
    headers = request.headers.getlist("authorization")
    scheme, _, text = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or kind_of(text.strip()) is not kind:
        raise _refused(services, request)
    return text.strip()


async def _managed(services: Services, request: Request) -> tuple[ClientRecord, str]:
    """The client of the URL with its token. RFC 7592 §2: 401 whether the client or the token is not there."""
    _require_open(services)
    text = await _bearer(services, request, Kind.REGISTRATION_ACCESS_TOKEN)
    client_id, now = str(request.path_params["client_id"]), services.clock()
    if not _CLIENT_ID.fullmatch(client_id):
        raise _refused(services, request)
    client = await services.lanes.read(lambda connection: find_client(connection, client_id, now))
    if client is None or not _holds(client, text):
        raise _refused(services, request)
    return client, text


def _holds(client: ClientRecord, text: str) -> bool:
    known = client.registration_digest
    return known is not None and client.disabled_at is None and hmac.compare_digest(known, digest(text))


def _still_holds(connection: Connection, client: ClientRecord, text: str, now: float) -> bool:
    """Of two that replace the client with the same token, one comes first."""
    current = find_client(connection, client.client_id, now)
    return current is not None and _holds(current, text)


def _require_own_document(client: ClientRecord, document: Mapping[str, Any]) -> None:
    """RFC 7592 §2.2: `client_id` is there and the client's; a secret, if it is sent back, is its own."""
    if document.get("client_id") != client.client_id:
        raise invalid_request("`client_id` must be the client's")
    if any(name in document for name in _NOT_SENT_BACK):
        raise invalid_request("the document holds members that only the server writes")
    secret = document.get("client_secret")
    if secret is None:
        return
    known = [digest(secret)] if isinstance(secret, str) else []
    if not any(hmac.compare_digest(one, other) for one in known for other in client.secret_digests):
        raise invalid_request("`client_secret` is not the client's")


def _new_client(registration: Registration, now: int) -> _Shown:
    client_id, token = f"c_{secrets.token_hex(10)}", generate(Kind.REGISTRATION_ACCESS_TOKEN)
    client = ClientRecord(
        client_id=client_id,
        # The operator's name for it, unlike any that an administrator gave.
        name=f"dynamic-{client_id}",
        auth_method=registration.auth_method,
        jwks=registration.jwks,
        scopes=registration.scopes,
        generation=0,
        created_at=now,
        disabled_at=None,
        metadata=registration.metadata,
        registration_digest=digest(token),
    )
    needs_secret = client.auth_method is AuthMethod.CLIENT_SECRET_BASIC
    return _Shown(client, token, generate(Kind.CLIENT_SECRET) if needs_secret else None)


def _store_secret(connection: Connection, shown: _Shown, now: int) -> None:
    if shown.client_secret is not None:
        table.add_secret(connection, shown.client.client_id, digest(shown.client_secret), now)


def _as_json(services: Services, shown: _Shown) -> dict[str, Any]:
    """RFC 7591 §3.2.1, RFC 7592 §3."""
    client, metadata = shown.client, shown.client.metadata
    known = metadata.model_dump(mode="json", exclude_defaults=True, exclude={"profile", "registered_by"})
    document = known | {
        "client_id": client.client_id,
        "client_id_issued_at": client.created_at,
        "token_endpoint_auth_method": client.auth_method.value,
        "grant_types": list(metadata.grant_types),
        "response_types": ["code"] if "authorization_code" in metadata.grant_types else [],
        "scope": " ".join(client.scopes),
        "registration_access_token": shown.registration_access_token,
        "registration_client_uri": f"{services.config.issuer}/oauth2/register/{client.client_id}",
    }
    if client.jwks is not None:
        document["jwks"] = client.jwks
    if shown.client_secret is not None:
        document |= {"client_secret": shown.client_secret, "client_secret_expires_at": 0}
    return document


def _audit(
    connection: Connection, kind: str, request: Request, client: ClientRecord, now: float, **detail: str
) -> None:
    address = request.client.host if request.client else None
    told = {"name": client.name, "registered_by": "dynamic", **detail}
    record(connection, AuditEvent(kind, client_id=client.client_id, address=address, detail=told), now)


def _refused(services: Services, request: Request) -> OAuthError:
    services.metrics.count("registrations_refused")
    log("warning", "registration_refused", address=request.client.host if request.client else "")
    return OAuthError(
        "invalid_token",
        "the token is unknown, expired or used up",
        401,
        {"WWW-Authenticate": 'Bearer realm="stockade", error="invalid_token"'},
    )
