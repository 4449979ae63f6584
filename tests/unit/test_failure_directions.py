"""docs/failure-directions.md names metrics and tests that exist, and covers what must be covered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "failure-directions.md"
MUST_BE_COVERED = (
    "authorization server down", "disk full", "keys gone", "bundle unreadable", "unsigned",
    "older than the one in force", "panic in the engine", "upstream down", "upstream slow", "nonsense",
    "descriptors exhausted", "event", "clock jumps",
)  # fmt: skip


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "What fails"]


def known_metrics() -> set[str]:
    """As scraped: label sets where they are fixed, and bare names."""
    known: set[str] = set()
    source = (ROOT / "crates/gateway/src/metrics.rs").read_text("utf-8")
    family = re.compile(r'\w+: "(stockade_\w+)" \{ ?(?:r#"([^#]*)"#)? ?\}')
    counters, gauges = source.rsplit("    gauges {", 1)
    for name, label in family.findall(counters):
        known |= {f"{name}_total", f"{name}_total{{{label}}}"}
    known |= {name for name, _ in family.findall(gauges)}
    for path in (ROOT / "crates/gateway/src").rglob("*.rs"):
        known |= set(re.findall(r'"(stockade_\w+_(?:seconds|entries|invalid))"', path.read_text("utf-8")))
    known |= {f"{name}_total" for name in re.findall(r'header\(out, "(stockade_\w+)", "counter"', source)}
    identity = (ROOT / "src/stockade/identity/observability.py").read_text("utf-8")
    for name, kind in re.findall(r'^    "(\w+)": \("(\w+)"', identity, re.MULTILINE):
        known.add(f"stockade_identity_{name}" + ("_total" if kind == "counter" else ""))
    known |= set(
        re.findall(
            r"(stockade_(?:gateway_up|part_restarts_total))",
            (ROOT / "src/stockade/control/metrics.py").read_text("utf-8"),
        )
    )
    return known


def test_every_row_has_a_direction_a_metric_and_a_test() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert len(row) == 4, row[0]
        assert all(row), row[0]


@pytest.mark.parametrize("what", MUST_BE_COVERED)
def test_what_must_be_covered_is(what: str) -> None:
    assert any(what in row[0].lower() for row in rows()), what


def test_every_metric_of_the_table_exists() -> None:
    known = known_metrics()
    for row in rows():
        named = re.findall(r"`(stockade_[^`]+)`", row[2])
        assert named, row[0]
        assert set(named) <= known, f"{row[0]}: {set(named) - known}"


def test_every_test_of_the_table_exists() -> None:
    for row in rows():
        named = re.findall(r"`([^`]+)::(\w+)`", row[3])
        assert named, row[0]
        for path, name in named:
            text = (ROOT / path).read_text("utf-8")
            keyword = "def" if path.endswith(".py") else "fn"
            assert re.search(rf"^\s*(?:async )?{keyword} {name}\(", text, re.MULTILINE), f"{path}::{name}"
