"""`stockade user`: people, their passwords, factors and sessions. Works whether Stockade runs or not."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.clients import as_json_option, identity_storage, lines
from stockade.cli.inputs import with_installation
from stockade.errors import InputError
from stockade.identity import admin_people
from stockade.identity.admin_api import session_json, user_json

if TYPE_CHECKING:
    from stockade.cli.inputs import Place

_name = click.argument("name_or_id")
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, one line, without echo."
)


@click.group(epilog="Example: echo $PASSWORD | stockade user create alice --password-stdin --email alice@example.com")
def user() -> None:
    """Create, list, disable and reset people.

    Nobody is ever deleted, only disabled: an id in a token or in the audit record must not come to mean another.
    """


@user.command(epilog="Example: echo $PASSWORD | stockade user create alice --password-stdin --name Alice --json")
@with_installation
@click.argument("name")
@_password_stdin
@click.option("--must-change", is_flag=True, help="The password must be changed at the first sign-in.")
@click.option("--email", metavar="ADDRESS", help="An e-mail address; it counts as not verified.")
@click.option("--name", "full_name", metavar="TEXT", help="The name to show.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role, such as admin; repeatable.")
@as_json_option
def create(
    place: Place,
    name: str,
    password_stdin: bool,
    must_change: bool,
    email: str | None,
    full_name: str | None,
    roles: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a person.

    Without a password nobody can sign in as them before `stockade user set-password`.
    """
    password = _password() if password_stdin else None
    with identity_storage(place, make=True) as storage:
        made = admin_people.create_user(
            storage, name, password, email=email, name=full_name, roles=roles, must_change=must_change
        )
    output.emit(user_json(made), as_json=as_json, text=lines)


@user.command("list", epilog="Example: stockade user list --json")
@with_installation
@as_json_option
def list_users(place: Place, as_json: bool) -> None:
    """List all people and what they sign in with."""
    people, after = [], ""
    with identity_storage(place) as storage:
        while page := admin_people.list_users(storage, after):
            people += page
            after = page[-1].username
    output.emit([user_json(one) for one in people], as_json=as_json, text=_table)


@user.command(epilog="Example: stockade user show alice")
@with_installation
@_name
@as_json_option
def show(place: Place, name_or_id: str, as_json: bool) -> None:
    """Show one person."""
    with identity_storage(place) as storage:
        found = admin_people.show_user(storage, name_or_id)
    output.emit(user_json(found), as_json=as_json, text=lines)


@user.command(epilog="Example: stockade user update alice --email alice@example.com --role admin")
@with_installation
@_name
@click.option("--email", metavar="ADDRESS", help="An e-mail address, then not verified; empty removes it.")
@click.option("--name", "full_name", metavar="TEXT", help="The name to show; empty removes it.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role instead of those before; repeatable.")
@click.option("--no-roles", is_flag=True, help="Take all roles away.")
@as_json_option
def update(
    place: Place,
    name_or_id: str,
    email: str | None,
    full_name: str | None,
    roles: tuple[str, ...],
    no_roles: bool,
    as_json: bool,
) -> None:
    """Change name, e-mail address or roles."""
    given: dict[str, Any] = {"email": email, "name": full_name, "roles": list(roles) if roles or no_roles else None}
    changes = {field: value for field, value in given.items() if value is not None}
    with identity_storage(place) as storage:
        changed = admin_people.update_user(storage, name_or_id, changes)
    output.emit(user_json(changed), as_json=as_json, text=lines)


@user.command(epilog="Example: stockade user disable alice")
@with_installation
@_name
def disable(place: Place, name_or_id: str) -> None:
    """Stop a person; their sessions and tokens are dead within a second."""
    with identity_storage(place) as storage:
        admin_people.disable_user(storage, name_or_id)
    output.say(f"user `{name_or_id}` is disabled, sessions and tokens are revoked")


@user.command(epilog="Example: stockade user enable alice")
@with_installation
@_name
def enable(place: Place, name_or_id: str) -> None:
    """Let a disabled person sign in again; tokens from before stay dead."""
    with identity_storage(place) as storage:
        admin_people.enable_user(storage, name_or_id)
    output.say(f"user `{name_or_id}` is enabled")


@user.command("set-password", epilog="Example: echo $PASSWORD | stockade user set-password alice --password-stdin")
@with_installation
@_name
@_password_stdin
def set_password(place: Place, name_or_id: str, password_stdin: bool) -> None:
    """Set a password that must be changed at the next sign-in.

    It is asked for at a terminal, or read from standard input. All sessions of the person end.
    """
    if not password_stdin and not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for the password", hint="pipe it in with --password-stdin")
    password = _password()
    with identity_storage(place) as storage:
        admin_people.set_password(storage, name_or_id, password)
    output.say(f"user `{name_or_id}` has a new password, to be changed at the next sign-in; sessions have ended")


@user.command("reset-factors", epilog="Example: stockade user reset-factors alice")
@with_installation
@_name
def reset_factors(place: Place, name_or_id: str) -> None:
    """Remove authenticator app, passkeys and recovery codes.

    For a person who lost them. All their sessions end.
    """
    with identity_storage(place) as storage:
        admin_people.reset_factors(storage, name_or_id)
    output.say(f"user `{name_or_id}` has no second factor any more; sessions have ended")


@user.command(epilog="Example: stockade user sessions alice --json")
@with_installation
@_name
@as_json_option
def sessions(place: Place, name_or_id: str, as_json: bool) -> None:
    """List where a person is signed in."""
    with identity_storage(place) as storage:
        found = admin_people.list_sessions(storage, name_or_id)
    output.emit([session_json(row) for row in found], as_json=as_json, text=_session_table)


@user.command("sign-out", epilog="Example: stockade user sign-out alice")
@with_installation
@_name
@click.option("--session", "session_id", metavar="ID", help="Only this session, as `stockade user sessions` shows it.")
def sign_out(place: Place, name_or_id: str, session_id: str | None) -> None:
    """End a person's sessions, with what depends on them."""
    with identity_storage(place) as storage:
        ended = admin_people.revoke_sessions(storage, name_or_id, session_id)
    output.say(f"{output.count(ended, 'session')} ended")


def _password() -> str:
    """One line of standard input; asked for twice at a terminal. Never from the command line, where others see it."""
    if sys.stdin.isatty():
        return str(click.prompt("password", hide_input=True, confirmation_prompt="once more", err=True))
    password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not password:
        raise InputError("no password on standard input", hint="pipe it in: echo $PASSWORD | stockade user …")
    return password


def _table(listed: list[dict[str, Any]]) -> str:
    rows = [
        (
            one["username"],
            one["user_id"],
            "disabled" if one["disabled_at"] else "enabled",
            _day(one["created_at"]),
            " ".join(one["roles"]) or "-",
            _factors(one),
        )
        for one in listed
    ]
    return output.columns(rows, ("name", "user_id", "state", "created", "roles", "signs in with"))


def _factors(one: dict[str, Any]) -> str:
    ways = [("password", one["has_password"]), ("totp", one["has_totp"]), ("passkey", one["passkeys"])]
    return " ".join(way for way, there in ways if there) or "-"


def _session_table(listed: list[dict[str, Any]]) -> str:
    rows = [
        (one["session_id"], one["acr"], _minute(one["auth_time"]), _minute(one["last_seen_at"]), one["address"])
        for one in listed
    ]
    return output.columns(rows, ("session_id", "acr", "signed in", "last seen", "address"))


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _minute(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
