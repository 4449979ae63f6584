"""One supervised child process: started, watched, restarted with backoff, replaced without a gap, stopped.

A part is ready when it has written the line `ready` to its standard output. Its standard error is passed on line by
line. Children run in sessions of their own, so that a Ctrl-C at the terminal reaches the supervisor alone, which then
drains them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stockade.errors import SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0
STABLE_AFTER_SECONDS = 30.0
LAST_WORDS = 20


@dataclass(frozen=True, slots=True)
class PartSpec:
    """How to start a part. `pass_fds` are inherited under their numbers."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()
    ready_seconds: float = 30.0
    drain_seconds: float = 20.0


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    started_at: float
    last_words: list[str] = field(default_factory=list)
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def reason(self) -> str:
        """The last line the part wrote: parts say why they stop in their last line."""
        return self.last_words[-1] if self.last_words else "it said nothing"


class Part:
    """A running part. `say(name, line)` receives its standard error and the supervisor's own remarks."""

    def __init__(self, spec: PartSpec, say: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self._say = say
        self._child: _Child | None = None
        self._stopping = False
        self._background: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._changing = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.process.pid if self._child and self._child.process.returncode is None else None

    async def start(self) -> None:
        """Start and wait until ready. Raises SupervisionError with the part's own last words."""
        self._child = await self._spawn()

    async def keep_alive(self) -> None:
        """Restart the part whenever it ends, until `stop`."""
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            child = self._child
            if child is not None:
                await self._ended_or_replaced(child)
            async with self._changing:
                if self._stopping or child is not self._child:
                    continue
                if child is not None:
                    if time.monotonic() - child.started_at > STABLE_AFTER_SECONDS:
                        delay = FIRST_DELAY_SECONDS
                    how = f"ended with status {child.process.returncode} ({child.reason()})"
                    self._say(self.spec.name, f"{how}; starting it again in {delay:.1f} s")
                await self._pause(delay)
                delay = min(delay * 2, LONGEST_DELAY_SECONDS)
                if not self._stopping:
                    await self._try_again()

    async def _try_again(self) -> None:
        self.restarts += 1
        try:
            self._child = await self._spawn()
        except SupervisionError as error:
            self._child = None
            self._say(self.spec.name, error.message)

    async def _pause(self, seconds: float) -> None:
        # A stop must not wait for the backoff.
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def replace(self, spec: PartSpec | None = None) -> None:
        """Start a successor, wait until it is ready, then drain the old process. On failure the old one stays."""
        successor = await self._spawn(spec or self.spec)
        old, self._child = self._child, successor
        if spec is not None:
            self.spec = spec
        self._changed.set()
        if old is not None and old.process.returncode is None:
            task = asyncio.create_task(self._drain(old))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def restart(self, spec: PartSpec, undo: Callable[[], object]) -> None:
        """End the old process, then start anew: for parts that hold an address or a database alone.

        Raises SupervisionError when it does not start; then `undo` was called, and it runs as it did before.
        """
        async with self._changing:
            old, self._child = self._child, None
            before, self.spec = self.spec, spec
            if old is not None:
                await self._drain(old)
            try:
                self._child = await self._spawn()
            except SupervisionError:
                undo()
                self.spec = before
                self._child = await self._spawn()
                raise

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            os.kill(self.pid, number)

    async def stop(self) -> None:
        """Drain: SIGTERM, then SIGKILL when the time is up."""
        self._stopping = True
        self._changed.set()
        if self._child is not None:
            await self._drain(self._child)
        for task in list(self._background):
            await task

    def kill(self) -> None:
        """Stop at once."""
        self._stopping = True
        if self._child is not None and self._child.process.returncode is None:
            self._child.process.kill()

    async def _ended_or_replaced(self, child: _Child) -> None:
        self._changed.clear()
        ended = asyncio.create_task(child.process.wait())
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, changed):
            task.cancel()
        if child.process.returncode is not None:
            await asyncio.gather(*child.pumps, return_exceptions=True)

    async def _spawn(self, spec: PartSpec | None = None) -> _Child:
        spec = spec or self.spec
        process = await asyncio.create_subprocess_exec(
            *spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(spec.environment),
            pass_fds=spec.pass_fds,
            start_new_session=True,
        )
        child = _Child(process, time.monotonic())
        child.pumps.append(asyncio.create_task(self._pump_errors(child)))
        try:
            await asyncio.wait_for(self._ready(child), spec.ready_seconds)
        except TimeoutError:
            await self._bury(child)
            raise SupervisionError(f"{spec.name} was not ready within {spec.ready_seconds:.0f} s") from None
        except BaseException:
            await self._bury(child)
            raise
        child.pumps.append(asyncio.create_task(self._pump_output(child)))
        return child

    async def _ready(self, child: _Child) -> None:
        output = child.process.stdout
        assert output is not None  # noqa: S101  # asked for with PIPE above
        async for line in output:
            if line.strip() == b"ready":
                return
        await asyncio.gather(*child.pumps, return_exceptions=True)
        status = await child.process.wait()
        raise SupervisionError(f"{self.spec.name} did not start (status {status}): {child.reason()}")

    @staticmethod
    async def _bury(child: _Child) -> None:
        if child.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()
        await child.process.wait()
        await asyncio.gather(*child.pumps, return_exceptions=True)

    async def _pump_errors(self, child: _Child) -> None:
        stream = child.process.stderr
        assert stream is not None  # noqa: S101  # asked for with PIPE above
        with contextlib.suppress(ValueError):  # an overlong line ends the copy, not the part
            async for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip()
                if line:
                    child.last_words = [*child.last_words[-LAST_WORDS:], line]
                    self._say(self.spec.name, line)

    async def _pump_output(self, child: _Child) -> None:
        stream = child.process.stdout
        assert stream is not None  # noqa: S101  # asked for with PIPE above
        with contextlib.suppress(ValueError):
            async for raw in stream:
                self._say(self.spec.name, raw.decode("utf-8", "replace").rstrip())

    async def _drain(self, child: _Child) -> None:
        process = child.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.spec.drain_seconds + 2)
            except TimeoutError:
                self._say(self.spec.name, "did not end in time; killing it")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await asyncio.gather(*child.pumps, return_exceptions=True)
