"""The rows of the signing keys. What they mean and how they are opened is in keys/."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, text, update

from stockade.identity.storage.schema import meta, signing_keys

if TYPE_CHECKING:
    from sqlalchemy import Connection


class KeyState(StrEnum):
    """`next` is published before it signs, `previous` after it signed: a reader of the JWKS is never too late."""

    NEXT = "next"
    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """One key: the public half as JWK text, the private half sealed."""

    kid: str
    algorithm: str
    public_jwk: str
    sealed_private_key: bytes
    state: KeyState
    created_at: int
    activated_at: int | None
    retired_at: int | None


def read_signing_keys(connection: Connection) -> list[SigningKeyRow]:
    """All keys, oldest first."""
    rows = connection.execute(select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.kid))
    return [
        SigningKeyRow(
            kid=row.kid,
            algorithm=row.algorithm,
            public_jwk=row.public_jwk,
            sealed_private_key=row.sealed_private_key,
            state=KeyState(row.state),
            created_at=row.created_at,
            activated_at=row.activated_at,
            retired_at=row.retired_at,
        )
        for row in rows
    ]


def insert_signing_key(connection: Connection, row: SigningKeyRow) -> None:
    """Store a new key."""
    connection.execute(
        insert(signing_keys).values(
            kid=row.kid,
            algorithm=row.algorithm,
            public_jwk=row.public_jwk,
            sealed_private_key=row.sealed_private_key,
            state=row.state.value,
            created_at=row.created_at,
            activated_at=row.activated_at,
            retired_at=row.retired_at,
        )
    )


def move_signing_keys(connection: Connection, before: KeyState, after: KeyState, now: int) -> None:
    """Give every key in state `before` the state `after` and note when."""
    moment = {"retired_at": now} if after is KeyState.PREVIOUS else {"activated_at": now}
    connection.execute(
        update(signing_keys).where(signing_keys.c.state == before.value).values(state=after.value, **moment)
    )


def delete_retired_keys(connection: Connection, before: float) -> int:
    """Drop previous keys that were retired before `before`."""
    return connection.execute(
        delete(signing_keys).where(signing_keys.c.state == KeyState.PREVIOUS.value, signing_keys.c.retired_at <= before)
    ).rowcount


def mark_keys_made(connection: Connection) -> bool:
    """Note that this database has had keys, so that it is noticed if they are missing later. False when it was noted.

    Of two processes that set up the same database one waits here for the other.
    """
    return connection.execute(_MARK, {"name": _MADE}).rowcount == 1


def lock_signing_keys(connection: Connection) -> None:
    """Keep others from changing the keys until the transaction ends."""
    connection.execute(update(meta).where(meta.c.name == _MADE).values(value=meta.c.value))


_MADE = "signing_keys_made"
_MARK = text("INSERT INTO meta (name, value) VALUES (:name, '1') ON CONFLICT DO NOTHING")
