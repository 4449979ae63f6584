"""Passkeys: public keys only, with the counter that tells of clones."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from stockade.identity.storage.schema import passkeys as table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class PasskeyRecord:
    """A passkey of a person. Times are NumericDate."""

    credential_id: bytes
    user_id: str
    name: str
    public_key: bytes
    sign_count: int
    aaguid: str
    transports: tuple[str, ...]
    backed_up: bool
    created_at: int
    last_used_at: int | None

    @property
    def id(self) -> str:
        """The credential id in base64url, for URLs and forms."""
        return urlsafe_b64encode(self.credential_id).rstrip(b"=").decode()


def find_passkey(connection: Connection, credential_id: bytes) -> PasskeyRecord | None:
    """Look a passkey up."""
    row = connection.execute(select(table).where(table.c.credential_id == credential_id)).one_or_none()
    return _passkey(row) if row else None


def list_passkeys(connection: Connection, user_id: str) -> list[PasskeyRecord]:
    """Those of a person, the oldest first."""
    rows = select(table).where(table.c.user_id == user_id).order_by(table.c.created_at, table.c.credential_id)
    return [_passkey(row) for row in connection.execute(rows)]


def insert_passkey(connection: Connection, record: PasskeyRecord) -> None:
    """Store a new one. Raises IntegrityError when the id is taken."""
    connection.execute(
        insert(table).values(
            credential_id=record.credential_id,
            user_id=record.user_id,
            name=record.name,
            public_key=record.public_key,
            sign_count=record.sign_count,
            aaguid=record.aaguid,
            transports=" ".join(record.transports),
            backed_up=record.backed_up,
            created_at=record.created_at,
        )
    )


def advance_passkey(
    connection: Connection, credential_id: bytes, sign_count: int, now: int, *, backed_up: bool
) -> bool:
    """Note a use. False where the counter did not rise (WebAuthn §6.1.1); one that stays 0 is none."""
    risen = table.c.sign_count == 0 if sign_count == 0 else table.c.sign_count < sign_count
    used = connection.execute(
        update(table)
        .where(table.c.credential_id == credential_id, risen)
        .values(sign_count=sign_count, last_used_at=now, backed_up=backed_up)
    )
    return used.rowcount == 1


def rename_passkey(connection: Connection, user_id: str, credential_id: bytes, name: str) -> bool:
    """Give one of a person's another name. False where it is none of theirs."""
    mine = (table.c.credential_id == credential_id, table.c.user_id == user_id)
    return connection.execute(update(table).where(*mine).values(name=name)).rowcount == 1


def delete_passkey(connection: Connection, user_id: str, credential_id: bytes) -> bool:
    """Remove one of a person's. False where it is none of theirs."""
    mine = (table.c.credential_id == credential_id, table.c.user_id == user_id)
    return connection.execute(delete(table).where(*mine)).rowcount == 1


def delete_passkeys(connection: Connection, user_id: str) -> int:
    """Remove all of a person's. Returns how many."""
    return connection.execute(delete(table).where(table.c.user_id == user_id)).rowcount


def _passkey(row: Row[Any]) -> PasskeyRecord:
    return PasskeyRecord(
        credential_id=row.credential_id,
        user_id=row.user_id,
        name=row.name,
        public_key=row.public_key,
        sign_count=row.sign_count,
        aaguid=row.aaguid or "",
        transports=tuple(row.transports.split()),
        backed_up=row.backed_up,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
