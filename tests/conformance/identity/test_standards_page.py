"""docs/standards.md says what is so: it is current, and every demand, test and module that it names exists."""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from pathlib import Path

import pytest
from requirements import ALL, STANDARDS
from shown import DONE, SHOWN

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import collect_standards  # noqa: E402 - the scripts stand in a folder of their own
import generate_docs  # noqa: E402


def test_the_page_is_current() -> None:
    page = ROOT / "docs" / "standards.md"
    assert page.read_text("utf-8") == generate_docs.PAGES["standards.md"](), "run `make docs`"


def test_every_key_is_a_demand() -> None:
    evidence = collect_standards.collect()
    assert sorted({*evidence.tests, *DONE} - ALL.keys()) == []


def test_every_test_that_is_named_exists() -> None:
    shown = {test for tests in collect_standards.collect().tests.values() for test in tests}
    assert len(shown) > 100
    assert sorted(test for test in shown if not exists(test)) == []


@lru_cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def exists(test: str) -> bool:
    """A function of that name; of a plan's case, one that enters the id."""
    path, _, name = test.partition("::")
    function, _, case = name.partition("[")
    if not (ROOT / path).is_file():
        return False
    return function in functions_of(ROOT / path) and (not case or case.removesuffix("]") in cases_of(ROOT / path))


@lru_cache
def functions_of(path: Path) -> set[str]:
    return {each.name for each in ast.walk(tree_of(path)) if isinstance(each, ast.FunctionDef)}


@lru_cache
def cases_of(path: Path) -> set[str]:
    """The ids of all cases that a file enters into plans."""
    found = set()
    for each in ast.walk(tree_of(path)):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == "case":
            assert isinstance(each.func.value, ast.Name)
            prefix = collect_standards.PLANS[each.func.value.id][1]
            assert isinstance(each.args[0], ast.Constant)
            found.add(f"{prefix}{each.args[0].value}")
    return found


def test_every_module_that_is_named_exists() -> None:
    assert sorted(path for paths in DONE.values() for path in paths if not (ROOT / path).is_file()) == []


def test_what_is_left_out_is_not_shown_all_the_same() -> None:
    out = {key for key, (_, requirement) in ALL.items() if requirement.left_out}
    assert sorted(out & {*SHOWN, *DONE}) == []


@pytest.mark.parametrize("standard", STANDARDS, ids=lambda standard: standard.name)
def test_every_standard_has_a_table(standard: collect_standards.Standard) -> None:
    page = (ROOT / "docs" / "standards.md").read_text("utf-8")
    assert f"## {standard.name}: {standard.title}\n" in page


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RFC 9449 §4.3 and §7", [("RFC 9449", "4.3"), ("RFC 9449", "7")]),
        ("(RFC 7523 §2.2 and §3, OpenID Connect Core §9)",
         [("RFC 7523", "2.2"), ("RFC 7523", "3"), ("OIDC Core", "9")]),
        ("FAPI 2.0 Security Profile §5.3.2.1: one", [("FAPI 2.0", "5.3.2.1")]),
        ("# RFC 6749\n# §4.1.2 and", [("RFC 6749", "4.1.2")]),
        ("RFC 6749, and §4 of something", []),
    ],
)  # fmt: skip
def test_citations_are_read_as_people_write_them(text: str, found: list[tuple[str, str]]) -> None:
    assert sorted(collect_standards.citations(text)) == sorted(found)
