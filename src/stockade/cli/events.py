"""`stockade events` and `stockade explain`."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import click

from stockade.cli import output
from stockade.cli.inputs import installation, with_installation
from stockade.errors import InputError
from stockade.observe import events as log
from stockade.observe.explain import explain as tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stockade.cli.inputs import Place


@click.command(
    epilog="Example: stockade events --follow --layer validate_request --since 15m",
)
@with_installation
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they come.")
@click.option("--layer", help="Only this layer: framing, lookup, limits, authenticate, authorize, validate_request, …")
@click.option("--outcome", type=click.Choice(["deny", "observe", "allow", "error"]), help="Only this outcome.")
@click.option("--operation", help="Only this operation id.")
@click.option("--client-id", help="Only this client.")
@click.option("--reason", help="Only this reason, such as `body_invalid`.")
@click.option("--since", help="Only since then: `15m`, `2h`, `1d` or an RFC 3339 time.")
@click.option("-n", "--last", type=click.IntRange(min=1), help="Only the last N.")
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
    """Show what happened: refusals, observations and failures, oldest first."""
    path = installation(place).events
    keep = log.Filter(layer, outcome, operation, client_id, reason, log.parse_since(since) if since else None)
    past = list(log.read(path, keep))
    if last is not None:
        past = past[-last:]
    stream: Iterable[log.Event] = itertools.chain(past, log.follow(path, keep)) if follow else past
    try:
        for event in stream:
            click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))
    except KeyboardInterrupt:
        return
    if not past and not follow and not as_json:
        output.say("no events" + (" that match" if any((layer, outcome, operation, client_id, reason, since)) else ""))


@click.command(epilog="Example: stockade explain 019ab1c2-7f00-7abc-8def-0123456789ab")
@with_installation
@click.argument("event_id")
@click.option("--json", "as_json", is_flag=True, help="The event as logged.")
def explain(place: Place, event_id: str, as_json: bool) -> None:
    """Tell the story of one event: `instance` of a problem document names it."""
    path = installation(place).events
    event = log.find(path, event_id)
    if event is None:
        raise InputError(
            f"no event `{event_id}` in `{path}`",
            hint="events are rotated away in time; `stockade events` lists those that are left",
        )
    output.emit(event, as_json=as_json, text=tell)


def _line(event: log.Event) -> str:
    client = event.get("client") or {}
    cells = (
        str(event.get("time", "")),
        str(event.get("outcome", "")).ljust(7),
        str(event.get("status", "")).ljust(3),
        f"{event.get('layer', event.get('kind', ''))}/{event.get('reason', '')}".ljust(38),
        f"{event.get('method', '')} {event.get('path', '')}".strip().ljust(32),
        str(client.get("client_id") or client.get("address") or ""),
        str(event.get("id", "")),
    )
    return "  ".join(cells).rstrip()
