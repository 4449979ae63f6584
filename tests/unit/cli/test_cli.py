"""Promises of the commands that no transcript shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Terminal

from stockade.cli import output
from stockade.cli.check import ALL_CHECKS
from stockade.cli.inputs import Place, read_policy
from stockade.cli.main import BUG_STATUS, TRACEBACK

UPSTREAM = "http://127.0.0.1:9000"


def test_compile_without_a_policy_gives_the_same_bytes_twice(terminal: Terminal, folder: Path) -> None:
    terminal("stockade compile openapi.yaml -o one.stkb")
    terminal("stockade compile openapi.yaml -o two.stkb")
    assert (folder / "one.stkb").read_bytes() == (folder / "two.stkb").read_bytes()


def test_a_report_leaves_nothing_behind(terminal: Terminal, folder: Path) -> None:
    report = json.loads(terminal("stockade compile openapi.yaml --json"))
    assert report["totals"]["operations"] == len(report["operations"]) == 2
    assert report["bundle"]["file"] is None
    assert [entry.name for entry in folder.iterdir()] == ["openapi.yaml"]


def test_the_command_line_goes_before_the_file(terminal: Terminal, folder: Path) -> None:
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    (folder / "other.yaml").write_text((folder / "openapi.yaml").read_text().replace("Orders", "Others"))
    assert json.loads(terminal("stockade compile other.yaml --json"))["title"] == "Others"
    assert json.loads(terminal("stockade compile -c stockade.yaml other.yaml --json"))["title"] == "Others"
    policy = read_policy(Place(None, Path("other.yaml"), "http://127.0.0.1:1", Path("elsewhere")))
    assert (policy.api.description, policy.state) == (Path("other.yaml"), Path("elsewhere"))
    assert policy.api.upstream.endpoints == ("http://127.0.0.1:1",)
    assert policy.file == Path("stockade.yaml")


def test_sarif_describes_every_rule(terminal: Terminal) -> None:
    log = json.loads(terminal(f"stockade check --description openapi.yaml --upstream {UPSTREAM} --format sarif"))
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [check.id for check in ALL_CHECKS]
    assert all(rule["shortDescription"]["text"] for rule in rules)


def test_plain_findings_are_cut_and_all_shows_the_rest(terminal: Terminal, folder: Path) -> None:
    names = [f"p{number}" for number in range(9)]
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    described = {"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {
        "/a": {"get": {"parameters": parameters, "responses": {"200": {"description": ""}}}}}}  # fmt: skip
    (folder / "many.json").write_text(json.dumps(described))
    command = f"stockade check --description many.json --upstream {UPSTREAM}"
    assert "and 4 more like this" in terminal(command)
    assert terminal(f"{command} --all").count("[string-unconstrained]") == len(names)


def test_a_bug_shows_its_place_and_no_message(
    terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".stockade").mkdir()

    def broken(*_: object, **__: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr("stockade.cli.events.log.read", broken)
    said = terminal("stockade events")
    assert terminal.status == BUG_STATUS
    assert "internal error: KeyError at" in said
    assert "a secret" not in said
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(KeyError):
        terminal("stockade events")


def test_a_full_disk_behind_a_pipe_is_told_without_a_traceback(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("compile", "openapi.yaml", stdout=full, cwd=folder)
    assert done.returncode == 4
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_silently(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = run("compile", "openapi.yaml", "--json", stdout=pipe, cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_version_is_told_without_importing_the_rest() -> None:
    """Start-up is what a user of `stockade status` in a loop waits for."""
    code = "import stockade.cli.main, sys; print([m for m in ('sqlalchemy', 'pydantic', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert output.columns([("a", "1"), ("long", "2")], ("n", "v")) == "n     v\na     1\nlong  2"


def run(*arguments: str, stdout: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade", *arguments],
        stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=cwd, check=False, timeout=60,
    )  # type: ignore[call-overload]  # fmt: skip
