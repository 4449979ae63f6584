"""Keys change under a server that is asked all the time: no request fails, nothing that was sealed is lost."""

from __future__ import annotations

import secrets
import threading
import time
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Self

import pytest
from identity_support import ask, token_for
from sqlalchemy import insert, select

from stockade.errors import StateError
from stockade.identity import admin, audit
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.jose import import_public_keys, parse, verify
from stockade.identity.keys import reseal as resealing
from stockade.identity.keys.derive import ensure_derived_keys
from stockade.identity.keys.keyring import ensure_keys, open_keyring
from stockade.identity.keys.reseal import SEALED, change_key
from stockade.identity.keys.seal import Seal, ensure_key_file, load_seal, read_key_file
from stockade.identity.storage import Storage, open_storage
from stockade.identity.storage.pending import Pending, Purpose, find_pending, insert_pending
from stockade.identity.storage.schema import metadata, totp_secrets, users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from identity_support import Server


class Load:
    """Clients that ask for a token and gateways that introspect it, without a pause; what fails is kept."""

    def __init__(self, server: Server, threads: int = 3) -> None:
        self._server, self._stop = server, threading.Event()
        self._client = server.client("load")
        self.answers, self.failures = 0, list[str]()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        with self._server.outside() as http, self._server.gateway() as gateway:
            while not self._stop.is_set():
                answer = ask(http, self._client)
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                    continue
                form = {"token": answer.json()["access_token"], "resource": "https://localhost:8443"}
                found = gateway.post("/internal/introspect", data=form)
                keys = import_public_keys(http.get("/oauth2/jwks").json())
                if found.status_code != 200:
                    self.failures.append(found.text)
                    continue
                verify(parse(found.json()["internal_token"]), keys, ["ES256"])
                self.answers += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def key_file(path: Path) -> bytes:
    ensure_key_file(path)
    (key,) = read_key_file(path)
    return key


def test_both_kinds_of_keys_change_without_a_failed_request(make_server: Callable[..., Server]) -> None:
    with make_server() as server, Load(server) as load, server.storage() as storage:
        kek = server.folder / "kek"
        for number in range(3):
            admin.rotate_keys(storage, load_seal(KeyEncryptionKey(file=kek)))
            key_file(server.folder / f"new{number}")
            admin.change_key_encryption_key(storage, kek, server.folder / f"new{number}", lambda: time.sleep(0.5))
        # Past the next look that the server takes at its keys.
        time.sleep(2.5)
        assert not load.failures
        assert load.answers > 20
    assert "signing_keys_unusable" not in server.log_path.read_text()
    with server.start().outside() as http:
        token_for(http, server.client("after"))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(f"sqlite:///{tmp_path}/identity.db") as opened:
        yield opened


def fill(storage: Storage, seal: Seal) -> bytes:
    """Something in every sealed column. Returns what only the derivation root gives."""
    ensure_keys(storage, seal, 0)
    with storage.write() as connection:
        user = {"user_id": "u_1", "username": "ann", "username_key": "ann", "generation": 0, "created_at": 0}
        connection.execute(insert(users).values(**user))
        sealed = seal.close(b"totp", "totp u_1")
        connection.execute(insert(totp_secrets).values(user_id="u_1", sealed_secret=sealed, created_at=0))
        state = {"sealed": b64encode(seal.close(b"first", "totp u_1")).decode()}
        insert_pending(connection, Pending(Purpose.TOTP_REGISTRATION, "u_1", state, 2**40), bytes(32), bytes(32))
    return ensure_derived_keys(storage, seal).digest("recovery code", "abcd")


def opened_with(storage: Storage, seal: Seal) -> bytes:
    with storage.read() as connection:
        open_keyring(connection, seal)
        waiting = find_pending(connection, bytes(32), bytes(32), 0)
        assert waiting is not None
        assert seal.open(b64decode(waiting.state["sealed"]), "totp u_1") == b"first"
        assert seal.open(connection.execute(select(totp_secrets.c.sealed_secret)).scalar_one(), "totp u_1") == b"totp"
    return ensure_derived_keys(storage, seal).digest("recovery code", "abcd")


def test_every_sealed_column_is_known() -> None:
    declared = {column for table in metadata.tables.values() for column in table.c if column.name.startswith("sealed_")}
    assert declared == {sealed for _, _, sealed, _ in SEALED}


def test_afterwards_the_new_key_opens_everything_and_the_old_one_nothing(storage: Storage, tmp_path: Path) -> None:
    old, new = key_file(tmp_path / "kek"), key_file(tmp_path / "new")
    derived = fill(storage, Seal(old))
    count = admin.change_key_encryption_key(storage, tmp_path / "kek", tmp_path / "new", lambda: None)
    assert count == 5
    assert read_key_file(tmp_path / "kek") == (new,)
    assert opened_with(storage, Seal(new)) == derived
    with pytest.raises(ValueError, match="does not open"), storage.read() as connection:
        Seal(old).open(connection.execute(select(totp_secrets.c.sealed_secret)).scalar_one(), "totp u_1")
    with storage.read() as connection:
        assert [row.event.kind for row in audit.read(connection)] == ["keys.resealed"]


@pytest.mark.parametrize("step", ["first reseal", "wait", "second reseal", "last file"])
def test_an_interrupted_change_loses_nothing_and_can_be_finished(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old, new = key_file(tmp_path / "kek"), key_file(tmp_path / "new")
    derived = fill(storage, Seal(old))
    calls = {"reseal": 0, "file": 0}

    class Killed(BaseException):
        pass

    def counted(name: str, real: Callable[..., int], last: int) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            calls[name] += 1
            if calls[name] == last:
                raise Killed
            return real(*arguments)

        return call

    def wait() -> None:
        if step == "wait":
            raise Killed

    with monkeypatch.context() as patch:
        last = {"first reseal": 1, "second reseal": 2}.get(step, 0)
        patch.setattr(resealing, "reseal", counted("reseal", resealing.reseal, last))
        last = 2 if step == "last file" else 0
        patch.setattr(resealing, "replace_key_file", counted("file", resealing.replace_key_file, last))
        with pytest.raises(Killed):
            change_key(storage, tmp_path / "kek", new, wait)
    assert opened_with(storage, load_seal(KeyEncryptionKey(file=tmp_path / "kek"))) == derived
    with pytest.raises(StateError, match="not finished"):
        change_key(storage, tmp_path / "kek", secrets.token_bytes(32), lambda: None)
    change_key(storage, tmp_path / "kek", new, lambda: None)
    assert opened_with(storage, Seal(new)) == derived


def test_what_a_server_seals_late_is_sealed_anew_too(storage: Storage, tmp_path: Path) -> None:
    """It closed with the old key before the file changed and stored after the first pass."""
    old, new = key_file(tmp_path / "kek"), key_file(tmp_path / "new")
    fill(storage, Seal(old))
    late = Seal(old).close(b"late", "totp u_2")

    def store_late() -> None:
        with storage.write() as connection:
            user = {"user_id": "u_2", "username": "bob", "username_key": "bob", "generation": 0, "created_at": 0}
            connection.execute(insert(users).values(**user))
            connection.execute(insert(totp_secrets).values(user_id="u_2", sealed_secret=late, created_at=0))

    change_key(storage, tmp_path / "kek", new, store_late)
    statement = select(totp_secrets.c.sealed_secret).where(totp_secrets.c.user_id == "u_2")
    with storage.read() as connection:
        assert Seal(new).open(connection.execute(statement).scalar_one(), "totp u_2") == b"late"


def test_a_running_seal_follows_its_file(tmp_path: Path) -> None:
    key_file(tmp_path / "kek")
    running = load_seal(KeyEncryptionKey(file=tmp_path / "kek"))
    before = running.close(b"x", "row")
    new = key_file(tmp_path / "new")
    (old,) = read_key_file(tmp_path / "kek")
    resealing.replace_key_file(tmp_path / "kek", new, old)
    assert Seal(new).open(running.close(b"y", "row"), "row") == b"y"
    assert running.open(before, "row") == b"x"
    (tmp_path / "kek").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        running.open(Seal(secrets.token_bytes(32)).close(b"z", "row"), "row")


def test_a_wrong_key_file_changes_nothing(storage: Storage, tmp_path: Path) -> None:
    old = key_file(tmp_path / "kek")
    derived = fill(storage, Seal(old))
    (tmp_path / "new").write_text("00" * 31)
    (tmp_path / "new").chmod(0o600)
    with pytest.raises(StateError, match="64 hexadecimal"):
        admin.change_key_encryption_key(storage, tmp_path / "kek", tmp_path / "new", lambda: None)
    (tmp_path / "new").chmod(0o644)
    with pytest.raises(StateError, match="read by others"):
        admin.change_key_encryption_key(storage, tmp_path / "kek", tmp_path / "new", lambda: None)
    assert read_key_file(tmp_path / "kek") == (old,)
    assert opened_with(storage, Seal(old)) == derived
