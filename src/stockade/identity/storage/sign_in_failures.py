"""Failed sign-ins, counted durably as token buckets (GCRA): one number a bucket, when it would be full again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, text, update

from stockade.identity.storage.schema import sign_in_failures as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Bucket:
    """Holds `burst`, and gains one in `seconds_each`. The digest is keyed: it tells no name and no address."""

    digest: bytes
    burst: int
    seconds_each: float


@dataclass(frozen=True, slots=True)
class Taken:
    """`wait_seconds`: how long until all of the buckets have one; None: one was taken from each.

    `last`: it was the last of one of them.
    """

    wait_seconds: float | None
    last: bool = False


# One statement that makes the row or finds it, and locks it either way: two would leave room for another server's
# `refill` between them. Both databases spell it alike.
_LOCK = text(
    "INSERT INTO sign_in_failures (digest, arrival, expires_at) VALUES (:digest, 0, :now) "
    "ON CONFLICT (digest) DO UPDATE SET arrival = sign_in_failures.arrival RETURNING arrival"
)


def take(connection: Connection, buckets: Sequence[Bucket], now: float) -> Taken:
    """Take one from every bucket, or from none. Taken before the attempt, so that parallel ones count."""
    arrivals = {}
    # In one order, so that two servers do not wait for each other.
    for bucket in sorted(buckets, key=lambda one: one.digest):
        arrival: float = connection.execute(_LOCK, {"digest": bucket.digest, "now": int(now)}).scalar_one()
        arrivals[bucket] = max(arrival, now)
    wait = max(_wait(bucket, arrival, now) for bucket, arrival in arrivals.items())
    if wait > 0:
        return Taken(wait)
    after = {bucket: arrival + bucket.seconds_each for bucket, arrival in arrivals.items()}
    for bucket, arrival in after.items():
        _set(connection, bucket, arrival)
    return Taken(None, last=any(_wait(bucket, arrival, now) > 0 for bucket, arrival in after.items()))


def give_back(connection: Connection, buckets: Sequence[Bucket]) -> None:
    """Undo one `take`: the attempt was right."""
    for bucket in sorted(buckets, key=lambda one: one.digest):
        connection.execute(
            update(table).where(table.c.digest == bucket.digest).values(arrival=table.c.arrival - bucket.seconds_each)
        )


def refill(connection: Connection, bucket: Bucket) -> None:
    """Forget all failures of a bucket."""
    connection.execute(delete(table).where(table.c.digest == bucket.digest))


def _set(connection: Connection, bucket: Bucket, arrival: float) -> None:
    connection.execute(
        update(table).where(table.c.digest == bucket.digest).values(arrival=arrival, expires_at=int(arrival) + 1)
    )


def _wait(bucket: Bucket, arrival: float, now: float) -> float:
    return arrival - now - (bucket.burst - 1) * bucket.seconds_each
