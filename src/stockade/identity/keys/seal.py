"""Sealing private keys with the key-encryption key: AES-256-GCM, a fresh nonce each, bound to the key's id.

The key-encryption key can be changed while servers run (reseal.py). For that time its file has two lines: the first key
closes, each of them opens. A seal that was read from a file reads it again before it closes and when nothing opens, so
that every server follows without being told.
"""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stockade.identity.config import KeyEncryptionKey

_KEY_BYTES = 32
_NONCE_BYTES = 12
MAX_KEYS = 2


class Seal:
    """Encrypts and opens small secrets. Its repr tells nothing. Safe to use from several threads."""

    __slots__ = ("_ciphers", "_read_again")

    def __init__(self, *keys: bytes, read_again: Callable[[], tuple[bytes, ...]] | None = None) -> None:
        self._ciphers = tuple(AESGCM(key) for key in keys)
        self._read_again = read_again

    def close(self, secret: bytes, bound_to: str) -> bytes:
        """Encrypt; the result opens only for the same `bound_to`, so rows cannot be swapped. Raises StateError."""
        self._follow()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, secret, bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """Decrypt. Raises ValueError when the key, the row or the binding is another."""
        opened = self._try(sealed, bound_to)
        if opened is None:
            try:
                self._follow()
            except StateError:
                raise ValueError("the key-encryption key cannot be read") from None
            opened = self._try(sealed, bound_to)
        if opened is None:
            raise ValueError("the key-encryption key does not open this key")
        return opened

    def opens_first(self, sealed: bytes, bound_to: str) -> bool:
        """Whether it was closed with the key that closes now."""
        return self._try(sealed, bound_to, only_first=True) is not None

    def _try(self, sealed: bytes, bound_to: str, *, only_first: bool = False) -> bytes | None:
        for cipher in self._ciphers[: 1 if only_first else None]:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
            except (InvalidTag, ValueError):
                continue
        return None

    def _follow(self) -> None:
        if self._read_again is not None:
            self._ciphers = tuple(AESGCM(key) for key in self._read_again())


def load_seal(source: KeyEncryptionKey) -> Seal:
    """Read the key-encryption key from its file or environment variable. Raises StateError."""
    path = source.file
    if path is not None:
        return Seal(*read_key_file(path), read_again=lambda: read_key_file(path))
    name = source.environment or ""
    if name not in os.environ:
        raise StateError(f"the environment variable `{name}` with the key-encryption key is not set")
    return Seal(*_decode(os.environ[name], f"the environment variable `{name}`"))


def read_key_file(path: Path) -> tuple[bytes, ...]:
    """The keys in a file that only its owner may read: the one that closes first. Raises StateError."""
    return _decode(_read_private(path), f"`{path}`")


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


def replace_key_file(path: Path, *keys: bytes) -> None:
    """Write the keys, a line each, in place of what is there: whole or not at all, mode 0600. Raises StateError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(key.hex() + "\n" for key in keys)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StateError(
            f"cannot write the key-encryption key `{path}`: {(error.strerror or 'unknown').lower()}",
            hint="nothing is lost: mend it and give the command again",
        ) from error


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


def _decode(text: str, origin: str) -> tuple[bytes, ...]:
    lines = text.split()
    try:
        keys = tuple(bytes.fromhex(line) for line in lines)
    except ValueError:
        keys = ()
    if not 0 < len(keys) <= MAX_KEYS or any(len(key) != _KEY_BYTES for key in keys):
        raise StateError(f"the key-encryption key in {origin} is not 64 hexadecimal digits")
    return keys
