"""`stockade audit`: the record of security events, and whether somebody changed it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stockade.cli import output
from stockade.cli.clients import as_json_option, identity_storage
from stockade.cli.inputs import with_installation
from stockade.errors import InputError, StateError
from stockade.identity import admin_people
from stockade.identity.admin_api import audit_json
from stockade.identity.audit import BrokenChainError

if TYPE_CHECKING:
    from stockade.cli.inputs import Place


@click.command(epilog="Example: stockade audit --verify")
@with_installation
@click.option("--verify", is_flag=True, help="Check that nothing was changed or removed, instead of listing.")
@click.option("--head", metavar="N:DIGEST", help="With --verify: what it said before, kept elsewhere; must still hold.")
@click.option("--user", "name_or_id", metavar="NAME", help="Only events about this person.")
@click.option("--after", type=click.IntRange(0), metavar="N", help="Events after number N instead of the last ones.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="How many at most."
)
@as_json_option
def audit(
    place: Place, verify: bool, head: str | None, name_or_id: str | None, after: int | None, limit: int, as_json: bool
) -> None:
    """List security events, oldest first, or verify their chain.

    Each event's digest covers the one before. Keep what --verify prints in another place: with --head it shows later
    that the record was not rewritten as a whole.
    """
    known = _head(head) if head else None
    with identity_storage(place) as storage:
        if verify:
            try:
                sequence, digest = admin_people.verify_audit(storage, known)
            except BrokenChainError as error:
                raise StateError(
                    f"the audit record was changed: it does not fit at event {error.sequence}",
                    hint="keep a copy of the database as evidence, and find out who can write to it",
                ) from error
            shown = {"events": sequence, "head": f"{sequence}:{digest.hex()}"}
            output.emit(shown, as_json=as_json, text=_verified)
            return
        user_id = admin_people.show_user(storage, name_or_id).user_id if name_or_id else None
        rows = admin_people.audit_page(storage, after, limit, user_id)
    output.emit([audit_json(row) for row in rows], as_json=as_json, text=_table)


def _head(text: str) -> tuple[int, bytes]:
    match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise InputError("--head: write it as `stockade audit --verify` printed it")
    return int(match[1]), bytes.fromhex(match[2])


def _verified(shown: dict[str, Any]) -> str:
    return f"{output.count(shown['events'], 'event')}, nothing was changed\nhead: {shown['head']}"


def _table(listed: list[dict[str, Any]]) -> str:
    rows = [
        (
            str(one["sequence"]),
            datetime.fromtimestamp(one["time"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
            one["kind"],
            one["user_id"] or one["client_id"] or "-",
            one["address"] or "-",
            json.dumps(one["detail"], ensure_ascii=False) if one["detail"] else "-",
        )
        for one in listed
    ]
    return output.columns(rows, ("number", "time", "event", "about", "address", "detail"))
