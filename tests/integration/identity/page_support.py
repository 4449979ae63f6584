"""Runs a piece of a page against a server's database: for what a page does between two requests."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stockade.identity.storage.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stockade.identity.storage import Storage


def run(storage: Storage, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run `work` with services that have a database and a clock."""

    async def inside() -> Any:
        lanes = Lanes(storage)
        try:
            return await work(SimpleNamespace(lanes=lanes, clock=time.time))
        finally:
            lanes.close()

    return asyncio.run(inside())
