"""Pushed authorization requests (RFC 9126), by the digest of their `request_uri`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from stockade.identity.storage.schema import pushed_requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """`parameters` as the client sent them, without its credentials. `dpop_jkt` is the key that it proved."""

    digest: bytes
    client_id: str
    parameters: Mapping[str, str]
    dpop_jkt: str | None
    expires_at: int


def insert_pushed(connection: Connection, pushed: PushedRequest) -> None:
    """Store a request."""
    connection.execute(
        insert(pushed_requests).values(
            digest=pushed.digest,
            client_id=pushed.client_id,
            parameters=json.dumps(pushed.parameters),
            dpop_jkt=pushed.dpop_jkt,
            expires_at=pushed.expires_at,
        )
    )


def find_pushed(connection: Connection, digest: bytes, client_id: str, now: float) -> PushedRequest | None:
    """A request of this client that is neither expired nor spent."""
    row = connection.execute(
        select(pushed_requests).where(
            pushed_requests.c.digest == digest,
            pushed_requests.c.client_id == client_id,
            pushed_requests.c.expires_at > now,
            pushed_requests.c.used_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        return None
    return PushedRequest(row.digest, row.client_id, json.loads(row.parameters), row.dpop_jkt, row.expires_at)


def spend_pushed(connection: Connection, digest: bytes, now: float) -> bool:
    """Mark it spent. False where it was before, or is not there any more."""
    changed = connection.execute(
        update(pushed_requests)
        .where(pushed_requests.c.digest == digest, pushed_requests.c.used_at.is_(None))
        .values(used_at=int(now))
    )
    return changed.rowcount == 1
