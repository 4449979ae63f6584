"""Telling gateways what was revoked, fast: the waiting side of the revocation log.

While someone waits, one task looks at the log's head every POLL_SECONDS, so entries that another process wrote (the
command line, a second server) are seen as well; entries of this process are announced at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockade.identity.errors import Unavailable
from stockade.identity.storage.revocations import read_after, read_head

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stockade.identity.observability import Metrics
    from stockade.identity.storage.lanes import Lanes
    from stockade.identity.storage.revocations import Revocation

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class News:
    """An answer to a gateway. `reset`: it cannot be told what it missed, so it must forget everything."""

    epoch: str
    sequence: int
    reset: bool
    revocations: tuple[Revocation, ...]

    def as_json(self, now: float) -> dict[str, Any]:
        """The form of docs/contracts.md §3."""
        return {
            "epoch": self.epoch,
            "sequence": self.sequence,
            "reset": self.reset,
            "now": round(now, 3),
            "revocations": [revocation.as_json() for revocation in self.revocations],
        }

    @property
    def worth_telling(self) -> bool:
        """Whether a gateway should hear it before its wait is over."""
        return self.reset or bool(self.revocations)


class RevocationFeed:
    """Waits on behalf of gateways."""

    def __init__(self, lanes: Lanes, metrics: Metrics) -> None:
        self.waiters = 0
        self._lanes = lanes
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._seen: tuple[str, int] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, after: int, epoch: str, seconds: float) -> News:
        """News after `after`: at once if there is any, else when it comes, at the latest after `seconds`.

        Raises StorageUnavailable: a gateway must not take silence for "nothing was revoked".
        """
        deadline = asyncio.get_running_loop().time() + seconds
        self._enter()
        try:
            while True:
                # Taken before the look, so that what is announced during it is not slept through.
                changed = self._changed
                news = await self._look(after, epoch)
                remaining = deadline - asyncio.get_running_loop().time()
                if news.worth_telling or remaining <= 0 or self._closed:
                    return news
                try:
                    async with asyncio.timeout(remaining):
                        await changed.wait()
                except TimeoutError:
                    return await self._look(after, epoch)
        finally:
            self.waiters -= 1

    def announce(self) -> None:
        """Something was committed, or everything ends: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Answer all who wait; nobody waits from now on."""
        self._closed = True
        self.announce()

    def _enter(self) -> None:
        self.waiters += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        """Runs while someone waits. When the database fails, waiters are woken to find out for themselves."""
        while self.waiters and not self._closed:
            try:
                head = await self._lanes.read(read_head)
                position: tuple[str, int] | None = (head.epoch, head.sequence)
            except Unavailable:
                position = None
            if position != self._seen:
                self._seen = position
                self.announce()
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, after: int, epoch: str) -> News:
        def work(connection: Connection) -> News:
            head = read_head(connection)
            # Unknown epoch, a number from a future that a restored backup does not know, or entries purged unread.
            if epoch != head.epoch or not head.floor <= after <= head.sequence:
                return News(head.epoch, head.sequence, True, ())
            entries = tuple(read_after(connection, after)) if after < head.sequence else ()
            return News(head.epoch, entries[-1].sequence if entries else head.sequence, False, entries)

        news = await self._lanes.read(work)
        for entry in news.revocations:
            self._metrics.count("revocations_told", kind=entry.kind.value)
        return news
