"""The state folder: keys, certificates, the bundle in force, events. Everything Stockade keeps lies here.

::

    .stockade/
      bundle/   signing.key (Ed25519, 0600), current.stkb, serial.json
      tls/      ca.pem and server certificate of `tls: auto`
      internal/ certificates of the channel between gateway and authorization server
      identity/ database, key-encryption key
      run/      process configurations, sockets, process id
      events/   events.jsonl and its rotations
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stockade.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("bundle", "tls", "internal", "identity", "run", "events")


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths inside the state folder; `open_state` makes it."""

    root: Path

    @property
    def signing_key(self) -> Path:
        """Ed25519 private key of bundles; only the control plane reads it."""
        return self.root / "bundle" / "signing.key"

    @property
    def bundle(self) -> Path:
        """The signed bundle in force."""
        return self.root / "bundle" / "current.stkb"

    @property
    def serial(self) -> Path:
        """The serial and digest of the last bundle that was signed."""
        return self.root / "bundle" / "serial.json"

    @property
    def tls(self) -> Path:
        """Certificates of `tls: auto`."""
        return self.root / "tls"

    @property
    def internal(self) -> Path:
        """Certificates of the internal channel."""
        return self.root / "internal"

    @property
    def identity(self) -> Path:
        """The embedded authorization server's database and keys."""
        return self.root / "identity"

    @property
    def run(self) -> Path:
        """Process configurations and sockets of the running installation."""
        return self.root / "run"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.root / "events" / "events.jsonl"


def open_state(root: Path) -> StateFolder:
    """Make the folder with owner-only access if needed. Raises StateError with what to do.

    The path becomes absolute: the parts' configuration files lie inside it, and read relative paths as their own.
    """
    root = root.absolute()
    try:
        for folder in (root, *(root / name for name in FOLDERS)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot make the state folder `{root}`: {(error.strerror or 'unknown').lower()}",
            hint="give Stockade a folder it may write to: `state: /path` in stockade.yaml",
        ) from error
    return StateFolder(root)


@contextlib.contextmanager
def only_instance(state: StateFolder) -> Iterator[None]:
    """Hold the folder for one supervisor. Raises StateError when another one runs on it."""
    path = state.run / "supervisor.pid"
    with path.open("a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise StateError(
                f"Stockade already runs on `{state.root}` (process {handle.read().strip() or 'unknown'})",
                hint="stop it first, or let it take over new files with `stockade reload`",
            ) from error
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def running_supervisor(state: StateFolder) -> int | None:
    """Process id of the supervisor that holds the folder, or None."""
    path = state.run / "supervisor.pid"
    try:
        with path.open("r+", encoding="ascii") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(handle.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` in one step, so that a reader sees the old or the new file. A full disk keeps the old one."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateError(
            f"cannot write `{path}`: {(error.strerror or 'unknown').lower()}",
            hint="make the folder first"
            if isinstance(error, FileNotFoundError)
            else "free some space or fix the permissions; the file that was there is untouched",
        ) from error


def signing_key(state: StateFolder) -> Ed25519PrivateKey:
    """Load the bundle signing key, made at first use."""
    path = state.signing_key
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomically(path, pem)
        return key
    hint = (
        f"restore `{path}` from a backup, or delete it: then a new key is made, and each gateway needs its public half"
    )
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError) as error:
        raise StateError(f"the bundle signing key `{path}` cannot be read", hint=hint) from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise StateError(f"the bundle signing key `{path}` is not an Ed25519 key", hint=hint)
    return loaded


def public_key_hex(key: Ed25519PrivateKey) -> str:
    """Hex of the raw 32-byte public key, as the gateway's configuration and the envelope carry it."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def next_serial(state: StateFolder, payload: bytes) -> int:
    """The serial for `payload`: the last one when nothing changed, else one more. Recorded before it is used.

    A lost record must not make the gateway refuse all that follows, so the bundle in force counts too.
    """
    digest = hashlib.sha256(payload).hexdigest()
    last = _recorded(state.serial)
    if last.get("sha256") == digest:
        return int(last["serial"])
    serial = max(int(last.get("serial", 0)), _serial_in(state.bundle)) + 1
    write_atomically(state.serial, json.dumps({"serial": serial, "sha256": digest}).encode())
    return serial


def _recorded(path: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(path.read_text("ascii"))
    except (OSError, ValueError):
        return {}
    usable = isinstance(recorded, dict) and isinstance(recorded.get("serial"), int)
    return recorded if usable else {}


def _serial_in(bundle: Path) -> int:
    try:
        with bundle.open("rb") as handle:
            second = handle.read(64).split(b"\n")[1]
        return int(second.removeprefix(b"serial "))
    except (OSError, ValueError, IndexError):
        return 0
