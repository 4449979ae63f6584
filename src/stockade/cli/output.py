"""The CLI's voice: lower case, no final period, input in backticks, then what to do. JSON where a program reads."""

from __future__ import annotations

import json
import re
import traceback
from typing import TYPE_CHECKING, Any

import click

from stockade.errors import StockadeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "stockade"
_QUOTED = re.compile(r"'([^']*)'")


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


def misuse(error: click.ClickException) -> int:
    """Print what is wrong with the command line, in the same voice; returns the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    message = _QUOTED.sub(r"`\1`", error.format_message()).rstrip(".")
    click.echo(f"{PROGRAM}: error: {message[:1].lower()}{message[1:]}", err=True)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(f"{PROGRAM}: hint: see `{context.command_path} --help`", err=True)
    return error.exit_code


def bug(error: Exception) -> None:
    """Say where Stockade itself went wrong. The message stays out: nobody knows what it holds."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename.rpartition('/stockade/')[2]}:{last.lineno}"
    click.echo(f"{PROGRAM}: error: internal error: {type(error).__name__} at {place}", err=True)
    click.echo(f"{PROGRAM}: hint: this is a bug, please report it; STOCKADE_TRACEBACK=1 shows all of it", err=True)


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def columns(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A plain table, left aligned."""
    widths = [max(len(row[index]) for row in [header, *rows]) for index in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)
