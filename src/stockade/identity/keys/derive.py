"""Keys for what is too short or too public to be stored as a plain digest: derived from one random root.

The root is made once, sealed with the key-encryption key and kept in the database, so that the key-encryption key can
be changed without losing what hangs on the root. A database alone opens nothing.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import insert, select

from stockade.errors import StateError
from stockade.identity.storage.schema import meta

if TYPE_CHECKING:
    from stockade.identity.keys.seal import Seal
    from stockade.identity.storage import Storage

ROOT_NAME = "derivation_root"
_BYTES = 32


class DerivedKeys:
    """One key a purpose (HKDF-SHA-256, RFC 5869). Its repr tells nothing."""

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        self._root = root

    def key(self, purpose: str) -> bytes:
        """32 bytes for this purpose alone."""
        return HKDF(SHA256(), _BYTES, salt=None, info=f"stockade {purpose}".encode()).derive(self._root)

    def digest(self, purpose: str, text: str) -> bytes:
        """HMAC-SHA-256 of `text`: what stands in the database for a short secret."""
        return hmac.new(self.key(purpose), text.encode(), sha256).digest()


def ensure_derived_keys(storage: Storage, seal: Seal) -> DerivedKeys:
    """Open the root, or make it in a database that has none. Raises StateError."""
    with storage.write() as connection:
        sealed = connection.execute(select(meta.c.value).where(meta.c.name == ROOT_NAME)).scalar()
        if sealed is None:
            root = secrets.token_bytes(_BYTES)
            text = b64encode(seal.close(root, ROOT_NAME)).decode()
            connection.execute(insert(meta).values(name=ROOT_NAME, value=text))
            return DerivedKeys(root)
    try:
        return DerivedKeys(seal.open(b64decode(sealed), ROOT_NAME))
    except ValueError as error:
        raise StateError(
            "the key-encryption key does not open this database",
            hint="restore the key-encryption key and the database from the same backup",
        ) from error
