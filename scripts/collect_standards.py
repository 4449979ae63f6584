"""Collects docs/standards.md: what each standard demands, which module does it, which test shows it.

What is demanded stands in tests/conformance/identity/requirements.py. Modules are those whose docstrings and comments
cite the clause (`RFC 9449 §4.3`); tests are those that name a demand's key by `@pytest.mark.standard(…)`, cases of a
certification plan by `standards=`, and others by SHOWN in tests/conformance/identity/shown.py, which also
names modules that keep a demand without citing its clause. Everything is read as
text or syntax tree: nothing is imported but the two lists.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
JUDGES = ROOT / "tests" / "conformance" / "identity"
sys.path.insert(0, str(JUDGES))

from requirements import STANDARDS, Requirement, Standard  # noqa: E402 - the lists stand with the tests
from shown import DONE, SHOWN  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCES = ("src/stockade/**/*.py", "crates/engine/src/**/*.rs", "crates/gateway/src/**/*.rs")
_CLAUSES = re.compile(r"§{1,2}\s?(\d+(?:\.\d+)*(?:(?:,? and|,) §?\d+(?:\.\d+)*)*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")

INTRODUCTION = """# Standards

What each standard demands of an authorization server, and of the gate as a resource server, in our own words, where it
is done and which test shows it. The clauses of modules are collected from docstrings and comments, the tests from their
markers; `make docs` writes this page, and a test fails when it is not current or names a test that is not there.

A gap is a demand that no test shows, or that no module claims: it is listed in the open, and is no statement that the
demand is not kept. What is left out altogether says why. What the certification plans say, case by case, is in
[conformance.md](conformance.md).
"""


@dataclass
class Evidence:
    """Files that cite a clause, by (standard, clause), and tests by key."""

    modules: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    tests: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def standards_page() -> str:
    """The whole page."""
    evidence = collect()
    tables = [_table(standard, evidence) for standard in STANDARDS]
    return "\n".join([INTRODUCTION, _summary(evidence), *tables])


def collect() -> Evidence:
    """Read every source and test file."""
    evidence = Evidence()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            for key in citations(path.read_text("utf-8")):
                evidence.modules[key].add(path.relative_to(ROOT).as_posix())
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for key, test in marked_tests(path):
            evidence.tests[key].append(test)
    for key, tests in SHOWN.items():
        evidence.tests[key].extend(f"tests/{test}" for test in tests)
    return evidence


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Each (standard, clause) that a text names: `RFC 9449 §5.2 and §7`, `RFC 7523 §2.2 and §3`."""
    joined = re.sub(r"\s*\n\s*(?:#|//[/!]?)?\s*", " ", text)
    for name, standard in _NAMES:
        for found in re.finditer(re.escape(name) + r"(?= §)", joined):
            rest = joined[found.end() :]
            for clauses in _following(rest):
                for clause in _NUMBER.findall(clauses):
                    yield standard, clause


def _following(rest: str) -> Iterator[str]:
    """The clauses that stand behind a name, as long as nothing but `and` and commas is between them."""
    while match := re.match(r"(?:,? and|,)? ?" + _CLAUSES.pattern, rest):
        yield match[1]
        rest = rest[match.end() :]


# Longer names first, so that a short one does not read what a long one says.
_NAMES = sorted(
    ((name, standard.name) for standard in STANDARDS for name in (standard.name, *standard.others)),
    key=lambda pair: -len(pair[0]),
)


def marked_tests(path: Path) -> Iterator[tuple[str, str]]:
    """Each (key, test) of a test file: markers of functions, and `standards=` of cases."""
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    shows = {each.name: each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
    for function in shows.values():
        for decorator in function.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            called = ast.unparse(decorator.func)
            if called == "pytest.mark.standard":
                yield from ((key, f"{name}::{function.name}") for key in _texts(decorator.args))
            elif called.endswith(".case"):
                yield from ((key, f"{name}::{_case_test(called, decorator)}") for key in _case_keys(decorator))


def _case_keys(decorator: ast.Call) -> list[str]:
    for keyword in decorator.keywords:
        if keyword.arg == "standards" and isinstance(keyword.value, ast.Tuple):
            return _texts(keyword.value.elts)
    return []


def _case_test(called: str, decorator: ast.Call) -> str:
    """`test_basic_plan[oidcc-server]`: the test that runs the case under its id."""
    test, prefix = PLANS[called.removesuffix(".case")]
    return f"{test}[{prefix}{_texts(decorator.args[:1])[0]}]"


PLANS = {
    "basic": ("test_basic_plan", "oidcc-"),
    "config": ("test_config_plan", "oidcc-"),
    "dynamic": ("test_redirect_uris_of_the_dynamic_plan", "oidcc-"),
    "logout": ("test_logout_plan", "oidcc-rp-initiated-logout"),
    "plan": ("test_plan_by_private_key_and_dpop", "fapi2-security-profile-final-"),
}


def _texts(nodes: Iterable[ast.expr]) -> list[str]:
    """The strings among arguments, which are written out in full for this."""
    return [each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def _gap(evidence: Evidence, standard: Standard, key: str, requirement: Requirement) -> bool:
    return not requirement.left_out and not (evidence.tests.get(key) and _modules(evidence, standard, key, requirement))


def _modules(evidence: Evidence, standard: Standard, key: str, requirement: Requirement) -> list[str]:
    """The files that DONE names or that cite the clause, else those that cite a part of it or what it is a part of."""
    if key in DONE:
        return list(DONE[key])
    exact = evidence.modules.get((standard.name, requirement.clause), set())
    if exact:
        return sorted(exact)
    near = [
        paths
        for (name, clause), paths in evidence.modules.items()
        if name == standard.name and _is_near(clause, requirement.clause)
    ]
    return sorted(set().union(*near))


def _is_near(clause: str, other: str) -> bool:
    return clause.startswith(f"{other}.") or other.startswith(f"{clause}.")


def _summary(evidence: Evidence) -> str:
    lines = ["| Standard | Demands | Shown | Gaps | Left out |", "|---|---|---|---|---|"]
    for standard in STANDARDS:
        keyed = standard.keyed()
        out = sum(bool(each.left_out) for _, each in keyed)
        gaps = sum(_gap(evidence, standard, key, each) for key, each in keyed)
        title = f"{standard.name}: {standard.title}"
        lines.append(f"| [{title}](#{_anchor(title)}) | {len(keyed)} | {len(keyed) - out - gaps} | {gaps} | {out} |")
    return "\n".join(lines) + "\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _table(standard: Standard, evidence: Evidence) -> str:
    lines = [f"## {standard.name}: {standard.title}\n", "| Clause | Demand | Module | Test |", "|---|---|---|---|"]
    for key, requirement in standard.keyed():
        place = key.removeprefix(standard.name).strip()
        cells = (_module_cell(evidence, standard, key, requirement), _test_cell(evidence, key, requirement))
        lines.append(f"| {place} | {requirement.text} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _module_cell(evidence: Evidence, standard: Standard, key: str, requirement: Requirement) -> str:
    if requirement.left_out:
        return "left out"
    modules = [_short(path) for path in _modules(evidence, standard, key, requirement)]
    more = f" and {len(modules) - MOST} more" if len(modules) > MOST else ""
    return ", ".join(f"`{each}`" for each in modules[:MOST]) + more or "**gap**"


def _test_cell(evidence: Evidence, key: str, requirement: Requirement) -> str:
    if requirement.left_out:
        return requirement.left_out
    shown = dict.fromkeys(evidence.tests.get(key, []))
    tests = [f"`{each.rpartition('/')[2].replace('.py::', '::')}`" for each in shown]
    more = f" and {len(tests) - MOST} more" if len(tests) > MOST else ""
    return ", ".join(tests[:MOST]) + more or "**gap**"


MOST = 3


def _short(path: str) -> str:
    return path.removeprefix("src/stockade/").removeprefix("crates/")


if __name__ == "__main__":
    print(standards_page())
