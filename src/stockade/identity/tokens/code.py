"""Authorization codes: made here, stored as digests with the grant that they open."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.codes import CodeRow, insert_code
from stockade.identity.storage.grants import GrantRow, insert_grant

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.interactions import AuthorizationRequest
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord


@dataclass(frozen=True, slots=True)
class MadeCode:
    """A code that is not stored yet, with its grant. The text is shown once and kept out of the repr."""

    code: str = field(repr=False)
    row: CodeRow
    grant: GrantRow

    def store(self, connection: Connection) -> None:
        """Store both. The code may be given out once the transaction has committed."""
        insert_grant(connection, self.grant)
        insert_code(connection, self.row)


def make_grant(services: Services, client_id: str, session: Session, scopes: tuple[str, ...], now: int) -> GrantRow:
    """What the user allows. Without `offline_access` it ends with the session (docs/identity.md §6)."""
    return GrantRow(
        grant_id=f"g_{secrets.token_hex(16)}",
        client_id=client_id,
        user_id=session.user.user_id,
        session_id=None if "offline_access" in scopes else session.session_id,
        scopes=scopes,
        created_at=now,
        expires_at=now + services.config.refresh.seconds,
    )


def make_code(
    services: Services, request: AuthorizationRequest, client: ClientRecord, session: Session, now: int
) -> MadeCode:
    """Make a code for what was asked and who agreed. It carries the generations of client and user as they were."""
    text = generate(Kind.AUTHORIZATION_CODE)
    grant = make_grant(services, client.client_id, session, request.scopes, now)
    row = CodeRow(
        digest=digest(text),
        grant_id=grant.grant_id,
        client_id=client.client_id,
        client_generation=client.generation,
        user_id=session.user.user_id,
        user_generation=session.user.generation,
        session_id=session.session_id,
        redirect_uri=request.redirect_uri,
        code_challenge=request.code_challenge,
        scopes=request.scopes,
        audience=request.audience,
        nonce=request.nonce,
        auth_time=session.auth_time,
        acr=session.acr,
        amr=session.amr,
        dpop_jkt=request.dpop_jkt,
        expires_at=now + services.config.lifetimes.code_seconds,
    )
    return MadeCode(text, row, grant)
