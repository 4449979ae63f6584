"""A supervised part against real child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from stockade.enforcement.supervision import Part, PartSpec
from stockade.errors import SupervisionError

if TYPE_CHECKING:
    from pathlib import Path

READY = "import sys,time; print('ready', flush=True); time.sleep(60)"
REFUSES = "import sys; print('config.json: unknown field `x`', file=sys.stderr); sys.exit(2)"
IGNORES_TERM = (
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def spec(code: str, **options: float) -> PartSpec:
    return PartSpec("part", [sys.executable, "-c", code], os.environ, **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("did not happen in time")


def test_a_part_that_refuses_to_start_is_reported_in_its_own_words() -> None:
    async def scenario() -> None:
        part = Part(spec(REFUSES), lambda *_: None)
        with pytest.raises(SupervisionError, match=r"status 2.*unknown field `x`"):
            await part.start()

    asyncio.run(scenario())


def test_a_part_that_never_says_ready_is_killed() -> None:
    async def scenario() -> None:
        said: list[str] = []
        part = Part(spec("import time; time.sleep(60)", ready_seconds=0.5), lambda _, line: said.append(line))
        with pytest.raises(SupervisionError, match="not ready within"):
            await part.start()

    asyncio.run(scenario())


def test_a_crashed_part_is_started_again() -> None:
    async def scenario() -> None:
        part = Part(spec(READY, drain_seconds=1), lambda *_: None)
        await part.start()
        keeper = asyncio.create_task(part.keep_alive())
        first = part.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: part.pid not in (None, first))
        assert part.restarts == 1
        await part.stop()
        await asyncio.wait_for(keeper, 5)
        assert part.pid is None

    asyncio.run(scenario())


def test_a_successor_is_ready_before_the_old_process_is_drained() -> None:
    async def scenario() -> None:
        part = Part(spec(READY, drain_seconds=1), lambda *_: None)
        await part.start()
        keeper = asyncio.create_task(part.keep_alive())
        first = part.pid
        assert first is not None
        await part.replace()
        assert part.pid not in (None, first)
        await until(lambda: not alive(first))
        await asyncio.sleep(0.3)
        assert part.restarts == 0
        await part.stop()
        await asyncio.wait_for(keeper, 5)

    asyncio.run(scenario())


def test_a_failed_successor_leaves_the_old_process_in_place() -> None:
    async def scenario() -> None:
        part = Part(spec(READY, drain_seconds=1), lambda *_: None)
        await part.start()
        first = part.pid
        with pytest.raises(SupervisionError):
            await part.replace(spec(REFUSES))
        assert part.pid == first
        await part.stop()

    asyncio.run(scenario())


def test_a_part_that_ignores_the_drain_is_killed_when_time_is_up() -> None:
    async def scenario() -> None:
        part = Part(spec(IGNORES_TERM, drain_seconds=-1.5), lambda *_: None)
        await part.start()
        await part.stop()
        assert part.pid is None

    asyncio.run(scenario())


def test_inherited_descriptors_reach_the_child(tmp_path: Path) -> None:
    async def scenario() -> None:
        with (tmp_path / "shared").open("w+") as handle:
            code = f"import os; os.write({handle.fileno()}, b'seen'); print('ready', flush=True)"
            one = PartSpec("part", [sys.executable, "-c", code], os.environ, (handle.fileno(),))
            part = Part(one, lambda *_: None)
            await part.start()
            await part.stop()
            handle.seek(0)
            assert handle.read() == "seen"

    asyncio.run(scenario())
