"""Watching the operator's files: a change counts once the files have been still for a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

POLL_SECONDS = 0.1
STILL_SECONDS = 0.1

Stamp = tuple[int, int, int] | None


class Watcher:
    """Polls `stat`: works on every file system, through renames and symlink swaps, and costs microseconds."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stamps = {path: _stamp(path) for path in paths}

    def retarget(self, paths: Iterable[Path]) -> None:
        """Watch these from now on; what is already watched keeps its last known state."""
        self._stamps = {path: self._stamps.get(path, _stamp(path)) for path in paths}

    async def wait(self, also: asyncio.Event) -> set[Path]:
        """The paths that changed, when they have come to rest; none when `also` was set first."""
        while not also.is_set():
            changed = self._changed()
            if changed:
                await self._rest()
                return changed
            await asyncio.sleep(POLL_SECONDS)
        return set()

    async def _rest(self) -> None:
        """Half-written files are not worth an error message."""
        while True:
            self._stamps = {path: _stamp(path) for path in self._stamps}
            await asyncio.sleep(STILL_SECONDS)
            if not self._changed():
                return

    def _changed(self) -> set[Path]:
        return {path for path, stamp in self._stamps.items() if _stamp(path) != stamp}


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
