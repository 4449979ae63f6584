"""The CLI's voice: lower case, no final period, input in backticks, then what to do. JSON where a program reads."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from stockade.errors import StockadeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "stockade"


def say(message: str) -> None:
    """A remark for a person; standard error, so that output stays parseable."""
    click.echo(f"{PROGRAM}: {message}", err=True)


def emit(value: Any, *, as_json: bool, text: Callable[[Any], str]) -> None:
    """The command's result: one JSON document, or text made by `text`."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text(value))


def fail(error: StockadeError) -> int:
    """Print `error:` and `hint:` lines; returns the exit status."""
    click.echo(f"{PROGRAM}: error: {error}", err=True)
    if error.hint:
        click.echo(f"{PROGRAM}: hint: {error.hint}", err=True)
    return error.exit_status


def columns(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A plain table, left aligned."""
    widths = [max(len(row[index]) for row in [header, *rows]) for index in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def is_terminal() -> bool:
    """Whether colour and live output make sense."""
    return sys.stdout.isatty()
