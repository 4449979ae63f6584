"""The path of a user without Rust: one wheel in an empty virtual environment, then `stockade up`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from shop import shop
from stack import Stack, Upstream

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and what the wheel asks for, nothing of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    # The everyday profile, so that the artefacts of the tests serve here too.
    run(maturin, "build", "--profile", "release", "--locked", "--out", folder / "dist")
    (wheel,) = (folder / "dist").glob("stockade-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    # The versions that are tested, as a constraint; hashes cannot stand in a constraints file for a local wheel.
    pins = [
        line.split(" ")[0].split("\\")[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    ]
    (folder / "constraints.txt").write_text("\n".join(pin for pin in pins if not pin.startswith("#")))
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "-c", folder / "constraints.txt", wheel)
    return python


@pytest.mark.timeout(1800)
def test_the_wheel_alone_puts_a_gate_in_front_of_an_api(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    upstream = Upstream()
    stack = Stack(tmp_path, shop(), upstream.url)
    stack.python = str(installed)
    try:
        with stack, stack.http() as client:
            assert client.get("/orders").status_code == 401
            answer = client.get("/limited", headers={"Authorization": f"Bearer {stack.token('orders:read')}"})
            assert answer.status_code == 200
            where = subprocess.run(
                [str(installed), "-c", "import stockade; print(stockade.__file__)"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert str(installed.parents[1]) in where
    finally:
        upstream.close()
    with pytest.raises(httpx.HTTPError):
        httpx.get(stack.url + "/status", verify=stack.tls, trust_env=False)


@pytest.mark.timeout(1800)
def test_the_wheel_holds_every_file_of_the_package(installed: Path) -> None:
    """Templates, words, styles and lists are not Python, and are needed all the same."""
    source = ROOT / "src" / "stockade"
    ours = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    listing = "import pathlib, stockade; [print(p) for p in pathlib.Path(stockade.__file__).parent.rglob('*')]"
    root = run(installed, "-c", "import pathlib, stockade; print(pathlib.Path(stockade.__file__).parent)").strip()
    theirs = {line.removeprefix(root + "/") for line in run(installed, "-c", listing).splitlines()}
    assert "identity/pages/templates/sign_in.html" in ours
    assert {name for name in ours if not name.endswith((".pyc", ".so"))} <= theirs
