"""The revocation log: what gateways must forget, numbered without gaps in the order of commit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from stockade.identity.storage.schema import revocation_head, revocations

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

MAX_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands. `epoch` names the database; entries up to `floor` are purged."""

    epoch: str
    sequence: int
    floor: int


class RevocationKind(StrEnum):
    """What an entry is about."""

    TOKEN = "token"  # noqa: S105 - a kind
    CLIENT = "client"
    USER = "user"
    SESSION = "session"
    GRANT = "grant"


_MEMBERS = {
    RevocationKind.TOKEN: "digest",
    RevocationKind.CLIENT: "client_id",
    RevocationKind.USER: "sub",
    RevocationKind.SESSION: "sid",
    RevocationKind.GRANT: "grant_id",
}


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry: the credential with this digest, or everything of this client, user, session or grant."""

    sequence: int
    kind: RevocationKind
    digest: bytes | None
    client_id: str | None
    subject_id: str | None
    revoked_at: float

    def as_json(self) -> dict[str, Any]:
        """The form of docs/contracts.md §3."""
        if self.digest is not None:
            subject: str | None = self.digest.hex()
        else:
            subject = self.client_id if self.kind is RevocationKind.CLIENT else self.subject_id
        return {
            "sequence": self.sequence,
            "kind": self.kind.value,
            _MEMBERS[self.kind]: subject,
            "revoked_at": self.revoked_at,
        }


_READ_HEAD = select(revocation_head).where(revocation_head.c.id == 1)


def read_head(connection: Connection) -> Head:
    """Where the log stands now."""
    row = connection.execute(_READ_HEAD).one()
    return Head(row.epoch, row.sequence, row.floor)


def read_after(connection: Connection, sequence: int) -> list[Revocation]:
    """Up to MAX_ENTRIES entries newer than `sequence`, oldest first."""
    statement = (
        select(revocations).where(revocations.c.sequence > sequence).order_by(revocations.c.sequence).limit(MAX_ENTRIES)
    )
    return [_revocation(row) for row in connection.execute(statement)]


def record_token_revocation(connection: Connection, digest: bytes, now: float) -> int:
    """Log that one credential is dead. Returns its number."""
    return _record(connection, {"kind": "token", "digest": digest, "revoked_at": now})


def record_client_revocation(connection: Connection, client_id: str, now: float) -> int:
    """Log that everything a client holds is dead. Returns its number."""
    return _record(connection, {"kind": "client", "client_id": client_id, "revoked_at": now})


def record_revocation(connection: Connection, kind: RevocationKind, subject_id: str, now: float) -> int:
    """Log that everything of a user, session or grant is dead. Returns its number."""
    return _record(connection, {"kind": kind.value, "subject_id": subject_id, "revoked_at": now})


def purge_revocations(connection: Connection, before: float, limit: int) -> int:
    """Drop up to `limit` entries older than `before` and raise the floor over them. Returns how many."""
    oldest = (
        select(revocations.c.sequence)
        .where(revocations.c.revoked_at < before)
        .order_by(revocations.c.sequence)
        .limit(limit)
        .subquery()
    )
    floor = connection.execute(select(func.max(oldest.c.sequence))).scalar()
    if floor is None:
        return 0
    connection.execute(update(revocation_head).where(revocation_head.c.id == 1).values(floor=floor))
    return connection.execute(delete(revocations).where(revocations.c.sequence <= floor)).rowcount


def _record(connection: Connection, entry: dict[str, Any]) -> int:
    sequence: int = connection.execute(
        update(revocation_head)
        .where(revocation_head.c.id == 1)
        .values(sequence=revocation_head.c.sequence + 1)
        .returning(revocation_head.c.sequence)
    ).scalar_one()
    connection.execute(insert(revocations).values(sequence=sequence, **entry))
    return sequence


def _revocation(row: Row[Any]) -> Revocation:
    return Revocation(row.sequence, RevocationKind(row.kind), row.digest, row.client_id, row.subject_id, row.revoked_at)
