"""Authorization codes: issued, looked up by digest, used once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, update

from stockade.identity.storage.grants import stands, with_standing
from stockade.identity.storage.prepared import Prepared
from stockade.identity.storage.schema import authorization_codes
from stockade.identity.storage.tokens import Authorization

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A code as it is stored. `session_id` is the browser's session, whether or not the grant depends on it."""

    digest: bytes
    grant_id: str
    client_id: str
    client_generation: int
    user_id: str
    user_generation: int
    session_id: str | None
    redirect_uri: str
    code_challenge: str
    scopes: tuple[str, ...]
    audience: str
    nonce: str | None
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    dpop_jkt: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class FoundCode:
    """A code and what became of it. `alive`: not expired, and all that it depends on holds."""

    code: CodeRow
    used: bool
    alive: bool
    # Of the grant: None where it outlives the session.
    grant_session_id: str | None
    grant_expires_at: int

    @property
    def authorization(self) -> Authorization:
        """On whose word the tokens will stand."""
        code = self.code
        return Authorization(
            user_id=code.user_id,
            user_generation=code.user_generation,
            grant_id=code.grant_id,
            session_id=self.grant_session_id,
            auth_time=code.auth_time,
            acr=code.acr,
            amr=code.amr,
        )


def insert_code(connection: Connection, code: CodeRow) -> None:
    """Store a code. It may be given out once the transaction has committed."""
    _INSERT.run(
        connection,
        {name: getattr(code, name) for name in _PLAIN} | {"scopes": " ".join(code.scopes), "amr": " ".join(code.amr)},
    )


def find_code(connection: Connection, digest: bytes, now: float) -> FoundCode | None:
    """Look a code up. The caller holds a write transaction."""
    row = _FIND.one_or_none(connection, {"of": digest})
    return None if row is None else _found(row, now)


def use_code(connection: Connection, digest: bytes, now: float) -> bool:
    """Mark a code used. False where it was used before."""
    changed = connection.execute(
        update(authorization_codes)
        .where(authorization_codes.c.digest == digest, authorization_codes.c.used_at.is_(None))
        .values(used_at=int(now))
    )
    return changed.rowcount == 1


_PLAIN = (
    "digest",
    "grant_id",
    "client_id",
    "client_generation",
    "user_id",
    "user_generation",
    "session_id",
    "redirect_uri",
    "code_challenge",
    "audience",
    "nonce",
    "auth_time",
    "acr",
    "dpop_jkt",
    "expires_at",
)


_INSERT = Prepared(insert(authorization_codes), (*_PLAIN, "scopes", "amr"))
_FIND = Prepared(with_standing(authorization_codes).where(authorization_codes.c.digest == bindparam("of")))


def _found(row: Row[Any], now: float) -> FoundCode:
    return FoundCode(
        code=CodeRow(
            **{name: getattr(row, name) for name in _PLAIN},
            scopes=tuple(row.scopes.split()),
            amr=tuple(row.amr.split()),
        ),
        used=row.used_at is not None,
        alive=row.expires_at > now and stands(row, now),
        grant_session_id=row.grant_session_id,
        grant_expires_at=row.grant_expires_at or 0,
    )
