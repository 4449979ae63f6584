"""An outside judge: what Schemathesis calls valid is allowed, what it calls invalid refused, in every description."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from judge_draws import ROOT, SHARED, Subject, compiled, read
from judge_exceptions import EXCEPTIONS, Disagreement, settle
from shop import shop

if TYPE_CHECKING:
    from judge_draws import Draw

    from stockade.enforcement.engine import Denial

JUDGED_LAYERS = ("framing", "lookup", "validate_request")
USED: Counter[str] = Counter()


@dataclass(frozen=True)
class Plan:
    """How much is drawn. `step`: every n-th operation, for the descriptions with hundreds of them."""

    step: int = 1
    fuzzed: int = 12
    enumerated: int = 250
    least: int = 50


OURS = {"weak_api": Plan(least=500), "shop": Plan(least=200)}
REAL = {
    "petstore.yaml": Plan(least=1000),
    "museum.yaml": Plan(least=300),
    "uspto.yaml": Plan(),
    "galaxy-3.1.yaml": Plan(least=300),
    "adyen-checkout-v71.json": Plan(step=3, fuzzed=6, enumerated=100, least=400),
    "discord.json": Plan(step=17, fuzzed=6, enumerated=60, least=300),
    "github.json.xz": Plan(step=55, fuzzed=6, enumerated=80, least=400),
}


@pytest.mark.parametrize("name", OURS)
def test_our_own_descriptions_are_held_as_the_judge_reads_them(name: str, tmp_path: Path) -> None:
    document = shop() if name == "shop" else read(ROOT / "src/stockade/demo/weak_api/openapi.yaml")
    hold(compiled(name, document, tmp_path), OURS[name])


@pytest.mark.parametrize("name", REAL)
def test_real_descriptions_are_held_as_the_judge_reads_them(name: str, tmp_path: Path) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not here: set STOCKADE_SHARED")
    hold(compiled(name, read(SHARED / name), tmp_path), REAL[name])


def hold(subject: Subject, plan: Plan) -> None:
    agreed: Counter[str] = Counter()
    settled: Counter[str] = Counter()
    unsettled: list[Disagreement] = []
    for draw in subject.draws(fuzzed=plan.fuzzed, enumerated=plan.enumerated, step=plan.step):
        outcome, denial = subject.decide(draw)
        if agrees(draw, outcome, denial):
            agreed["valid" if draw.valid else "invalid"] += 1
            continue
        found = Disagreement(subject, draw, denial)
        if exception := settle(found):
            settled[exception] += 1
        else:
            unsettled.append(found)
    USED.update(settled)
    report(subject, agreed, settled)
    assert not unsettled, f"{len(unsettled)} disagreements:\n" + "\n".join(map(str, unsettled[:20]))
    assert agreed["valid"]
    assert agreed["invalid"]
    assert agreed.total() >= plan.least


def agrees(draw: Draw, outcome: str, denial: Denial | None) -> bool:
    """A refusal for want of credentials would agree with everything, and prove nothing."""
    if draw.valid:
        return outcome == "allow"
    return denial is not None and (denial.layer in JUDGED_LAYERS or denial.reason == "token_in_query")


def report(subject: Subject, agreed: Counter[str], settled: Counter[str]) -> None:
    exceptions = ", ".join(f"{name} {count}" for name, count in sorted(settled.items())) or "none"
    print(f"\n{subject.name}: agreed on {agreed['valid']} valid, {agreed['invalid']} invalid; exceptions: {exceptions}")
    for line in subject.skipped:
        print(f"  not drawn: {line}")


def test_every_exception_stands_in_the_docs() -> None:
    page = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")
    assert [each.id for each in EXCEPTIONS if f"`{each.id}`" not in page] == []
