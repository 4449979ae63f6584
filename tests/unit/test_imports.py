"""Imports point one way: cli → control, assess, observe, identity, enforcement → compiler → policy → spec."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "stockade"

# What each package may import besides itself. Leaves (`errors`, `findings`, `supervised`, …) are open to all.
LEAVES = {"errors", "findings", "problem", "supervised", "_native", "__init__"}
ALLOWED = {
    "spec": set(),
    "policy": {"spec"},
    "compiler": {"policy", "spec"},
    "enforcement": {"compiler", "policy", "spec"},
    "identity": set(),
    "observe": set(),
    "assess": {"compiler", "policy", "spec"},
    "control": {"enforcement", "identity", "compiler", "policy", "spec"},
    "demo": {"control", "identity", "observe", "policy"},
    "cli": {"control", "assess", "observe", "identity", "enforcement", "compiler", "policy", "spec", "demo"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "stockade"
            and not node.level
        ):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("stockade.")}
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.add(f"relative import at line {node.lineno}")
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    for path in (SOURCE / package).rglob("*.py"):
        unwanted = imported(path) - ALLOWED[package] - LEAVES - {package, "__version__"}
        assert not unwanted, f"{path.relative_to(SOURCE)} imports {sorted(unwanted)}"


def test_every_package_has_a_place_in_the_order() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(ALLOWED)
