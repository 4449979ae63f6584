"""`stockade client`: clients, their secrets and API keys. Works whether Stockade runs or not."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.client_options import Registration, registration_options
from stockade.cli.inputs import installation, read_policy, with_installation
from stockade.control.identity_config import database_url
from stockade.control.state import open_state
from stockade.errors import StateError
from stockade.identity import admin
from stockade.identity.errors import StorageUnavailable
from stockade.identity.storage import open_storage
from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.cli.inputs import Place
    from stockade.identity.clients_metadata import ClientMetadata
    from stockade.identity.storage import Storage


KEEP = "keep this now: it cannot be shown again"


@contextmanager
def identity_storage(place: Place, *, make: bool = False) -> Iterator[Storage]:
    """The identity database of the installation; its failures become StateErrors with what to do.

    With `make`, the first client may come before the first `stockade up`, where a policy says where that will be.
    """
    state = open_state(read_policy(place).state) if make and place.policy_file is not None else installation(place)
    written = state.run / "identity.json"
    if place.policy_file is not None:
        url = database_url(read_policy(place), state)
    elif written.exists():
        url = json.loads(written.read_text())["database_url"]
    else:
        url = f"sqlite:///{state.identity / 'identity.db'}"
    try:
        with open_storage(url) as storage:
            if storage.migrated:
                output.say(str(storage.migrated))
            yield storage
    except StorageUnavailable as error:
        raise StateError(
            "the identity database cannot be used", hint="is the disk full, or the database server down?"
        ) from error


@click.group(epilog="Example: stockade client create billing --scope orders:read")
def client() -> None:
    """Create, show, change and disable clients; rotate their secrets."""


as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@client.command(epilog="Example: stockade client create billing --scope orders:read --scope orders:write --json")
@with_installation
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope that it may ask for; repeatable.")
@registration_options
@click.option("--api-key", is_flag=True, help="Make an API key too, for descriptions that use them.")
@as_json_option
def create(place: Place, name: str, scopes: tuple[str, ...], asked: Registration, api_key: bool, as_json: bool) -> None:
    """Create a client.

    Without --grant it asks for tokens for itself (client_credentials). Its secret (and API key) is shown once and kept
    as a digest only.
    """
    method = asked.auth_method or AuthMethod.CLIENT_SECRET_BASIC
    # Who cannot prove itself gets no grant that it did not ask for: an API key is all that it holds.
    unasked = {"grant_types": ()} if method == AuthMethod.NONE else {}
    metadata = admin.parse_metadata(unasked | dict(asked.metadata))
    with identity_storage(place, make=True) as storage:
        made = admin.create_client(
            storage, name, split_scopes(scopes), method, asked.jwks, api_key=api_key, metadata=metadata
        )
    shown: dict[str, Any] = {
        "client_id": made.client_id,
        "name": made.name,
        "auth_method": str(made.auth_method),
        "scopes": list(made.scopes),
        **_registered(made.metadata),
    }
    if made.client_secret:
        shown["client_secret"] = made.client_secret
    if made.api_key:
        shown["api_key"] = made.api_key.api_key
        shown["api_key_id"] = made.api_key.key_id
    output.emit(shown, as_json=as_json, text=lines)
    if not as_json and (made.client_secret or made.api_key):
        output.say(KEEP)


@client.command(epilog="Example: stockade client show billing --json")
@with_installation
@click.argument("name_or_id")
@as_json_option
def show(place: Place, name_or_id: str, as_json: bool) -> None:
    """Show what is registered of a client; no secret can be shown again."""
    with identity_storage(place) as storage:
        found = admin.show_client(storage, name_or_id)
    output.emit(_shown(found), as_json=as_json, text=lines)


@client.command(epilog="Example: stockade client update shop --redirect-uri https://shop.example.com/callback")
@with_installation
@click.argument("name_or_id")
@click.option("--name", metavar="NAME", help="A new name.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="The scopes from now on; repeatable.")
@registration_options
@as_json_option
def update(
    place: Place, name_or_id: str, name: str | None, scopes: tuple[str, ...], asked: Registration, as_json: bool
) -> None:
    """Change what is registered of a client.

    What is given replaces what was there; the rest stays. Tokens that it holds stay as they are: `disable` ends them.
    """
    changes = admin.ClientChanges(
        name=name,
        scopes=split_scopes(scopes) if scopes else None,
        auth_method=asked.auth_method,
        jwks=asked.jwks,
        metadata=asked.metadata,
    )
    with identity_storage(place) as storage:
        changed, secret = admin.update_client(storage, name_or_id, changes)
    shown = _shown(changed) | ({"client_secret": secret} if secret else {})
    output.emit(shown, as_json=as_json, text=lines)
    if secret and not as_json:
        output.say(KEEP)


@client.command("list", epilog="Example: stockade client list --json")
@with_installation
@as_json_option
def list_clients(place: Place, as_json: bool) -> None:
    """List the clients, their scopes and how many API keys they have."""
    with identity_storage(place) as storage:
        clients = admin.list_clients(storage)
    listed = [_shown(one) for one in clients]
    output.emit(listed, as_json=as_json, text=_table)


@client.command(epilog="Example: stockade client disable billing")
@with_installation
@click.argument("name_or_id")
def disable(place: Place, name_or_id: str) -> None:
    """Stop a client; its tokens are dead within a second."""
    with identity_storage(place) as storage:
        admin.disable_client(storage, name_or_id)
    output.say(f"client `{name_or_id}` is disabled, its tokens are revoked")


@client.command(epilog="Example: stockade client enable billing")
@with_installation
@click.argument("name_or_id")
def enable(place: Place, name_or_id: str) -> None:
    """Let a disabled client work again; tokens from before stay dead."""
    with identity_storage(place) as storage:
        admin.enable_client(storage, name_or_id)
    output.say(f"client `{name_or_id}` is enabled")


@client.command(epilog="Example: stockade client rotate billing --overlap 3600")
@with_installation
@click.argument("name_or_id")
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="How long the old secret goes on.",
)
@as_json_option
def rotate(place: Place, name_or_id: str, overlap: int, as_json: bool) -> None:
    """Give a client a new secret, shown once."""
    with identity_storage(place) as storage:
        secret = admin.rotate_client_secret(storage, name_or_id, overlap)
    output.emit({"client": name_or_id, "client_secret": secret}, as_json=as_json, text=lines)
    if not as_json:
        output.say(KEEP)


@client.command("api-key", epilog="Example: stockade client api-key supplier --scope stock:write --expires-in 7776000")
@with_installation
@click.argument("name_or_id")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE", help="Only these of the client's scopes; repeatable."
)
@click.option("--name", metavar="NAME", help="What to call the key; by default the client's name.")
@click.option(
    "--expires-in", type=click.IntRange(1), metavar="SECONDS", help="The key's life; without it, until it is revoked."
)
@as_json_option
def api_key(
    place: Place, name_or_id: str, scopes: tuple[str, ...], name: str | None, expires_in: int | None, as_json: bool
) -> None:
    """Make an API key for a client, shown once."""
    with identity_storage(place) as storage:
        made = admin.create_api_key(storage, name_or_id, split_scopes(scopes) if scopes else None, name, expires_in)
    shown = {
        "api_key_id": made.key_id,
        "client_id": made.client_id,
        "scopes": list(made.scopes),
        "api_key": made.api_key,
    }
    output.emit(shown, as_json=as_json, text=lines)
    if not as_json:
        output.say(KEEP)


def split_scopes(scopes: tuple[str, ...]) -> list[str]:
    """`--scope "a b"` and `--scope a --scope b` are the same."""
    return [scope for entry in scopes for scope in entry.split()]


def _shown(found: admin.ListedClient) -> dict[str, Any]:
    return {
        "client_id": found.client_id,
        "name": found.name,
        "auth_method": str(found.auth_method),
        "scopes": list(found.scopes),
        **_registered(found.metadata),
        "jwks": found.jwks,
        "created_at": found.created_at,
        "disabled_at": found.disabled_at,
        "api_keys": [asdict(key) for key in found.api_keys],
    }


def _registered(metadata: ClientMetadata) -> dict[str, Any]:
    """The grants, and what else differs from a plain client."""
    return {"grant_types": list(metadata.grant_types)} | metadata.model_dump(mode="json", exclude_defaults=True)


def lines(shown: dict[str, Any]) -> str:
    """`name: value` for each; what is not known is left out, times are written out."""
    return "\n".join(f"{key}: {_value(key, value)}" for key, value in shown.items() if value not in (None, []))


def _value(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(one if isinstance(one, str) else one["key_id"] for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return output.count(len(value["keys"]), "key")
    return datetime.fromtimestamp(value, UTC).isoformat(" ") if key.endswith("_at") else str(value)


def _table(listed: list[dict[str, Any]]) -> str:
    rows = [
        (
            one["name"],
            one["client_id"],
            one["auth_method"],
            "disabled" if one["disabled_at"] else "enabled",
            datetime.fromtimestamp(one["created_at"], UTC).strftime("%Y-%m-%d"),
            " ".join(one["scopes"]) or "-",
            str(len(one["api_keys"])),
        )
        for one in listed
    ]
    return output.columns(rows, ("name", "client_id", "auth_method", "state", "created", "scopes", "api keys"))
