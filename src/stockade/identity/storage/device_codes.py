"""Device codes (RFC 8628): asked for by a device, decided by a person elsewhere, redeemed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from stockade.identity.storage.schema import clients, device_codes, sessions, users
from stockade.identity.storage.tokens import Authorization

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

PENDING, APPROVED, DENIED, USED = "pending", "approved", "denied", "used"


@dataclass(frozen=True, slots=True)
class NewDeviceCode:
    """A device's request. The user code's digest is keyed (keys/derive.py): it is short."""

    digest: bytes
    user_code_digest: bytes
    client_id: str
    client_generation: int
    scopes: tuple[str, ...]
    audience: str
    acr_values: tuple[str, ...]
    dpop_jkt: str | None
    interval_seconds: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class DeviceCodeRow:
    """As it stands now. `alive`: not expired, and the client, user and session that it depends on are as they were."""

    request: NewDeviceCode
    status: str
    polled_at: float | None
    expired: bool
    alive: bool
    authorization: Authorization


def insert_device_code(connection: Connection, code: NewDeviceCode) -> None:
    """Store a request. Raises IntegrityError where the user code is taken."""
    connection.execute(
        insert(device_codes).values(
            digest=code.digest,
            user_code_digest=code.user_code_digest,
            client_id=code.client_id,
            client_generation=code.client_generation,
            scopes=" ".join(code.scopes),
            audience=code.audience,
            acr_values=" ".join(code.acr_values),
            status=PENDING,
            dpop_jkt=code.dpop_jkt,
            interval_seconds=code.interval_seconds,
            expires_at=code.expires_at,
        )
    )


def find_pending(connection: Connection, user_code_digest: bytes, now: float) -> NewDeviceCode | None:
    """The request behind a user code, while it waits for a decision."""
    row = connection.execute(
        select(device_codes).where(
            device_codes.c.user_code_digest == user_code_digest,
            device_codes.c.status == PENDING,
            device_codes.c.expires_at > now,
        )
    ).one_or_none()
    return _request(row) if row else None


def decide(connection: Connection, digest: bytes, approved_by: Authorization | None, now: float) -> bool:
    """Approve, or deny with None. Once: False where it was decided before, or has expired."""
    changes: dict[str, Any] = {"status": DENIED}
    if approved_by is not None:
        changes = {
            "status": APPROVED,
            "user_id": approved_by.user_id,
            "user_generation": approved_by.user_generation,
            "session_id": approved_by.session_id,
            "auth_time": approved_by.auth_time,
            "acr": approved_by.acr,
            "amr": " ".join(approved_by.amr),
        }
    changed = connection.execute(
        update(device_codes)
        .where(device_codes.c.digest == digest, device_codes.c.status == PENDING, device_codes.c.expires_at > now)
        .values(changes)
    )
    return changed.rowcount == 1


_FIND = (
    select(
        device_codes,
        clients.c.generation.label("live_client_generation"),
        users.c.generation.label("live_user_generation"),
        users.c.disabled_at.label("user_disabled_at"),
        sessions.c.revoked_at.label("session_revoked_at"),
        sessions.c.expires_at.label("session_expires_at"),
    )
    .outerjoin(clients, clients.c.client_id == device_codes.c.client_id)
    .outerjoin(users, users.c.user_id == device_codes.c.user_id)
    .outerjoin(sessions, sessions.c.session_id == device_codes.c.session_id)
    # So that of two redemptions that race one sees what the other did.
    .with_for_update(of=device_codes)
)


def find_device_code(connection: Connection, digest: bytes, now: float) -> DeviceCodeRow | None:
    """Look a request up by its device code, and lock it."""
    row = connection.execute(_FIND.where(device_codes.c.digest == digest)).one_or_none()
    if row is None:
        return None
    return DeviceCodeRow(
        request=_request(row),
        status=row.status,
        polled_at=row.polled_at,
        expired=row.expires_at <= now,
        alive=_alive(row, now),
        authorization=Authorization(
            user_id=row.user_id,
            user_generation=row.user_generation,
            session_id=row.session_id,
            auth_time=row.auth_time,
            acr=row.acr,
            amr=tuple((row.amr or "").split()),
        ),
    )


def note_poll(connection: Connection, digest: bytes, now: float, more_seconds: int = 0) -> None:
    """Remember when it was asked for last, and ask for a longer wait from now on."""
    connection.execute(
        update(device_codes)
        .where(device_codes.c.digest == digest)
        .values(polled_at=now, interval_seconds=device_codes.c.interval_seconds + more_seconds)
    )


def use_device_code(connection: Connection, digest: bytes, grant_id: str) -> None:
    """Spend it."""
    connection.execute(
        update(device_codes).where(device_codes.c.digest == digest).values(status=USED, grant_id=grant_id)
    )


def _alive(row: Row[Any], now: float) -> bool:
    if row.live_client_generation != row.client_generation:
        return False
    if row.status != APPROVED:
        return True
    return bool(
        row.live_user_generation == row.user_generation
        and row.user_disabled_at is None
        and row.session_revoked_at is None
        and row.session_expires_at is not None
        and row.session_expires_at > now
    )


def _request(row: Row[Any]) -> NewDeviceCode:
    return NewDeviceCode(
        digest=row.digest,
        user_code_digest=row.user_code_digest,
        client_id=row.client_id,
        client_generation=row.client_generation,
        scopes=tuple(row.scopes.split()),
        audience=row.audience,
        acr_values=tuple(row.acr_values.split()),
        dpop_jkt=row.dpop_jkt,
        interval_seconds=row.interval_seconds,
        expires_at=row.expires_at,
    )
