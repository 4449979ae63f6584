"""Database work off the event loop: a thread that runs what waits in one transaction.

Group commit: while one transaction is being made durable the next callers queue, and all of them share the next
one. The cost of `synchronous=FULL` is so paid once for many tokens, and each is answered only after its commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from stockade.identity.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from stockade.identity.storage.engine import Storage

Result = TypeVar("Result")

MAX_WAITING = 4_096
MAX_BATCH = 256
TIMEOUT_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]


class Lane:
    """Runs jobs one batch after the other. A job may run twice (see `_execute`) and must touch only its connection."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Connection]], name: str) -> None:
        self._transaction = transaction
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._event_loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction and wait for its commit.

        Raises StorageUnavailable when the database cannot, too many wait already, or the wait took too long.
        """
        job = _Job(work, self._event_loop.create_future())
        with self._wake:
            if self._closed or len(self._waiting) >= MAX_WAITING:
                raise StorageUnavailable("too much work is waiting for the database")
            self._waiting.append(job)
            self._wake.notify()
        # A timer of our own: asyncio.timeout costs several times as much, and this is done twice for each token.
        timer = self._event_loop.call_later(TIMEOUT_SECONDS, _give_up, job.future)
        try:
            result: Result = await job.future
        finally:
            timer.cancel()
        return result

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=TIMEOUT_SECONDS)

    def _serve(self) -> None:
        while batch := self._next_batch():
            outcomes = self._execute(batch)
            try:
                self._event_loop.call_soon_threadsafe(_deliver, batch, outcomes)
            except RuntimeError:  # the event loop is gone, and with it everyone who waited
                return

    def _next_batch(self) -> list[_Job]:
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            count = min(len(self._waiting), MAX_BATCH)
            return [self._waiting.popleft() for _ in range(count)]

    def _execute(self, batch: list[_Job]) -> list[Any]:
        """Results or exceptions, in order.

        When the database fails, all of the batch fails with it: trying one by one would only prolong the outage.
        When one job fails, none was committed; each is then tried alone, so that it fails alone.
        """
        try:
            with self._transaction() as connection:
                return [job.work(connection) for job in batch]
        except StorageUnavailable as error:
            return [StorageUnavailable(error.reason) for _ in batch]
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
            if len(batch) == 1:
                return [error]
        return [outcome for job in batch for outcome in self._execute([job])]


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StorageUnavailable(f"the database did not answer within {TIMEOUT_SECONDS:g} s"))


def _deliver(batch: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(batch, outcomes, strict=True):
        if job.future.done():
            continue
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)


class Lanes:
    """The server's way to the database: one lane that writes, and one or more that read."""

    def __init__(self, storage: Storage) -> None:
        # SQLite answers from its page cache; a database across a network is asked by several at once.
        readers = 1 if storage.engine.dialect.name == "sqlite" else 4
        self._writer = Lane(storage.write, "database-writer")
        self._readers = deque(Lane(storage.read, f"database-reader-{n}") for n in range(readers))

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on a consistent snapshot that holds every commit made before."""
        self._readers.rotate()
        return await self._readers[0].run(work)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a write transaction; returns once it is durable."""
        return await self._writer.run(work)

    def close(self) -> None:
        """Finish what waits."""
        for lane in (self._writer, *self._readers):
            lane.close()
