"""The record of security events: who did what to which account, in a chain that shows tampering.

Each row's digest covers the row before it. Whoever changes or removes a row must change every later one, and the head
that was exported before (`stockade audit`). Rows are written in the transaction of what they tell, so the
record and the deed are there together or not at all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from stockade.identity.storage.schema import audit_events, audit_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Row, Select

GENESIS = bytes(32)
PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """`kind` as docs/identity.md §10. `detail` holds names and ids, no secret and nothing that a stranger typed."""

    kind: str
    user_id: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    address: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event with its place in the chain. `time` is seconds since 1970."""

    sequence: int
    time: float
    event: AuditEvent
    previous: bytes
    digest: bytes


class BrokenChainError(ValueError):
    """The record was changed. `sequence` is the first row that does not fit."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"the audit record does not fit at row {sequence}")
        self.sequence = sequence


def record(connection: Connection, event: AuditEvent, now: float) -> int:
    """Append an event. Returns its sequence number."""
    # Locks the head until commit: rows become visible in the order of their numbers.
    connection.execute(update(audit_head).where(audit_head.c.id == 1).values(sequence=audit_head.c.sequence + 1))
    head = connection.execute(select(audit_head).where(audit_head.c.id == 1)).one()
    time = round(now, 3)
    digest = _digest(head.sequence, time, event, head.digest)
    connection.execute(
        insert(audit_events).values(
            sequence=head.sequence,
            time=time,
            kind=event.kind,
            user_id=event.user_id,
            client_id=event.client_id,
            session_id=event.session_id,
            address=event.address,
            detail=json.dumps(event.detail, sort_keys=True),
            previous=head.digest,
            digest=digest,
        )
    )
    connection.execute(update(audit_head).where(audit_head.c.id == 1).values(digest=digest))
    sequence: int = head.sequence
    return sequence


def read(connection: Connection, after: int = 0, user_id: str | None = None) -> Iterator[AuditRow]:
    """Rows newer than `after`, oldest first; those of one user where given."""
    while True:
        statement = _rows(user_id).where(audit_events.c.sequence > after)
        rows = connection.execute(statement.order_by(audit_events.c.sequence).limit(PAGE)).all()
        if not rows:
            return
        yield from map(_row, rows)
        after = rows[-1].sequence


def read_last(connection: Connection, limit: int, user_id: str | None = None) -> list[AuditRow]:
    """The newest `limit` rows, oldest first; those of one user where given."""
    statement = _rows(user_id).order_by(audit_events.c.sequence.desc()).limit(limit)
    return [_row(row) for row in reversed(connection.execute(statement).all())]


def verify(connection: Connection, known: tuple[int, bytes] | None = None) -> tuple[int, bytes]:
    """Walk the whole chain. Returns the head's sequence and digest; raises BrokenChainError.

    `known`: a head that was exported before; it must still be what it was.
    """
    # Read first: what is appended during the walk is not looked at.
    head = connection.execute(select(audit_head).where(audit_head.c.id == 1)).one()
    previous, expected = GENESIS, 1
    for row in read(connection):
        if row.sequence > head.sequence:
            break
        fits = row.sequence == expected and row.previous == previous
        if not fits or row.digest != _digest(row.sequence, row.time, row.event, previous):
            raise BrokenChainError(expected)
        if known is not None and known[0] == row.sequence and known[1] != row.digest:
            raise BrokenChainError(expected)
        previous, expected = row.digest, expected + 1
    if (head.sequence, head.digest) != (expected - 1, previous):
        raise BrokenChainError(expected)
    if known is not None and known[0] > head.sequence:
        raise BrokenChainError(expected)
    return head.sequence, previous


def _rows(user_id: str | None) -> Select[Any]:
    statement = select(audit_events)
    return statement if user_id is None else statement.where(audit_events.c.user_id == user_id)


def _digest(sequence: int, time: float, event: AuditEvent, previous: bytes) -> bytes:
    body = json.dumps({"sequence": sequence, "time": time, **asdict(event)}, sort_keys=True, separators=(",", ":"))
    return sha256(previous + body.encode()).digest()


def _row(row: Row[Any]) -> AuditRow:
    event = AuditEvent(row.kind, row.user_id, row.client_id, row.session_id, row.address, json.loads(row.detail))
    return AuditRow(row.sequence, row.time, event, row.previous, row.digest)
