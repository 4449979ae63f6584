"""`stockade keys`: the keys that sign tokens, and the key that seals them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.clients import as_json_option, identity_storage
from stockade.cli.inputs import installation, with_installation
from stockade.control.state import running_supervisor
from stockade.errors import StateError
from stockade.identity import admin
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.keys.seal import load_seal

if TYPE_CHECKING:
    from stockade.cli.inputs import Place

DAY_SECONDS = 86_400
# Longer than what a server seals takes to be stored.
SETTLE_SECONDS = 3.0


@click.group(epilog="Example: stockade keys rotate")
def keys() -> None:
    """List and rotate signing keys; change the key that seals them."""


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
    seal = load_seal(KeyEncryptionKey(file=_key_file(place)))
    with identity_storage(place) as storage:
        admin.rotate_keys(storage, seal, overlap)
    output.say("the next signing key is in force")


@keys.command(epilog="Example: stockade keys reseal --new-key-file new-kek")
@with_installation
@click.option(
    "--new-key-file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="64 hexadecimal digits, mode 0600: (umask 077; openssl rand -hex 32 > FILE).",
)
def reseal(place: Place, new_key_file: Path) -> None:
    """Change the key-encryption key: everything sealed is sealed anew.

    A running server follows by itself, and no request fails. If it is interrupted, give it again with the same file.
    Back the new key up with the database: the old one no longer opens it.
    """
    key_file = _key_file(place)
    running = running_supervisor(installation(place)) is not None
    with identity_storage(place) as storage:
        count = admin.change_key_encryption_key(
            storage, key_file, new_key_file, lambda: time.sleep(SETTLE_SECONDS if running else 0)
        )
    output.say(f"{output.count(count, 'secret')} sealed anew; the key now stands in `{key_file}`")


def _key_file(place: Place) -> Path:
    found = installation(place).identity / "kek"
    if not found.exists():
        raise StateError(
            f"there is no key-encryption key `{found}`",
            hint="`stockade up` makes it at its first start; if it did, restore the key from your backup",
        )
    return found


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
