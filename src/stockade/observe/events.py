"""Reading the event log: filter, follow through rotations, find one event (docs/contracts.md §6)."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from stockade.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = dict[str, Any]

_DURATION = re.compile(r"(\d+)\s*([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events to show. None means any; `since` is an RFC 3339 timestamp."""

    layer: str | None = None
    outcome: str | None = None
    operation: str | None = None
    client_id: str | None = None
    reason: str | None = None
    since: str | None = None

    def admits(self, event: Event) -> bool:
        """Whether `event` has all that is asked for."""
        wanted = (
            (self.layer, event.get("layer")),
            (self.outcome, event.get("outcome")),
            (self.operation, event.get("operation")),
            (self.reason, event.get("reason")),
            (self.client_id, (event.get("client") or {}).get("client_id")),
        )
        recent = self.since is None or str(event.get("time", "")) >= self.since
        return recent and all(want is None or want == have for want, have in wanted)


def parse_since(text: str, now: datetime | None = None) -> str:
    """`15m`, `2h` or an RFC 3339 timestamp, as the UTC timestamp that events carry. Raises InputError."""
    match = _DURATION.fullmatch(text.strip())
    if match:
        moment = (now or datetime.now(UTC)) - timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InputError(
                f"`{text}` is neither a span nor a time", hint="say `15m`, `2h`, `1d` or `2026-01-31T12:00:00Z`"
            ) from error
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def read(path: Path, keep: Filter) -> Iterator[Event]:
    """All events on disk, oldest first, rotated files included. A torn or foreign line is skipped."""
    for file in reversed(_files(path)):
        with file.open("rb") as handle:
            for line in handle:
                event = _parse(line)
                if event is not None and keep.admits(event):
                    yield event


def follow(path: Path, keep: Filter, *, poll_seconds: float = 0.2) -> Iterator[Event]:
    """New events from the moment of the call, for ever; goes on through rotation and a log that does not exist yet."""
    handle: IO[bytes] | None = None
    if path.exists():
        handle = path.open("rb")
        handle.seek(0, 2)
    return _follow(path, handle, keep, poll_seconds)


def _follow(path: Path, handle: IO[bytes] | None, keep: Filter, poll_seconds: float) -> Iterator[Event]:
    rest = b""
    try:
        while True:
            chunk = handle.read() if handle is not None else b""
            if chunk:
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (event for event in map(_parse, lines) if event is not None and keep.admits(event))
            elif _rotated(path, handle):
                if handle is not None:
                    handle.close()
                handle, rest = path.open("rb"), b""
            else:
                time.sleep(poll_seconds)
    finally:
        if handle is not None:
            handle.close()


def find(path: Path, event_id: str) -> Event | None:
    """The event with this id; `urn:uuid:` in front, as problem documents write it, is fine."""
    wanted = event_id.strip().removeprefix("urn:uuid:").lower()
    needle = wanted.encode()
    for file in _files(path):
        with file.open("rb") as handle:
            for line in handle:
                if needle in line:
                    event = _parse(line)
                    if event is not None and event.get("id") == wanted:
                        return event
    return None


def _files(path: Path) -> list[Path]:
    """The log and its rotations (`events.jsonl.1` is the newest of them), newest first."""
    rotated = sorted(
        (int(file.suffix[1:]), file) for file in path.parent.glob(path.name + ".*") if file.suffix[1:].isdigit()
    )
    return [file for file in (path, *(file for _, file in rotated)) if file.exists()]


def _rotated(path: Path, handle: IO[bytes] | None) -> bool:
    try:
        current = path.stat()
    except FileNotFoundError:
        return False
    if handle is None:
        return True
    mine = os.fstat(handle.fileno())
    return (current.st_ino, current.st_dev) != (mine.st_ino, mine.st_dev) or current.st_size < handle.tell()


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
