"""Every operation of the examples and of the weak shop compiles, and each is protected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade import compiler, policy, spec
from stockade.demo.weak_api import POLICY

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "file", [POLICY, ROOT / "examples" / "notes" / "stockade.yaml"], ids=["weak shop", "notes"]
)  # fmt: skip
def test_every_operation_compiles_and_is_protected(file: Path) -> None:
    read = policy.load(file)
    description = spec.load(read.api.description, overlays=read.api.overlay)
    compiled = compiler.compile_bundle(description, read, check_schemas=lambda _dialect, _schemas: [])
    operations = {operation["id"]: operation for operation in json.loads(compiled.payload)["operations"]}
    assert len(operations) == len(description.operations)
    assert [name for name, operation in operations.items() if operation["deny"]] == []
    assert set(operations) & {name for name, operation in operations.items() if not operation["security"]} <= {
        "searchProducts"
    }
    modes = {mode for operation in operations.values() for mode in operation["modes"].values()}
    assert modes == {"enforce"}


def test_login_is_limited_by_the_overlay() -> None:
    read = policy.load(POLICY)
    description = spec.load(read.api.description, overlays=read.api.overlay)
    compiled = compiler.compile_bundle(description, read, check_schemas=lambda _dialect, _schemas: [])
    operations = {operation["id"]: operation for operation in json.loads(compiled.payload)["operations"]}
    assert operations["login"]["limit"] == {"requests": 5, "period_seconds": 60, "burst": 5}
