"""The signing keys in memory: one signs, its successor and predecessor are published beside it.

A rotation moves `next` to `current` and `current` to `previous`, and makes a new `next`. Since `next` has long stood
in the JWKS, a reader with an old copy knows the key that signs now; since `previous` still stands there, a token
signed a moment ago goes on being good.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from joserfc.jwk import ECKey

from stockade.errors import StateError
from stockade.identity.errors import KeysUnavailable
from stockade.identity.jose import sign
from stockade.identity.storage.signing_keys import (
    KeyState,
    SigningKeyRow,
    delete_retired_keys,
    insert_signing_key,
    lock_signing_keys,
    mark_keys_made,
    move_signing_keys,
    read_signing_keys,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from stockade.identity.config import Lifetimes
    from stockade.identity.keys.seal import Seal
    from stockade.identity.storage import Storage

ALGORITHM = "ES256"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys as last read. Immutable: a change makes a new one."""

    kid: str
    activated_at: int
    retired_at: int | None
    public_jwks: dict[str, Any]
    _signer: ECKey = field(repr=False)

    def needs_care(self, now: int, lifetimes: Lifetimes) -> bool:
        """Whether it is time to rotate, or to drop a previous key."""
        old = now - self.activated_at >= lifetimes.signing_key_seconds
        return old or (self.retired_at is not None and now - self.retired_at >= lifetimes.signing_key_overlap_seconds)

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """A compact JWS by the current key."""
        return sign({"alg": ALGORITHM, "typ": typ, "kid": self.kid}, claims, self._signer)


def open_keyring(connection: Connection, seal: Seal) -> Keyring:
    """Read the keys. Raises KeysUnavailable that says what the operator must mend."""
    rows = read_signing_keys(connection)
    current = [row for row in rows if row.state is KeyState.CURRENT]
    if len(current) != 1:
        raise KeysUnavailable("the signing keys are gone from the database")
    try:
        private = seal.open(current[0].sealed_private_key, current[0].kid)
    except ValueError as error:
        raise KeysUnavailable(str(error)) from error
    return Keyring(
        kid=current[0].kid,
        activated_at=current[0].activated_at or current[0].created_at,
        retired_at=min((row.retired_at for row in rows if row.retired_at is not None), default=None),
        public_jwks={"keys": [json.loads(row.public_jwk) for row in rows]},
        _signer=ECKey.import_key(json.loads(private)),
    )


def ensure_keys(storage: Storage, seal: Seal, now: int) -> Keyring:
    """Open the keys, or make the first ones in a database that never had any. Raises StateError."""
    with storage.write() as connection:
        if mark_keys_made(connection):
            insert_signing_key(connection, _generate(seal, KeyState.CURRENT, now))
            insert_signing_key(connection, _generate(seal, KeyState.NEXT, now))
        try:
            return open_keyring(connection, seal)
        except KeysUnavailable as error:
            raise StateError(
                f"the signing keys cannot be used: {error.reason}",
                hint="restore the key-encryption key and the database from the same backup",
            ) from error


def rotate(connection: Connection, seal: Seal, now: int, overlap_seconds: int) -> None:
    """Put the next key in force and prepare another. Keys retired longer than the overlap ago leave the JWKS.

    Raises KeysUnavailable when the keys in force cannot be opened: the seal must be the one they were closed with.
    """
    lock_signing_keys(connection)
    open_keyring(connection, seal)
    move_signing_keys(connection, KeyState.CURRENT, KeyState.PREVIOUS, now)
    move_signing_keys(connection, KeyState.NEXT, KeyState.CURRENT, now)
    insert_signing_key(connection, _generate(seal, KeyState.NEXT, now))
    delete_retired_keys(connection, now - overlap_seconds)


def care(connection: Connection, seal: Seal, now: int, lifetimes: Lifetimes) -> Keyring:
    """Rotate if the current key is old, drop keys past their overlap, and read what is in force.

    Runs in a write transaction, so two servers that find the same old key rotate once.
    """
    lock_signing_keys(connection)
    delete_retired_keys(connection, now - lifetimes.signing_key_overlap_seconds)
    keyring = open_keyring(connection, seal)
    if now - keyring.activated_at < lifetimes.signing_key_seconds:
        return keyring
    rotate(connection, seal, now, lifetimes.signing_key_overlap_seconds)
    return open_keyring(connection, seal)


def _generate(seal: Seal, state: KeyState, now: int) -> SigningKeyRow:
    key = ECKey.generate_key("P-256", auto_kid=True)
    kid = str(key.kid)
    public = key.as_dict(private=False, use="sig", alg=ALGORITHM, kid=kid)
    return SigningKeyRow(
        kid=kid,
        algorithm=ALGORITHM,
        public_jwk=json.dumps(public),
        sealed_private_key=seal.close(json.dumps(key.as_dict(private=True)).encode(), kid),
        state=state,
        created_at=now,
        activated_at=now if state is KeyState.CURRENT else None,
        retired_at=None,
    )
