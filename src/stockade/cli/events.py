"""`stockade events` and `stockade explain`."""

from __future__ import annotations

import difflib
import json
from collections import deque
from typing import TYPE_CHECKING

import click

from stockade.cli import output
from stockade.cli.inputs import installation, with_installation
from stockade.errors import InputError
from stockade.observe import events as log
from stockade.observe.explain import LAYERS, REASONS
from stockade.observe.explain import explain as tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stockade.cli.inputs import Place


@click.command(epilog="Example: stockade events --follow --layer validate_request --since 15m")
@with_installation
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they come.")
@click.option(
    "--layer", type=click.Choice(list(LAYERS)), metavar="LAYER", help=f"Only this layer: {', '.join(LAYERS)}."
)
@click.option("--outcome", type=click.Choice(["deny", "observe", "allow", "error"]), help="Only this outcome.")
@click.option("--operation", metavar="ID", help="Only this operation id.")
@click.option("--client-id", metavar="ID", help="Only this client.")
@click.option("--reason", metavar="REASON", help="Only this reason, such as `body_invalid`.")
@click.option("--since", metavar="WHEN", help="Only since then: `15m`, `2h`, `1d` or an RFC 3339 time.")
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as logged.")
def events(
    place: Place,
    follow: bool,
    layer: str | None,
    outcome: str | None,
    operation: str | None,
    client_id: str | None,
    reason: str | None,
    since: str | None,
    last: int | None,
    as_json: bool,
) -> None:
    """Show refusals, observations and failures, oldest first."""
    path = installation(place).events
    _refuse_unknown_reason(reason)
    keep = log.Filter(layer, outcome, operation, client_id, reason, log.parse_since(since) if since else None)
    # Opened before the past is read: an event that is written meanwhile is in both, and shown once.
    coming = log.follow(path, keep) if follow else iter(())
    past: Iterable[log.Event] = log.read(path, keep)
    if last is not None:
        past = deque(past, maxlen=last)
    shown = set()
    try:
        for event in past:
            shown.add(event.get("id"))
            _print(event, as_json=as_json)
        for event in coming:
            if event.get("id") not in shown:
                _print(event, as_json=as_json)
    except KeyboardInterrupt:
        return
    if not shown and not as_json:
        output.say("no events" + (" that match" if any((layer, outcome, operation, client_id, reason, since)) else ""))


@click.command(epilog="Example: stockade explain 019ab1c2-7f00-7abc-8def-0123456789ab")
@with_installation
@click.argument("event_id")
@click.option("--json", "as_json", is_flag=True, help="The event as logged.")
def explain(place: Place, event_id: str, as_json: bool) -> None:
    """Tell the story of one event in plain words.

    EVENT_ID is the `instance` of a problem document, or the last column of `stockade events`.
    """
    path = installation(place).events
    event = log.find(path, event_id)
    if event is None:
        raise InputError(
            f"no event `{event_id}` in `{path}`",
            hint="events are rotated away in time; `stockade events` lists those that are left",
        )
    output.emit(event, as_json=as_json, text=tell)


def _refuse_unknown_reason(reason: str | None) -> None:
    if reason is not None and reason not in REASONS:
        close = difflib.get_close_matches(reason, REASONS, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(REASONS))}"
        raise InputError(f"unknown reason `{reason}`", hint=hint)


def _print(event: log.Event, *, as_json: bool) -> None:
    click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))


def _line(event: log.Event) -> str:
    client = event.get("client") or {}
    cells = (
        str(event.get("time", "")),
        str(event.get("outcome", "")).ljust(7),
        str(event.get("status", "")).ljust(3),
        "/".join(str(event[key]) for key in ("layer", "reason") if event.get(key)).ljust(38),
        (" ".join(str(event[key]) for key in ("method", "path") if event.get(key)) or _remark(event)).ljust(32),
        str(client.get("client_id") or client.get("address") or "").ljust(22),
        str(event.get("id", "")),
    )
    return "  ".join(cells).rstrip()


def _remark(event: log.Event) -> str:
    """An event that is not about a request: `process: ready`."""
    return ": ".join(str(event[key]) for key in ("kind", "detail") if event.get(key))
