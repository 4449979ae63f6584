"""Sessions: browsers in which a person signed in. The cookie's secret is kept as a digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from stockade.identity.storage.revocations import RevocationKind, record_revocation
from stockade.identity.storage.schema import grants, sessions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the database knows it, without the person. Times are NumericDate."""

    session_id: str
    user_id: str
    user_generation: int
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    address: str
    user_agent: str
    created_at: int
    last_seen_at: int
    expires_at: int
    revoked_at: int | None


_BY_DIGEST = select(sessions).where(sessions.c.digest == bindparam("digest"))


def find_session(connection: Connection, digest: bytes) -> SessionRow | None:
    """Look a session up by its secret's digest, whatever it is worth now."""
    row = connection.execute(_BY_DIGEST, {"digest": digest}).one_or_none()
    return _session(row) if row else None


def find_session_by_id(connection: Connection, session_id: str) -> SessionRow | None:
    """Look a session up by its id."""
    row = connection.execute(select(sessions).where(sessions.c.session_id == session_id)).one_or_none()
    return _session(row) if row else None


def list_sessions(connection: Connection, user_id: str, now: int, idle_seconds: int) -> list[SessionRow]:
    """The sessions of a person that are alive, the last seen first."""
    statement = (
        select(sessions)
        .where(
            sessions.c.user_id == user_id,
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > now,
            sessions.c.last_seen_at > now - idle_seconds,
        )
        .order_by(sessions.c.last_seen_at.desc(), sessions.c.session_id)
    )
    return [_session(row) for row in connection.execute(statement)]


def insert_session(connection: Connection, row: SessionRow, digest: bytes) -> None:
    """Store a new session."""
    connection.execute(
        insert(sessions).values(
            session_id=row.session_id,
            digest=digest,
            user_id=row.user_id,
            user_generation=row.user_generation,
            auth_time=row.auth_time,
            acr=row.acr,
            amr=" ".join(row.amr),
            address=row.address,
            user_agent=row.user_agent,
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
        )
    )


def renew_session(connection: Connection, row: SessionRow, digest: bytes) -> bool:
    """Give a session a new secret and what was proved now; the old secret is dead. False where it was ended."""
    changed = connection.execute(
        update(sessions)
        .where(sessions.c.session_id == row.session_id, sessions.c.revoked_at.is_(None))
        .values(
            digest=digest,
            auth_time=row.auth_time,
            acr=row.acr,
            amr=" ".join(row.amr),
            address=row.address,
            user_agent=row.user_agent,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
        )
    )
    return changed.rowcount == 1


def touch_session(connection: Connection, session_id: str, now: int) -> None:
    """Note that the browser was here."""
    connection.execute(update(sessions).where(sessions.c.session_id == session_id).values(last_seen_at=now))


def end_session(connection: Connection, session_id: str, now: float) -> bool:
    """End a session and the grants that depend on it, and tell the gateways. False where it had ended."""
    ended = connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=int(now))
    )
    if ended.rowcount == 0:
        return False
    dependent = connection.execute(
        update(grants)
        .where(grants.c.session_id == session_id, grants.c.revoked_at.is_(None))
        .values(revoked_at=int(now))
        .returning(grants.c.grant_id)
    ).scalars()
    record_revocation(connection, RevocationKind.SESSION, session_id, now)
    for grant_id in sorted(dependent):
        record_revocation(connection, RevocationKind.GRANT, grant_id, now)
    return True


def live_session_ids(connection: Connection, user_id: str) -> list[str]:
    """The ids of a person's sessions that were not ended."""
    statement = select(sessions.c.session_id).where(sessions.c.user_id == user_id, sessions.c.revoked_at.is_(None))
    return sorted(connection.execute(statement).scalars())


def _session(row: Row[Any]) -> SessionRow:
    return SessionRow(
        session_id=row.session_id,
        user_id=row.user_id,
        user_generation=row.user_generation,
        auth_time=row.auth_time,
        acr=row.acr,
        amr=tuple(row.amr.split()),
        address=row.address,
        user_agent=row.user_agent,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
