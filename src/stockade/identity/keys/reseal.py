"""Changing the key-encryption key: everything that is sealed is opened and closed again, in one transaction.

The order makes it safe to be killed anywhere, and to start again: the file gets the new key beside the old one, the
rows are sealed anew, the old key leaves the file. Servers follow by themselves (seal.py).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from stockade.errors import StateError
from stockade.identity.keys.derive import ROOT_NAME
from stockade.identity.keys.seal import Seal, read_key_file, replace_key_file
from stockade.identity.storage.pending import Purpose
from stockade.identity.storage.schema import meta, pending_sign_ins, signing_keys, totp_secrets
from stockade.identity.storage.signing_keys import lock_signing_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Column, Connection, Table

    from stockade.identity.storage import Storage


def _totp(user_id: str) -> str:
    return f"totp {user_id}"


# Everything sealed that has a column of its own: table, the column that names the row, the sealed one, its binding.
SEALED: tuple[tuple[Table, Column[str], Column[bytes], Callable[[str], str]], ...] = (
    (signing_keys, signing_keys.c.kid, signing_keys.c.sealed_private_key, str),
    (totp_secrets, totp_secrets.c.user_id, totp_secrets.c.sealed_secret, _totp),
)


def change_key(storage: Storage, file: Path, new: bytes, wait: Callable[[], None]) -> int:
    """Make `new` the key-encryption key in `file`. Returns how many secrets were sealed anew.

    `wait` lets servers finish what they sealed with the old key before they had seen the new one. Raises StateError:
    then the old key still opens everything.
    """
    old = tuple(key for key in read_key_file(file) if key != new)
    if len(old) > 1:
        raise StateError(
            f"an earlier change of `{file}` was not finished",
            hint="give the command again with the key file of then, and after that with this one",
        )
    replace_key_file(file, new, *old)
    seal = Seal(new, *old)
    count = reseal(storage, seal)
    wait()
    count += reseal(storage, seal)
    replace_key_file(file, new)
    return count


def reseal(storage: Storage, seal: Seal) -> int:
    """Close with the seal's first key whatever another of its keys closed. Returns the number. Raises StateError."""
    try:
        with storage.write() as connection:
            lock_signing_keys(connection)
            return (
                _reseal_root(connection, seal)
                + _reseal_enrolments(connection, seal)
                + sum(_reseal_table(connection, seal, *one) for one in SEALED)
            )
    except ValueError as error:
        raise StateError(
            "the key-encryption key does not open this database",
            hint="restore the key-encryption key and the database from the same backup",
        ) from error


def _reseal_root(connection: Connection, seal: Seal) -> int:
    text = connection.execute(select(meta.c.value).where(meta.c.name == ROOT_NAME)).scalar()
    if text is None or seal.opens_first(b64decode(text), ROOT_NAME):
        return 0
    closed = seal.close(seal.open(b64decode(text), ROOT_NAME), ROOT_NAME)
    connection.execute(update(meta).where(meta.c.name == ROOT_NAME).values(value=b64encode(closed).decode()))
    return 1


def _reseal_enrolments(connection: Connection, seal: Seal) -> int:
    """TOTP secrets that wait for their first code, and then go into their table as they are."""
    table, count = pending_sign_ins, 0
    waiting = select(table.c.digest, table.c.user_id, table.c.state).where(table.c.purpose == Purpose.TOTP_REGISTRATION)
    for digest, user_id, state in connection.execute(waiting).all():
        fields, bound_to = json.loads(state), _totp(user_id)
        sealed = b64decode(fields["sealed"])
        if seal.opens_first(sealed, bound_to):
            continue
        fields["sealed"] = b64encode(seal.close(seal.open(sealed, bound_to), bound_to)).decode()
        connection.execute(update(table).where(table.c.digest == digest).values(state=json.dumps(fields)))
        count += 1
    return count


def _reseal_table(
    connection: Connection,
    seal: Seal,
    table: Table,
    key: Column[str],
    sealed: Column[bytes],
    bound_to: Callable[[str], str],
) -> int:
    count = 0
    for name, secret in connection.execute(select(key, sealed)).all():
        if seal.opens_first(secret, bound_to(name)):
            continue
        closed = seal.close(seal.open(secret, bound_to(name)), bound_to(name))
        # What a server has replaced meanwhile is left to the second pass.
        changed = connection.execute(update(table).where(key == name, sealed == secret).values({sealed.name: closed}))
        count += changed.rowcount
    return count
