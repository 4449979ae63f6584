"""Sessions: who sits at a browser, since when, and how sure we are.

The secret is renewed whenever what it is worth rises, so a secret that was planted or seen before is worth nothing
after (session fixation). The session's id stays the same while the person does: grants and `sid` hang on it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.people.assurance import PHR, acr_of, amr_of
from stockade.identity.people.client import origin_of
from stockade.identity.people.cookies import SESSION, Cookie, new_secret, read_digest, secret_digest
from stockade.identity.storage import sessions as table
from stockade.identity.storage.sessions import SessionRow
from stockade.identity.storage.users import UserRecord, find_user

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.config import Sessions as Limits
    from stockade.identity.people.client import Origin
    from stockade.identity.services import Services

TOUCH_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. `auth_time` (OIDC Core §2): when the person last showed a first factor. Times are NumericDate."""

    session_id: str
    user: UserRecord
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    created_at: int
    last_seen_at: int
    expires_at: int
    address: str
    user_agent: str


async def current(services: Services, request: HTTPConnection) -> Session | None:
    """The session of the browser.

    None for a secret that is unknown, ended, idle or too old, of a disabled person or an old generation. Raises
    StorageUnavailable.
    """
    digest = read_digest(request, SESSION)
    if digest is None:
        return None
    now, limits = int(services.clock()), services.config.sessions
    session = await services.lanes.read(lambda connection: find(connection, digest, now, limits))
    if session is not None and now - session.last_seen_at >= TOUCH_SECONDS:
        await services.lanes.write(lambda connection: table.touch_session(connection, session.session_id, now))
    return session


async def begin(
    services: Services, request: HTTPConnection, user: UserRecord, proofs: tuple[str, ...]
) -> tuple[Session, Cookie]:
    """Sign a person in who has proved `proofs` (assurance.py), always under a new secret.

    The session that this browser had goes on under it if it is the same person's, and is ended if it is another's.
    """
    start = starting(services, request, user, proofs)
    session = await services.lanes.write(start.run)
    return session, start.cookie


async def raise_assurance(
    services: Services, request: HTTPConnection, session: Session, proofs: tuple[str, ...]
) -> tuple[Session, Cookie] | None:
    """Add a factor to a session: a new secret too. None where the session was ended meanwhile."""
    rise = rising(services, request, session, proofs)
    raised = await services.lanes.write(rise.run)
    return None if raised is None else (raised, rise.cookie)


async def end(services: Services, session: Session, reason: str, request: HTTPConnection | None = None) -> None:
    """End a session with the grants that depend on it. `reason`: `signed_out`, `revoked`, `other_user`, ….

    Gateways hear of it at once. Delete the cookie with `forget(SESSION)`.
    """
    origin = origin_of(request) if request else None
    await _end(services, [session.session_id], session.user.user_id, reason, origin)


async def end_by_id(services: Services, session: Session, session_id: str, request: HTTPConnection) -> bool:
    """End another session of the same person. False where it is none of theirs, or has ended."""
    ended = await _end(services, [session_id], session.user.user_id, "revoked", origin_of(request))
    return ended > 0


async def end_others(services: Services, session: Session, request: HTTPConnection) -> int:
    """End all sessions of the person but this one. Returns how many."""
    user_id = session.user.user_id
    live = await services.lanes.read(lambda connection: table.live_session_ids(connection, user_id))
    others = [one for one in live if one != session.session_id]
    return await _end(services, others, user_id, "revoked", origin_of(request))


async def list_sessions(services: Services, user: UserRecord) -> list[Session]:
    """The live sessions of a person, the last seen first."""
    now, idle = int(services.clock()), services.config.sessions.idle_seconds
    rows = await services.lanes.read(lambda connection: table.list_sessions(connection, user.user_id, now, idle))
    return [_session(row, user) for row in rows if row.user_generation == user.generation]


def find(connection: Connection, digest: bytes, now: int, limits: Limits) -> Session | None:
    """The live session of a secret, see `current`."""
    row = table.find_session(connection, digest)
    if row is None or row.revoked_at is not None:
        return None
    if row.expires_at <= now or row.last_seen_at + limits.idle_seconds <= now:
        return None
    user = find_user(connection, row.user_id)
    if user is None or user.disabled_at is not None or user.generation != row.user_generation:
        return None
    return _session(row, user)


def end_in(
    connection: Connection,
    user_id: str,
    session_ids: list[str],
    reason: str,
    now: float,
    address: str | None = None,
    by: str | None = None,
) -> int:
    """End those of the sessions that are this person's, in the caller's transaction. Returns how many were alive.

    `by`: who did it, where it was not the person.
    """
    ended = 0
    detail = {"reason": reason, **({"by": by} if by else {})}
    kind = "sign_out" if reason == "signed_out" else "session.revoked"
    for session_id in session_ids:
        row = table.find_session_by_id(connection, session_id)
        if row is None or row.user_id != user_id or not table.end_session(connection, session_id, now):
            continue
        event = AuditEvent(kind, user_id, session_id=session_id, address=address, detail=detail)
        audit.record(connection, event, now)
        ended += 1
    return ended


@dataclass(frozen=True, slots=True)
class Start:
    """A session about to begin. `run` may run twice (lanes.py): what is random was drawn before."""

    user: UserRecord
    proofs: tuple[str, ...]
    origin: Origin
    cookie: Cookie
    session_id: str
    before: bytes | None
    now: float
    limits: Limits

    def run(self, connection: Connection) -> Session:
        """Begin it in the caller's transaction."""
        previous = None if self.before is None else find(connection, self.before, int(self.now), self.limits)
        if previous is not None and previous.user.user_id != self.user.user_id:
            end_in(
                connection, previous.user.user_id, [previous.session_id], "other_user", self.now, self.origin.address
            )
            previous = None
        row, digest = self._row(previous), secret_digest(self.cookie.value)
        if previous is None or not table.renew_session(connection, row, digest):
            row = self._row(None)
            table.insert_session(connection, row, digest)
        _record_sign_in(connection, row, self.now)
        return _session(row, self.user)

    def _row(self, previous: Session | None) -> SessionRow:
        now = int(self.now)
        return SessionRow(
            session_id=previous.session_id if previous else self.session_id,
            user_id=self.user.user_id,
            user_generation=self.user.generation,
            auth_time=now,
            acr=acr_of(self.proofs),
            amr=amr_of(self.proofs),
            address=self.origin.address,
            user_agent=self.origin.user_agent,
            created_at=previous.created_at if previous else now,
            last_seen_at=now,
            expires_at=now + self.limits.seconds,
            revoked_at=None,
        )


@dataclass(frozen=True, slots=True)
class Rise:
    """A session about to be worth more, or without `proofs` about to get a new secret only. `run` may run twice."""

    session: Session
    proofs: tuple[str, ...]
    origin: Origin
    cookie: Cookie
    now: float

    def run(self, connection: Connection) -> Session | None:
        """Raise it in the caller's transaction; None where it was ended meanwhile."""
        before = table.find_session_by_id(connection, self.session.session_id)
        if before is None:
            return None
        # A second factor alone does not make the first one younger: `max_age` is about the person's return.
        whole = "pwd" in self.proofs or acr_of(self.proofs) == PHR
        amr = amr_of((*before.amr, *self.proofs))
        row = replace(
            before,
            auth_time=int(self.now) if whole else before.auth_time,
            acr=acr_of(amr),
            amr=amr,
            address=self.origin.address,
            user_agent=self.origin.user_agent,
            last_seen_at=int(self.now),
        )
        if not table.renew_session(connection, row, secret_digest(self.cookie.value)):
            return None
        if self.proofs:
            _record_sign_in(connection, row, self.now)
        user = find_user(connection, row.user_id)
        return None if user is None else _session(row, user)


def starting(services: Services, request: HTTPConnection, user: UserRecord, proofs: tuple[str, ...]) -> Start:
    """What `begin` is made of, for those who have more to do in the same transaction."""
    return Start(
        user=user,
        proofs=proofs,
        origin=origin_of(request),
        cookie=Cookie(SESSION, new_secret()),
        session_id=f"s_{secrets.token_hex(16)}",
        before=read_digest(request, SESSION),
        now=services.clock(),
        limits=services.config.sessions,
    )


def rising(services: Services, request: HTTPConnection, session: Session, proofs: tuple[str, ...]) -> Rise:
    """What `raise_assurance` is made of."""
    return Rise(session, proofs, origin_of(request), Cookie(SESSION, new_secret()), services.clock())


async def _end(services: Services, session_ids: list[str], user_id: str, reason: str, origin: Origin | None) -> int:
    now, address = services.clock(), origin.address if origin else None
    ended = await services.lanes.write(
        lambda connection: end_in(connection, user_id, session_ids, reason, now, address)
    )
    services.feed.announce()
    return ended


def _record_sign_in(connection: Connection, row: SessionRow, now: float) -> None:
    detail = {"acr": row.acr, "amr": list(row.amr)}
    event = AuditEvent("sign_in.succeeded", row.user_id, session_id=row.session_id, address=row.address, detail=detail)
    audit.record(connection, event, now)


def _session(row: SessionRow, user: UserRecord) -> Session:
    return Session(
        session_id=row.session_id,
        user=user,
        auth_time=row.auth_time,
        acr=row.acr,
        amr=row.amr,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        address=row.address,
        user_agent=row.user_agent,
    )
