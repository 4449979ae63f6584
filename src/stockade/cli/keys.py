"""`stockade keys`: the keys that sign the tokens for the API behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.clients import as_json_option, identity_storage
from stockade.cli.inputs import installation, with_installation
from stockade.errors import StateError
from stockade.identity import admin
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.keys.seal import load_seal

if TYPE_CHECKING:
    from stockade.cli.inputs import Place

DAY_SECONDS = 86_400


@click.group(epilog="Example: stockade keys rotate")
def keys() -> None:
    """List and rotate the keys that sign internal tokens."""


@keys.command("list", epilog="Example: stockade keys list")
@with_installation
@as_json_option
def list_keys(place: Place, as_json: bool) -> None:
    """List the published signing keys: next, current, previous."""
    with identity_storage(place) as storage:
        listed = [
            {"kid": key.kid, "algorithm": key.algorithm, "state": key.state, "since": key.since}
            for key in admin.list_keys(storage)
        ]
    output.emit(listed, as_json=as_json, text=_table)
    if not listed:
        output.say("no keys yet: the authorization server makes them when it first starts")


@keys.command(epilog="Example: stockade keys rotate --overlap 3600")
@with_installation
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=DAY_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long retired keys stay published; 0 drops them now, as after a leak.",
)
def rotate(place: Place, overlap: int) -> None:
    """Put the next signing key in force at once.

    A running server takes it up within seconds. It rotates them by itself; this is for a key that may have leaked.
    """
    sealed_by = installation(place).identity / "kek"
    if not sealed_by.exists():
        raise StateError(
            f"there is no key-encryption key `{sealed_by}`",
            hint="`stockade up` makes it at its first start; if it did, restore the key from your backup",
        )
    seal = load_seal(KeyEncryptionKey(file=sealed_by))
    with identity_storage(place) as storage:
        admin.rotate_keys(storage, seal, overlap)
    output.say("the next signing key is in force")


def _table(listed: list[dict[str, Any]]) -> str:
    rows = [
        (
            key["kid"],
            key["algorithm"],
            key["state"],
            datetime.fromtimestamp(key["since"], UTC).isoformat(" ", "minutes"),
        )
        for key in listed
    ]
    return output.columns(rows, ("kid", "algorithm", "state", "since"))
