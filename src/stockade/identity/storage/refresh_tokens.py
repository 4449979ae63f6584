"""Refresh tokens: issued, looked up by digest, replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, update

from stockade.identity.binding import Binding, read_binding
from stockade.identity.storage.grants import stands, with_standing
from stockade.identity.storage.prepared import Prepared
from stockade.identity.storage.schema import refresh_tokens
from stockade.identity.storage.tokens import Authorization

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class RefreshRow:
    """A refresh token as it is stored. Its scopes are those of the grant, however little an access token gets."""

    digest: bytes
    grant_id: str
    client_id: str
    client_generation: int
    user_id: str
    user_generation: int
    session_id: str | None
    scopes: tuple[str, ...]
    audience: str
    binding: Binding | None
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    issued_at: int
    expires_at: int

    @property
    def authorization(self) -> Authorization:
        """On whose word its access tokens stand."""
        return Authorization(
            user_id=self.user_id,
            user_generation=self.user_generation,
            grant_id=self.grant_id,
            session_id=self.session_id,
            auth_time=self.auth_time,
            acr=self.acr,
            amr=self.amr,
        )


@dataclass(frozen=True, slots=True)
class FoundRefreshToken:
    """A refresh token and what became of it. `alive`: not expired, and all that it depends on holds."""

    token: RefreshRow
    used_at: float | None
    successor: bytes | None
    alive: bool
    grant_expires_at: int


def insert_refresh_token(connection: Connection, token: RefreshRow) -> None:
    """Store a refresh token. It may be given out once the transaction has committed."""
    _INSERT.run(
        connection,
        {name: getattr(token, name) for name in _PLAIN}
        | {
            "scopes": " ".join(token.scopes),
            "amr": " ".join(token.amr),
            "binding": token.binding.stored if token.binding else None,
        },
    )


def find_refresh_token(connection: Connection, digest: bytes, now: float) -> FoundRefreshToken | None:
    """Look a refresh token up. The caller holds a write transaction."""
    row = _FIND.one_or_none(connection, {"of": digest})
    return None if row is None else _found(row, now)


def replace_refresh_token(connection: Connection, digest: bytes, sealed_successor: bytes, now: float) -> None:
    """Mark a token used; the successor is sealed so that only who holds the token can open it."""
    _REPLACE.run(connection, {"of": digest, "used_at": now, "successor": sealed_successor})


def extend_refresh_token(connection: Connection, digest: bytes, expires_at: int) -> None:
    """Where tokens are not replaced, each use starts the idle life anew."""
    _EXTEND.run(connection, {"of": digest, "expires_at": expires_at})


_PLAIN = (
    "digest",
    "grant_id",
    "client_id",
    "client_generation",
    "user_id",
    "user_generation",
    "session_id",
    "audience",
    "auth_time",
    "acr",
    "issued_at",
    "expires_at",
)


_THIS = refresh_tokens.c.digest == bindparam("of")
_INSERT = Prepared(insert(refresh_tokens), (*_PLAIN, "scopes", "amr", "binding"))
_FIND = Prepared(with_standing(refresh_tokens).where(_THIS))
_REPLACE = Prepared(update(refresh_tokens).where(_THIS), ("used_at", "successor"))
_EXTEND = Prepared(update(refresh_tokens).where(_THIS), ("expires_at",))


def _found(row: Row[Any], now: float) -> FoundRefreshToken:
    return FoundRefreshToken(
        token=RefreshRow(
            **{name: getattr(row, name) for name in _PLAIN},
            scopes=tuple(row.scopes.split()),
            amr=tuple(row.amr.split()),
            binding=read_binding(row.binding),
        ),
        used_at=row.used_at,
        successor=row.successor,
        alive=row.expires_at > now and stands(row, now),
        grant_expires_at=row.grant_expires_at or 0,
    )
