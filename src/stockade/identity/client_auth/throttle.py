"""Slowing down who fails to authenticate.

Two token buckets: one for an address with a client id, and a wider one for the address alone. Another address is never
touched by what this one does, so nobody can lock a client out from elsewhere; and a client that recently succeeded
from an address goes on there, whatever its neighbours behind the same address do with other ids.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade.identity.config import Throttling

TRUST_SECONDS = 3_600.0
MAX_TRACKED = 20_000


@dataclass(slots=True)
class _Bucket:
    """`free_at`: when the bucket would be full again; kept as GCRA keeps it, one number."""

    free_at: float = 0.0
    trusted_until: float = 0.0


class Throttle:
    """Counts failures by address and client. Memory is bounded; the longest untouched is forgotten first."""

    def __init__(self, limits: Throttling, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._pairs: OrderedDict[bytes, _Bucket] = OrderedDict()
        self._addresses: OrderedDict[bytes, _Bucket] = OrderedDict()

    def attempt(self, address: str, client_id: str) -> Attempt:
        """One authentication that is about to be made."""
        network = _network(address)
        return Attempt(
            address,
            _bucket(self._pairs, f"{network}\x00{client_id}"),
            _bucket(self._addresses, network),
            self.limits,
            self._clock,
        )


@dataclass(slots=True)
class Attempt:
    """Tell it how the authentication went."""

    address: str
    _pair: _Bucket
    _address: _Bucket
    _limits: Throttling
    _clock: Callable[[], float]

    def refused_for(self) -> float | None:
        """Seconds to wait before the next try; None when it may go on."""
        now, limits = self._clock(), self._limits
        waits = [_wait(self._pair, now, limits.client_burst, limits.client_seconds_each)]
        if self._pair.trusted_until <= now:
            waits.append(_wait(self._address, now, limits.address_burst, limits.address_seconds_each))
        longest = max(waits)
        return longest if longest > 0 else None

    def failed(self) -> None:
        """Take one from both buckets."""
        now = self._clock()
        self._pair.free_at = max(self._pair.free_at, now) + self._limits.client_seconds_each
        self._address.free_at = max(self._address.free_at, now) + self._limits.address_seconds_each

    def succeeded(self) -> None:
        """Fill the pair's bucket, and let it pass the address's for a while."""
        self._pair.free_at = 0.0
        self._pair.trusted_until = self._clock() + TRUST_SECONDS


def _wait(bucket: _Bucket, now: float, burst: int, seconds_each: float) -> float:
    return bucket.free_at - now - (burst - 1) * seconds_each


def _bucket(buckets: OrderedDict[bytes, _Bucket], key: str) -> _Bucket:
    # Keys are hashed to a fixed size: what an attacker sends as client id is not kept.
    name = blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()
    bucket = buckets.get(name)
    if bucket is None:
        bucket = buckets[name] = _Bucket()
        if len(buckets) > MAX_TRACKED:
            buckets.popitem(last=False)
    else:
        buckets.move_to_end(name)
    return bucket


@lru_cache(maxsize=1_024)
def _network(address: str) -> str:
    """One IPv6 subscriber has a /64, so that is one address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.exploded[:19]
    return address
