"""Real descriptions compile, and the engine's validator crate builds every schema of theirs."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import jsonschema_rs
import pytest

from stockade import spec
from stockade.compiler import compile_bundle
from stockade.policy import Policy

SHARED = Path(os.environ.get("STOCKADE_SHARED") or Path(__file__).resolve().parents[3].parent / "shared") / "openapi"
NAMES = (
    "adyen-checkout-v71.json",
    "discord.json",
    "galaxy-3.1.yaml",
    "github.json.xz",
    "museum.yaml",
    "petstore.yaml",
    "uspto.yaml",
)
VALIDATORS = {"draft4": jsonschema_rs.Draft4Validator, "draft2020-12": jsonschema_rs.Draft202012Validator}


@pytest.mark.parametrize("name", NAMES)
def test_real_descriptions_compile_without_a_denied_operation(name: str, tmp_path: Path) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not here: set STOCKADE_SHARED")
    if name.endswith(".xz"):
        unpacked = tmp_path / name.removesuffix(".xz")
        unpacked.write_bytes(lzma.decompress(path.read_bytes()))
        path = unpacked
    description = spec.load(path)
    policy = Policy.default(description=path, upstream="http://127.0.0.1:9000")
    compiled = compile_bundle(description, policy, check_schemas=lambda _dialect, _schemas: [])
    payload = json.loads(compiled.payload)
    assert [operation.denied for operation in compiled.coverage.operations if operation.denied] == []
    assert len(payload["operations"]) == len(description.operations)
    keys = payload["schemas"].keys()
    wanted = {"properties": {key: {"$ref": f"#/$defs/{key}"} for key in keys}}
    VALIDATORS[payload["dialect"]]({"$defs": payload["schemas"], **wanted})
