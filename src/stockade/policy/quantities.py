"""Quantities as people write them: `100/minute burst 20`, `8 MiB`."""

from __future__ import annotations

import re
from typing import Any

PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}

_QUOTA = re.compile(r"\s*([0-9]{1,9})\s*/\s*([a-z]+)(?:\s+burst\s+([0-9]{1,9}))?\s*\Z")
_SIZE = re.compile(r"\s*([0-9]{1,12})\s*([A-Za-z]+)?\s*\Z")


def parse_quota(text: str) -> dict[str, int]:
    """`N/second|minute|hour|day [burst M]` → requests, period_seconds, burst (N where not given). Raises ValueError."""
    match = _QUOTA.match(text)
    if match is None:
        raise ValueError(f"`{text}` is not a quota; write it as `100/minute` or `100/minute burst 20`")
    requests, unit, burst = match.groups()
    if unit not in PERIODS:
        raise ValueError(f"unknown period `{unit}`; use second, minute, hour or day")
    return {"requests": int(requests), "period_seconds": PERIODS[unit], "burst": int(burst or requests)}


def format_quota(requests: int, period_seconds: int, burst: int) -> str:
    """The text that `parse_quota` reads back, where the period has a name."""
    names = {seconds: name for name, seconds in PERIODS.items()}
    rate = f"{requests}/{names.get(period_seconds, f'{period_seconds} seconds')}"
    return rate if burst == requests else f"{rate} burst {burst}"


def parse_size(value: Any) -> Any:
    """Bytes from `1048576` or `1 MiB`. Anything but text is handed on unchanged. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    unit = (match.group(2) or "B").upper() if match else ""
    if match is None or unit not in UNITS:
        raise ValueError(f"`{value}` is not a size; write it as `1048576`, `512 KiB` or `8 MiB`")
    return int(match.group(1)) * UNITS[unit]
