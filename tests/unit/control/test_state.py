"""The state folder keeps keys and serials through crashes, and says what to do when it can't."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from stockade.control import state as st
from stockade.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path


def test_only_the_owner_may_enter(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path / "s")
    st.signing_key(folder)
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.signing_key.stat().st_mode) == 0o600


def test_the_signing_key_outlives_a_restart(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path)
    assert st.public_key_hex(st.signing_key(folder)) == st.public_key_hex(st.signing_key(folder))


def test_a_broken_signing_key_is_refused_with_a_hint(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path)
    folder.signing_key.write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(StateError) as caught:
        st.signing_key(folder)
    assert caught.value.hint


def test_the_same_payload_keeps_its_serial_and_another_gets_the_next(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path)
    assert [st.next_serial(folder, payload) for payload in (b"a", b"a", b"b", b"a")] == [1, 1, 2, 3]


def test_a_lost_serial_record_never_goes_below_the_bundle_in_force(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path)
    folder.bundle.write_bytes(b"stockade-bundle 1\nserial 41\nsha256 00\n")
    assert st.next_serial(folder, b"a") == 42
    folder.serial.write_text("torn {")
    assert st.next_serial(folder, b"b") == 42


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    folder = st.open_state(tmp_path)
    with st.only_instance(folder):
        assert st.running_supervisor(folder)
        with pytest.raises(StateError, match="already runs"), st.only_instance(folder):
            pass
    assert st.running_supervisor(folder) is None


def test_an_unwritable_folder_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(StateError, match="cannot write"):
        st.write_atomically(tmp_path / "missing" / "file", b"new")
    st.write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
