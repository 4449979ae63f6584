"""`stockade up`, `stockade status` and `stockade reload`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.inputs import installation, nothing_runs, read_policy, with_installation, with_policy
from stockade.control.state import open_state, running_supervisor
from stockade.control.up import Installation, Ready
from stockade.enforcement.admin import GatewayAdmin

if TYPE_CHECKING:
    from stockade.cli.inputs import Place


@click.command(epilog="Example: stockade up --description openapi.yaml --upstream http://127.0.0.1:9000")
@with_policy
@click.option("--json", "as_json", is_flag=True, help="Print what is ready as one JSON object.")
def up(place: Place, as_json: bool) -> int:
    """Run the gate in front of your API, supervised.

    It starts the authorization server, the gateway and the control plane, and restarts one that crashes.
    Ready only when the gate has attacked its own plan and nothing passed. Ctrl-C drains, a second Ctrl-C stops at once.
    Changes to stockade.yaml, the description and certificates come into force while it runs.
    """
    state = open_state(read_policy(place).state)
    running = Installation(lambda: read_policy(place), state, output.say)

    def announce(ready: Ready) -> None:
        output.emit(ready.as_json(), as_json=as_json, text=lambda _: describe(ready))

    return asyncio.run(running.run(announce))


@click.command(epilog="Example: stockade status --json")
@with_installation
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def status(place: Place, as_json: bool) -> int:
    """Show what runs on this state folder."""
    state = installation(place)
    if running_supervisor(state) is None:
        raise nothing_runs(state)
    found: dict[str, Any] = GatewayAdmin(state.run / "gateway.sock").status()
    ready = state.run / "ready.json"
    if ready.exists():
        found["urls"] = {key: value for key, value in json.loads(ready.read_text()).items() if key.endswith("_url")}
    output.emit(found, as_json=as_json, text=_status_lines)
    return 0


@click.command(epilog="Example: stockade reload")
@with_installation
def reload(place: Place) -> int:
    """Take over new files and code without a failed request.

    All files are read anew, and a new gateway process takes over from the old one.
    """
    state = installation(place)
    pid = running_supervisor(state)
    if pid is None:
        raise nothing_runs(state)
    os.kill(pid, signal.SIGHUP)
    output.say(f"asked process {pid} to reload")
    return 0


def describe(ready: Ready) -> str:
    """What a newcomer needs to go on."""
    check = ready.self_check
    lines = [
        f"ready in {ready.seconds:.1f} s: {ready.operations} operations, bundle {ready.serial} ({ready.sha256[:16]})",
        f"self-check: {check.get('cases', 0)} attacks on its own plan, none passed ({check.get('milliseconds', 0)} ms)",
        "",
        f"  API               {ready.api_url}",
        f"  token endpoint    {ready.token_endpoint}",
        f"  issuer            {ready.issuer_url}",
    ]
    if ready.admin_api_url is not None:
        lines.append(f"  administration    {ready.admin_api_url}")
    if ready.ca_file is not None:
        lines += [
            f"  development CA    {ready.ca_file}",
            "                    trust it per command: curl --cacert FILE, or for all of this machine:",
            f"                    cp {ready.ca_file} /usr/local/share/ca-certificates/stockade.crt",
            "                    update-ca-certificates",
        ]
    lines += [
        "",
        "  next: stockade client create NAME --scope SCOPE     a client, its secret shown once",
        "        stockade events --follow                     what is refused, and why",
    ]
    return "\n".join(lines)


def _status_lines(found: dict[str, Any]) -> str:
    bundle = found["bundle"]
    lines = [
        f"ready: {'yes' if found['ready'] else 'no'} (gateway process {found['pid']}, version {found['version']})",
        f"bundle: serial {bundle['serial']}, {bundle['sha256'][:16]}",
        f"connections: {found['connections']}, in flight: {found['in_flight']}",
        *(f"{key.removesuffix('_url')}: {value}" for key, value in found.get("urls", {}).items()),
    ]
    return "\n".join(lines)
