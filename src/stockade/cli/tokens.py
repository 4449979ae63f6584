"""`stockade token`: ask for one, revoke one, look one up."""

from __future__ import annotations

import json
import ssl
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import httpx

from stockade.cli import output
from stockade.cli.clients import identity_storage, lines
from stockade.cli.inputs import installation, nothing_runs, with_installation
from stockade.errors import InputError, StateError
from stockade.identity import admin

if TYPE_CHECKING:
    from stockade.cli.inputs import Place

OK = 200


@click.group(epilog="Example: echo $SECRET | stockade token request --client-id c_12ab")
def token() -> None:
    """Ask for, revoke and look up access tokens.

    A credential is read from standard input, never from the command line, where others see it.
    """


@token.command(epilog="Example: echo $SECRET | stockade token request --client-id c_12ab --scope orders:read")
@with_installation
@click.option("--client-id", required=True, metavar="ID", help="The client's id, as `stockade client list` shows it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="A scope to ask for; repeatable. By default all that it has.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole answer (RFC 6749 §5.1) as JSON.")
def request(place: Place, client_id: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Get an access token by client_credentials.

    The client secret comes on standard input; the token goes to standard output.
    """
    state = installation(place)
    ready_file = state.run / "ready.json"
    if not ready_file.exists():
        raise nothing_runs(state)
    ready: dict[str, Any] = json.loads(ready_file.read_text())
    fields = {"grant_type": "client_credentials", **({"scope": " ".join(scopes)} if scopes else {})}
    try:
        answer = httpx.post(
            ready["token_endpoint"],
            data=fields,
            auth=(client_id, _secret("client secret")),
            verify=ssl.create_default_context(cafile=ready["ca_file"]),
            timeout=10,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise StateError(f"the token endpoint does not answer: {type(error).__name__}") from error
    body = _json(answer)
    if answer.status_code != OK:
        raise InputError(
            f"the authorization server refused: {body.get('error')}: {body.get('error_description', '')}",
            hint="check client id, secret and scopes: `stockade client list`",
        )
    output.emit(body, as_json=as_json, text=lambda granted: str(granted["access_token"]))


@token.command(epilog="Example: echo $TOKEN | stockade token revoke")
@with_installation
def revoke(place: Place) -> int:
    """Revoke an access token or API key.

    It comes on standard input (an API key also by its id); every gateway refuses it within a second.
    """
    with identity_storage(place) as storage:
        done = admin.revoke_token(storage, _secret("token"))
    output.say("revoked" if done else "nothing to revoke: unknown, expired or revoked before")
    return 0 if done else 1


@token.command(epilog="Example: echo $TOKEN | stockade token show")
@with_installation
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(place: Place, as_json: bool) -> int:
    """Tell what is known of an access token or API key.

    It comes on standard input, and is not shown again.
    """
    with identity_storage(place) as storage:
        known = admin.introspect(storage, _secret("token"))
    if known is None:
        output.say("unknown, or not a credential of Stockade")
        return 1
    found = asdict(known) | {"kind": known.kind.name.lower(), "standing": str(known.standing)}
    output.emit(found, as_json=as_json, text=lines)
    return 0


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise StateError(f"the token endpoint answered {answer.status_code} without a JSON object")
    return body


def _secret(what: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, err=True))
    value = sys.stdin.readline().strip()
    if not value:
        raise InputError(
            f"no {what} on standard input", hint="pipe it in, so that it stays out of the process list: echo $X | …"
        )
    return value
