"""`POST /internal/canary` and `/internal/canary/revoke` (docs/contracts.md §3).

Canaries are tokens that a gateway has revoked to see how long that takes.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.endpoints.form import read_form
from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import StorageUnavailable, invalid_request
from stockade.identity.storage.clients import (
    CANARY_CLIENT_ID,
    AuthMethod,
    ClientRecord,
    find_client,
    insert_client,
)
from stockade.identity.storage.tokens import NewAccessToken, find_credential, insert_access_token, revoke_credential

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade.identity.services import Services

LIFETIME_SECONDS = 120
# It can neither prove who it is nor ask for anything, so nobody gets a token in its name but here.
_CLIENT_NAME = "stockade: revocation canary"


async def issue(services: Services, _request: Request) -> Response:
    """A fresh token without any scope, for the first audience. It never leaves the gateway that asked for it."""
    text = generate(Kind.ACCESS_TOKEN)
    now = int(services.clock())

    def work(connection: Connection) -> None:
        insert_access_token(
            connection,
            NewAccessToken(
                digest=digest(text),
                jti=secrets.token_urlsafe(16),
                client_id=CANARY_CLIENT_ID,
                generation=_generation(connection, now),
                scopes=(),
                audience=services.config.audiences[0],
                issued_at=now,
                expires_at=now + LIFETIME_SECONDS,
            ),
        )

    await services.lanes.write(work)
    return private_json({"token": text, "expires_in": LIFETIME_SECONDS})


async def revoke(services: Services, request: Request) -> Response:
    """Revoke a canary, by the same statements as any other token. 400 for everything that is none."""
    token_digest = digest((await read_form(request)).required("token"))
    now = services.clock()

    def work(connection: Connection) -> bool:
        found = find_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)
        if found is None or found.client_id != CANARY_CLIENT_ID:
            return False
        revoke_credential(connection, Kind.ACCESS_TOKEN, token_digest, now)
        return True

    if not await services.lanes.write(work):
        raise invalid_request("the token is no canary")
    services.feed.announce()
    return private_json({"revoked_at": now})


def _generation(connection: Connection, now: int) -> int:
    """The built-in client's; it is made when it is first needed."""
    client = find_client(connection, CANARY_CLIENT_ID, now)
    if client is not None:
        return client.generation
    record = ClientRecord(
        client_id=CANARY_CLIENT_ID,
        name=_CLIENT_NAME,
        auth_method=AuthMethod.NONE,
        jwks=None,
        scopes=(),
        generation=1,
        created_at=now,
        disabled_at=None,
        metadata=ClientMetadata(grant_types=()),
    )
    try:
        insert_client(connection, record)
    except IntegrityError as error:
        # Another server made it this very moment: the next canary finds it.
        raise StorageUnavailable("the canary's client is being made") from error
    return record.generation
