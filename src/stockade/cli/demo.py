"""`stockade demo`."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from stockade.cli import output
from stockade.demo.installation import Shown
from stockade.demo.installation import demo as run
from stockade.demo.table import curl_commands


@click.command(epilog="Example: stockade demo --once")
@click.option(
    "--once", is_flag=True, help="End after the table; status 0 only if all that must be stopped was stopped."
)
@click.option("--json", "as_json", is_flag=True, help="The rows of the table as JSON.")
def demo(once: bool, as_json: bool) -> int:
    """Attack a weak sample API with and without the gate.

    The table shows each attack, both answers, and which layer decided. It stays up afterwards, unless --once is given.
    """

    def shown(found: Shown) -> None:
        if as_json:
            click.echo(json.dumps(found.result.as_json(), indent=2, ensure_ascii=False))
        if not once:
            click.echo(_invitation(found))

    output.say("starting a weak sample API, an authorization server, and the gate in front of them")
    succeeded = asyncio.run(run(once=once, out=None if as_json else sys.stdout, say=output.say, on_shown=shown))
    if succeeded is None:
        raise click.Abort
    return 0 if succeeded else 1


def _invitation(found: Shown) -> str:
    commands = curl_commands(
        gate_url=found.ready.api_url,
        token_endpoint=found.ready.token_endpoint,
        ca_file=str(found.ready.ca_file),
        client_id=found.client_id,
        client_secret=found.client_secret,
        direct_url=found.direct_url,
    )
    follow = f"stockade events --follow --state {found.ready.state}"
    return f"\nIt stays up. Paste these, watch with `{follow}`, end with Ctrl-C:\n\n{commands}"
