"""The words of the pages, and which language a browser gets.

A locale is one TOML file of plain texts: no markup, `{name}` for what is filled in. English is complete by definition;
a test holds every other file against it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = Path(__file__).with_name("locales")
FALLBACK = "en"
MAX_HEADER_CHARS = 512


@dataclass(frozen=True, slots=True)
class Locale:
    """One language. `tag` is BCP 47."""

    tag: str
    texts: Mapping[str, str]

    def text(self, key: str, **values: object) -> str:
        """The text under `key` with its placeholders filled. A missing key is a defect and raises KeyError."""
        return self.texts[key].format(**values)

    def known(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self.texts

    def moment(self, seconds: float) -> str:
        """A time as people write it; in UTC, which is said, since nobody told us where they are."""
        time = datetime.fromtimestamp(seconds, UTC)
        month = self.texts["time.months"].split(" ")[time.month - 1]
        return self.text(
            "time.moment", day=time.day, month=month, year=time.year, hour=f"{time:%H}", minute=f"{time:%M}"
        )


def choose(wanted: Iterable[str], accept_language: str, default: str) -> Locale:
    """`ui_locales` of the request first (OIDC Core §3.1.2.1), then the browser's, then the operator's."""
    known = locales()
    for tag in (*wanted, *_by_preference(accept_language), default):
        # RFC 4647 §3.4: a longer tag gives way to a shorter one.
        parts = tag.lower().split("-")
        for length in range(len(parts), 0, -1):
            if (found := known.get("-".join(parts[:length]))) is not None:
                return found
    return known[FALLBACK]


@lru_cache(maxsize=1)
def locales() -> Mapping[str, Locale]:
    """Every language that there is, by its tag in lower case."""
    return {path.stem.lower(): _read(path) for path in sorted(FOLDER.glob("*.toml"))}


def _read(path: Path) -> Locale:
    return Locale(path.stem, dict(_flat(tomllib.loads(path.read_text("utf-8")))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield prefix + name, value
        else:
            yield from _flat(value, f"{prefix}{name}.")


_RANGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,3})\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


def _by_preference(header: str) -> list[str]:
    """RFC 9110 §12.5.4. What is not understood is passed over; `q=0` means never."""
    weighted = []
    for part in header[:MAX_HEADER_CHARS].split(","):
        match = _RANGE.fullmatch(part)
        if match and (weight := float(match[2] or 1)) > 0:
            weighted.append((weight, match[1]))
    return [tag for _, tag in sorted(weighted, key=lambda pair: -pair[0])]
