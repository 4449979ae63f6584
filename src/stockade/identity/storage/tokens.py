"""Access tokens and API keys as credentials: issued, looked up by digest, revoked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from stockade.identity.binding import Binding, read_binding
from stockade.identity.credentials import Kind
from stockade.identity.storage.prepared import Prepared
from stockade.identity.storage.revocations import record_token_revocation
from stockade.identity.storage.schema import access_tokens, api_keys, clients, grants, sessions, users

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Row


class Standing(StrEnum):
    """What a stored credential is worth now."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CLIENT_DISABLED = "client_disabled"
    USER_DISABLED = "user_disabled"


@dataclass(frozen=True, slots=True)
class Authorization:
    """On whose word a token stands, beyond its client. All empty where the client acts for itself.

    `auth_time` is NumericDate, `acr` and `amr` as docs/identity.md §1, `act` the chain of RFC 8693 §4.1.
    """

    user_id: str | None = None
    user_generation: int | None = None
    grant_id: str | None = None
    session_id: str | None = None
    auth_time: int | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    act: Mapping[str, Any] | None = None


NOBODY = Authorization()


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """An access token or API key as the database knows it. `audience` is None for API keys: they hold for every one."""

    kind: Kind
    client_id: str
    jti: str
    scopes: tuple[str, ...]
    audience: str | None
    issued_at: int
    expires_at: int | None
    standing: Standing
    binding: Binding | None = None
    authorization: Authorization = NOBODY

    @property
    def subject(self) -> str:
        """`sub`: the user, else the client itself."""
        return self.authorization.user_id or self.client_id


@dataclass(frozen=True, slots=True)
class NewAccessToken:
    """An access token about to be stored; `generation` is that of its client when it proved who it is."""

    digest: bytes
    jti: str
    client_id: str
    generation: int
    scopes: tuple[str, ...]
    audience: str
    issued_at: int
    expires_at: int
    binding: Binding | None = None
    authorization: Authorization = NOBODY


_INSERT = Prepared(insert(access_tokens), [column.name for column in access_tokens.c if column.name != "revoked_at"])
_FIND_TOKEN = Prepared(
    select(
        access_tokens,
        clients.c.generation.label("client_generation"),
        clients.c.disabled_at,
        users.c.generation.label("live_user_generation"),
        users.c.disabled_at.label("user_disabled_at"),
        grants.c.revoked_at.label("grant_revoked_at"),
        sessions.c.revoked_at.label("session_revoked_at"),
        sessions.c.expires_at.label("session_expires_at"),
    )
    .join(clients, clients.c.client_id == access_tokens.c.client_id)
    .outerjoin(users, users.c.user_id == access_tokens.c.user_id)
    .outerjoin(grants, grants.c.grant_id == access_tokens.c.grant_id)
    .outerjoin(sessions, sessions.c.session_id == access_tokens.c.session_id)
    .where(access_tokens.c.digest == bindparam("digest"))
)
_FIND_API_KEY = Prepared(
    select(api_keys, clients.c.disabled_at)
    .join(clients, clients.c.client_id == api_keys.c.client_id)
    .where(api_keys.c.digest == bindparam("digest"))
)


def insert_access_token(connection: Connection, token: NewAccessToken) -> None:
    """Store a token. It may be given out once the transaction has committed, not before."""
    who = token.authorization
    _INSERT.run(
        connection,
        {
            "digest": token.digest,
            "jti": token.jti,
            "client_id": token.client_id,
            "generation": token.generation,
            "scopes": " ".join(token.scopes),
            "audience": token.audience,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "binding": token.binding.stored if token.binding else None,
            "user_id": who.user_id,
            "user_generation": who.user_generation,
            "grant_id": who.grant_id,
            "session_id": who.session_id,
            "auth_time": who.auth_time,
            "acr": who.acr,
            "amr": " ".join(who.amr) or None,
            "act": None if who.act is None else json.dumps(who.act),
        },
    )


def find_credential(connection: Connection, kind: Kind, digest: bytes, now: float) -> StoredCredential | None:
    """Look an access token or API key up by its digest."""
    if kind is Kind.ACCESS_TOKEN:
        row = _FIND_TOKEN.one_or_none(connection, {"digest": digest})
        return _access_token(row, now) if row else None
    if kind is Kind.API_KEY:
        row = _FIND_API_KEY.one_or_none(connection, {"digest": digest})
        return _api_key(row, now) if row else None
    return None


def revoke_credential(connection: Connection, kind: Kind, digest: bytes, now: float) -> int | None:
    """Revoke it and tell the gateways, in one transaction.

    Returns the number in the revocation log; None when there was nothing left to revoke.
    """
    found = find_credential(connection, kind, digest, now)
    if found is None or found.standing in (Standing.REVOKED, Standing.EXPIRED):
        return None
    table = access_tokens if kind is Kind.ACCESS_TOKEN else api_keys
    changed = connection.execute(
        update(table).where(table.c.digest == digest, table.c.revoked_at.is_(None)).values(revoked_at=int(now))
    )
    return record_token_revocation(connection, digest, now) if changed.rowcount else None


def api_key_digest(connection: Connection, key_id: str) -> bytes | None:
    """The digest behind the id that `list_api_keys` shows."""
    digest: bytes | None = connection.execute(select(api_keys.c.digest).where(api_keys.c.key_id == key_id)).scalar()
    return digest


def _access_token(row: Row[Any], now: float) -> StoredCredential:
    return StoredCredential(
        kind=Kind.ACCESS_TOKEN,
        client_id=row.client_id,
        jti=row.jti,
        scopes=tuple(row.scopes.split()),
        audience=row.audience,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        standing=_token_standing(row, now),
        binding=read_binding(row.binding),
        authorization=Authorization(
            user_id=row.user_id,
            user_generation=row.user_generation,
            grant_id=row.grant_id,
            session_id=row.session_id,
            auth_time=row.auth_time,
            acr=row.acr,
            amr=tuple((row.amr or "").split()),
            act=None if row.act is None else json.loads(row.act),
        ),
    )


def _token_standing(row: Row[Any], now: float) -> Standing:
    """docs/identity.md §6. What is named and cannot be found (a purged session, say) counts as gone."""
    user_gone = row.user_id is not None and row.user_generation != row.live_user_generation
    grant_gone = row.grant_revoked_at is not None
    session_gone = row.session_id is not None and (
        row.session_revoked_at is not None or row.session_expires_at is None or row.session_expires_at <= now
    )
    dead = row.revoked_at is not None or row.generation != row.client_generation
    standing = _standing(
        revoked=dead or user_gone or grant_gone or session_gone,
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        now=now,
    )
    if standing is Standing.ACTIVE and row.user_disabled_at is not None:
        return Standing.USER_DISABLED
    return standing


def _api_key(row: Row[Any], now: float) -> StoredCredential:
    return StoredCredential(
        kind=Kind.API_KEY,
        client_id=row.client_id,
        jti=row.key_id,
        scopes=tuple(row.scopes.split()),
        audience=None,
        issued_at=row.created_at,
        expires_at=row.expires_at,
        standing=_standing(
            revoked=row.revoked_at is not None, expires_at=row.expires_at, disabled_at=row.disabled_at, now=now
        ),
    )


def _standing(*, revoked: bool, expires_at: int | None, disabled_at: int | None, now: float) -> Standing:
    if revoked:
        return Standing.REVOKED
    if expires_at is not None and expires_at <= now:
        return Standing.EXPIRED
    if disabled_at is not None:
        return Standing.CLIENT_DISABLED
    return Standing.ACTIVE
