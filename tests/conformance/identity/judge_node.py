"""Runs one of the programs in node/ and answers what it asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = Path(__file__).parent / "node"
OLDEST_NODE = 20
SECONDS = 60.0


def require_node() -> None:
    """Skip where the programs cannot run, in one line that says what to do."""
    # A distribution's own may be older than the clients need.
    if shutil.which("node") is None or _major_version() < OLDEST_NODE:
        pytest.skip("node is not here, or too old: install Node.js 20 or newer")
    if not (NODE / "node_modules" / "openid-client").is_dir():
        pytest.skip("the clients are not installed: run scripts/install-test-clients.sh")


def _major_version() -> int:
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    return int(said.strip().removeprefix("v").split(".")[0])


class Program:
    """`answer(question)` is called for each line that is no result, and its value sent back."""

    def __init__(self, name: str, ca: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        require_node()
        self._command = ["node", "--no-warnings", str(NODE / f"{name}.mjs")]
        self._environment = {**os.environ, "NODE_EXTRA_CA_CERTS": ca}
        self._answer = answer

    def outcome(self, stand: dict[str, Any]) -> dict[str, Any]:
        """Run to the end: `{"result": …}` or `{"failed": …}`."""
        with subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            try:
                return self._converse(process, stand)
            finally:
                timer.cancel()
                process.kill()

    def result(self, stand: dict[str, Any]) -> dict[str, Any]:
        """The result; what the library complained of fails the test."""
        outcome = self.outcome(stand)
        assert "result" in outcome, outcome
        found: dict[str, Any] = outcome["result"]
        return found

    def _converse(self, process: subprocess.Popen[str], stand: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(stand) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "result" in message or "failed" in message:
                return message
            process.stdin.write(json.dumps(self._answer(message)) + "\n")
            process.stdin.flush()
        raise AssertionError(f"the program ended early: {process.stderr.read()}")
