"""A terminal on paper: commands run as a user types them, what they print becomes a transcript to compare."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from stockade.cli import main as entry

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = "STOCKADE_UPDATE_SNAPSHOTS"

# What differs from run to run, and what stands for it.
CHANGING = (
    (re.compile(r"stk_(at|cs|ak|it)_[\w-]{49}"), r"stk_\1_…"),
    (re.compile(r"\b(c|k|u|i)_[0-9a-f]{20}\b"), r"\1_…"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\b[0-9a-f]{16}…"), "<sha256>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"(?<=<date> )\d\d:\d\d:\d\d(\+00:00)?"), "<time>"),
    (re.compile(r'(?<=d_at": |s_at": )\d{10}\b'), "<seconds>"),
    (re.compile(r"\b[\w-]{43}(?= +ES256)"), "<kid>"),
    (re.compile(r"\d+ bytes, compiled in [\d.]+ s"), "<n> bytes, compiled in <n> s"),
)


class Terminal:
    """Runs `stockade` in this process and keeps a transcript."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder
        self.transcript = ""
        self.status = 0

    def __call__(self, line: str, *, stdin: str = "") -> str:
        """Type a line; returns what came out, standard error included."""
        screen = io.StringIO()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", shlex.split(line))
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            patch.setattr(sys, "stdout", screen)
            patch.setattr(sys, "stderr", screen)
            with pytest.raises(SystemExit) as ended:
                entry.main()
        self.status = int(ended.value.code or 0)
        said = screen.getvalue()
        self.transcript += f"$ {line}\n{said}" + (f"(status {self.status})\n" if self.status else "") + "\n"
        return said

    def compare(self, name: str) -> None:
        """Hold the transcript against the one in snapshots/, which somebody has read."""
        text = self.transcript.replace(str(self._folder), "<folder>")
        for pattern, instead in CHANGING:
            text = pattern.sub(instead, text)
        path = SNAPSHOTS / f"{name}.txt"
        if UPDATE in os.environ:
            path.write_text(text, "utf-8")
        assert path.exists(), f"no snapshot: make it with {UPDATE}=1, and read it"
        assert text == path.read_text("utf-8"), f"`{path.name}` differs: renew it with {UPDATE}=1, and read the change"
