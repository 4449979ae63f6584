"""Sealing private keys with the key-encryption key: AES-256-GCM, a fresh nonce each, bound to the key's id."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.identity.config import KeyEncryptionKey

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Seal:
    """Encrypts and opens small secrets. Its repr tells nothing."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, secret: bytes, bound_to: str) -> bytes:
        """Encrypt; the result opens only for the same `bound_to`, so rows cannot be swapped."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """Decrypt. Raises ValueError when the key, the row or the binding is another."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
        except (InvalidTag, ValueError):
            raise ValueError("the key-encryption key does not open this key") from None


def load_seal(source: KeyEncryptionKey) -> Seal:
    """Read the key-encryption key from its file or environment variable. Raises StateError."""
    if source.file is not None:
        return Seal(_decode(_read_private(source.file), f"`{source.file}`"))
    name = source.environment or ""
    if name not in os.environ:
        raise StateError(f"the environment variable `{name}` with the key-encryption key is not set")
    return Seal(_decode(os.environ[name], f"the environment variable `{name}`"))


def ensure_key_file(path: Path) -> bool:
    """Make a key-encryption key with mode 0600 unless the file exists. True when it was made.

    Call it when an installation is set up. A new key does not open old signing keys: the server then refuses to start.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def _read_private(path: Path) -> str:
    try:
        with path.open() as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StateError(f"the key-encryption key `{path}` can be read by others", hint=f"chmod 600 {path}")
            return file.read(1024)
    except OSError as error:
        raise StateError(
            f"cannot read the key-encryption key `{path}`: {(error.strerror or 'unknown').lower()}",
            hint="restore it from your backup; without it the signing keys cannot be opened",
        ) from error
    except UnicodeDecodeError as error:
        raise StateError(f"the key-encryption key `{path}` is not text") from error


def _decode(text: str, origin: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise StateError(f"the key-encryption key in {origin} is not 64 hexadecimal digits")
    return key
