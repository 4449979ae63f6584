"""The scripts behind `make`: what they say when something is missing, and that a failed gate fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GATES = ("ruff", "mypy", "cargo", "cargo-deny", "python", "pip-audit")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of our own that holds nothing but what a script itself is made of."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cut"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def put(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(script: str, tools: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / script), *arguments],
        cwd=tools.parent, env={"PATH": str(tools), "LANG": os.environ.get("LANG", "C")}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_each_missing_tool_is_one_line_that_says_what_to_install(tools: Path) -> None:
    def complaint() -> str:
        status, out, errors = run("check-toolchain.sh", tools)
        assert (status, out, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("setup: error: ")
        return errors

    assert "install python3 and python3-venv" in complaint()
    put(tools, "python3", "exit 1")
    assert "Python 3.11 or newer" in complaint()
    put(tools, "python3", f'exec "{sys.executable}" "$@"')
    assert "install it with rustup" in complaint()
    put(tools, "cargo", "exit 1")
    assert "no toolchain at all" in complaint()
    put(tools, "cargo", "echo cargo 1.80.0")
    assert "this is 1.80.0" in complaint()
    put(tools, "cargo", "echo 'cargo 1.90.0-nightly (abc 2025-01-01)'")
    assert "install build-essential" in complaint()
    put(tools, "cc")
    assert run("check-toolchain.sh", tools) == (0, "", "")


@pytest.fixture
def gates(tools: Path) -> Path:
    for name in GATES:
        put(tools, name)
    return tools


def test_all_gates_passed(gates: Path) -> None:
    status, out, errors = run("check.sh", gates)
    assert (status, errors) == (0, "")
    assert out.endswith("check: passed\n")
    assert "skipped" not in out


@pytest.mark.parametrize(
    ("tool", "script", "failed"),
    [
        ("ruff", '[ "$1" != format ]', "ruff format"),
        ("ruff", '[ "$1" = format ]', "ruff"),
        ("mypy", "exit 1", "mypy"),
        ("cargo", '[ "$1" != fmt ]', "rustfmt"),
        ("cargo", '[ "$1" != clippy ]', "clippy"),
        ("python", "exit 1", "generated docs"),
        ("cargo", 'case "$*" in *licenses*) exit 1;; esac', "cargo-deny"),
        ("cargo", 'case "$*" in *advisories*) exit 1;; esac', "cargo-deny advisories"),
        ("pip-audit", 'echo "Found 2 known vulnerabilities in 1 package"; exit 1', "pip-audit"),
    ],
)
def test_one_failed_gate_fails_the_check_after_all_have_run(gates: Path, tool: str, script: str, failed: str) -> None:
    put(gates, tool, script)
    status, out, errors = run("check.sh", gates)
    assert (status, errors) == (1, f"check: failed: {failed}\n")
    assert "check: pip-audit" in out
    assert "check: passed" not in out


def test_what_cannot_run_is_named_and_does_not_count_as_passed(gates: Path) -> None:
    put(gates, "cargo", 'case "$*" in *fetch*) exit 1;; esac')
    put(gates, "pip-audit", "echo ConnectionError; exit 1")
    status, out, _ = run("check.sh", gates)
    assert status == 0
    assert "check: skipped: cargo-deny advisories (their data cannot be had here), pip-audit (its data" in out


PROGRAMS = ("chromium", "chromedriver", "initdb", "node", "npm")


@pytest.fixture
def machine(tools: Path) -> Path:
    """A machine that has none of the programs, whatever this one has."""
    for name in ("mktemp", "tail", "rm"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    put(tools, "id", "echo 0")
    return tools


def test_nothing_is_said_or_done_where_all_test_programs_are_there(machine: Path) -> None:
    for name in PROGRAMS:
        put(machine, name)
    put(machine, "apt-get", "echo must not be called; exit 1")
    assert run("install-test-programs.sh", machine) == (0, "", "")


def test_missing_test_programs_are_installed_where_that_can_be_done(machine: Path) -> None:
    # PostgreSQL's programs are also looked for outside the PATH, where this machine may have them.
    put(machine, "initdb")
    called = machine.parent / "called"
    put(machine, "apt-get", f'echo "$@" >>{called}')
    status, out, errors = run("install-test-programs.sh", machine)
    assert (status, out.count("\n"), errors) == (0, 1, "")
    assert out == "test: installing chromium chromium-driver nodejs npm\n"
    updated, installed = called.read_text().splitlines()
    assert "update" in updated
    assert installed.endswith("install --yes --no-install-recommends chromium chromium-driver nodejs npm")


@pytest.mark.parametrize(
    ("apt", "user"), [(None, "0"), ("exit 0", "1000"), ("echo E: Unable to locate package; exit 100", "0")]
)
def test_missing_test_programs_are_one_line_where_they_cannot_be_had(machine: Path, apt: str | None, user: str) -> None:
    for name in PROGRAMS[2:]:
        put(machine, name)
    put(machine, "id", f"echo {user}")
    if apt is not None:
        put(machine, "apt-get", apt)
    status, out, errors = run("install-test-programs.sh", machine)
    assert (status, errors) == (0, "")
    last = out.splitlines()[-1]
    assert last.startswith("test: ")
    assert "chromium chromium-driver" in last
    assert last.endswith("are skipped")


def test_clients_are_installed_as_their_lock_file_has_them_and_once(machine: Path) -> None:
    folder, called = machine.parent / "node", machine.parent / "called"
    (folder / "node_modules").mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}")
    assert run("install-test-clients.sh", machine, str(folder))[1].endswith("are skipped\n")
    put(machine, "npm", f'echo "$@" >>{called}; echo {{}} >{folder}/node_modules/.package-lock.json')
    assert "installing the clients" in run("install-test-clients.sh", machine, str(folder))[1]
    assert called.read_text() == f"ci --prefix {folder} --ignore-scripts --no-audit --no-fund\n"
    assert run("install-test-clients.sh", machine, str(folder)) == (0, "", "")
    os.utime(folder / "package-lock.json", (2_000_000_000, 2_000_000_000))
    put(machine, "npm", "echo npm error no such host; exit 1")
    status, out, errors = run("install-test-clients.sh", machine, str(folder))
    assert (status, errors) == (0, "")
    assert "cannot be installed (npm error no such host); the tests" in out
