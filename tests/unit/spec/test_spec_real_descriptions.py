"""The descriptions in the shared data: all of them load, with nothing denied that could be served."""

from __future__ import annotations

import json
import lzma
import os
import time
from pathlib import Path
from typing import Any

import pytest

from stockade import spec

SHARED = Path(os.environ.get("STOCKADE_SHARED", Path(__file__).parents[4] / "shared")) / "openapi"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
COUNTS = {
    "adyen-checkout-v71.json": 28,
    "discord.json": 242,
    "galaxy-3.1.yaml": 9,
    "museum.yaml": 8,
    "petstore.yaml": 19,
    "uspto.yaml": 3,
    "github.json": 1223,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the shared descriptions are not at {SHARED}")
    unpacked = tmp_path_factory.mktemp("openapi")
    for path in SHARED.iterdir():
        content = path.read_bytes()
        (unpacked / path.name.removesuffix(".xz")).write_bytes(
            lzma.decompress(content) if path.suffix == ".xz" else content
        )
    return unpacked


@pytest.mark.parametrize("name", COUNTS)
def test_real_description_loads_with_every_operation(folder: Path, name: str) -> None:
    description = spec.load(folder / name)
    assert len(description.operations) == COUNTS[name]
    assert [o for o in description.operations if o.unsupported] == []
    assert description.documents.keys() == {name}
    for operation in description.operations:
        assert description.locate(operation.node).pointer == operation.node.pointer
    root: Any = description.documents[name]
    assert len(description.operations) == sum(len(METHODS & item.keys()) for item in root["paths"].values())


@pytest.mark.parametrize("name", [name for name in COUNTS if name.endswith(".json")])
def test_places_in_a_real_description_hold_what_they_name(folder: Path, name: str) -> None:
    description = spec.load(folder / name)
    lines = (folder / name).read_text(encoding="utf-8").split("\n")
    for operation in description.operations:
        where = description.locate(operation.node)
        assert where.line is not None
        assert where.column is not None
        rest = lines[where.line - 1][where.column - 1 :]
        assert rest.startswith(json.dumps(operation.method.lower()))


def test_every_schema_reference_of_a_real_description_resolves(folder: Path) -> None:
    description = spec.load(folder / "github.json")
    waiting: list[Any] = [description.root.value]
    found = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            found.add(value["$ref"])
        waiting.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    assert len(found) > 1000
    for reference in found:
        description.resolve(description.root, reference)


def test_largest_description_loads_in_time(folder: Path) -> None:
    """1.2 s on an idle machine; processor time, since tests share theirs."""
    best = 10.0
    for _ in range(3):
        started = time.process_time()
        spec.load(folder / "github.json")
        best = min(best, time.process_time() - started)
    assert best < 1.2
