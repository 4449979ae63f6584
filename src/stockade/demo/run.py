"""Fire every legitimate call and every attack at the API alone and through the gate, and judge what came back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, TextIO

from stockade.demo.attacks import ATTACKS, LEGITIMATE, OWASP, Attack, Legitimate
from stockade.demo.calls import TOO_MANY_REQUESTS, Answer, Call, Credentials, Place
from stockade.demo.table import render_table

Explain = Callable[[str], Mapping[str, Any] | None]

EVENT_WAIT_SECONDS = 2.0
BROKEN_LAYERS = frozenset({"internal"})
"""A refusal by these proves nothing about the layer that should have refused."""


class Verdict(StrEnum):
    """What a row comes to. Only MISSED, UNPROVEN and BROKEN make a demo fail."""

    STOPPED = "stopped"
    TO_COME = "to come"
    MISSED = "missed"
    UNPROVEN = "unproven"
    NOT_RUN = "not run"
    PASSED = "passed"
    BROKEN = "broken"


FAILURES = frozenset({Verdict.MISSED, Verdict.UNPROVEN, Verdict.BROKEN})


@dataclass(frozen=True, slots=True)
class Seen:
    """One end's answer: its status (0: connection closed) and what the attacker got, None for nothing."""

    status: int
    got: str | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `layer` is the one that has to stop it, `decided_by` and `reason` come from the event."""

    kind: Literal["attack", "legitimate"]
    id: str
    title: str
    owasp: str
    layer: str
    direct: Seen
    gate: Seen
    verdict: Verdict
    decided_by: str = ""
    reason: str = ""
    event_id: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """All rows, legitimate calls first."""

    rows: tuple[Row, ...]

    @property
    def succeeded(self) -> bool:
        """See the function of the same name."""
        return succeeded(self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints: the rows, a count of each verdict, and whether all is as it has to be."""
        counts = {str(verdict): sum(row.verdict is verdict for row in self.rows) for verdict in Verdict}
        rows = [{**asdict(row), "owasp": OWASP.get(row.owasp, "")} for row in self.rows]
        return {"succeeded": self.succeeded, "counts": counts, "rows": rows}


def run_demo(
    direct_url: str,
    gate_url: str,
    ca_file: str,
    *,
    credentials: Credentials,
    explain: Explain,
    out: TextIO | None = None,
) -> DemoResult:
    """Run the demo against a fresh weak API at `direct_url` and the gate in front of it; print the table to `out`.

    `explain` returns the event of an id (docs/contracts.md §6), or None while it has not been written. The gate must
    know `credentials`; its per-client limit is 200 a minute, and three clients are used.
    """
    direct = Place(direct_url, credentials, gate=False)
    gate = Place(gate_url, credentials, gate=True, ca_file=ca_file)
    direct.memory["api"] = gate.memory["api"] = direct.url
    try:
        rows = tuple(_rows(direct, gate, explain))
    finally:
        direct.close()
        gate.close()
    if out is not None:
        out.write(render_table(rows, colour=out.isatty()))
    return DemoResult(rows)


def succeeded(rows: Iterable[Row]) -> bool:
    """Tell whether each attack is real and was stopped, if its layer exists, and every legitimate call passed."""
    return not any(row.verdict in FAILURES for row in rows)


def _rows(direct: Place, gate: Place, explain: Explain) -> Iterator[Row]:
    for legitimate in LEGITIMATE:
        direct_answer, gate_answer = _call_legitimately(legitimate, direct), _call_legitimately(legitimate, gate)
        yield judge_legitimate(legitimate, direct_answer, gate_answer, explain)
    for attack in ATTACKS:
        calls = attack.build(direct), attack.build(gate)
        if calls[0] is None or calls[1] is None:
            nothing = Seen(0)
            yield Row("attack", attack.id, attack.title, attack.owasp, attack.layer, nothing, nothing, Verdict.NOT_RUN,
                      note="no such credential to be had")  # fmt: skip
            continue
        yield judge_attack(attack, direct.send(calls[0]), gate.send(calls[1]), explain)


def _call_legitimately(legitimate: Legitimate, place: Place) -> Answer:
    call: Call = legitimate.build(place)
    answer = place.send(call)
    document = answer.json
    if legitimate.remember and isinstance(document, dict):
        place.memory[legitimate.remember] = document.get("id")
    return answer


def judge_legitimate(legitimate: Legitimate, direct: Answer, gate: Answer, explain: Explain) -> Row:
    """Both ends have to answer with the status that the description promises."""
    passed = direct.status == gate.status == legitimate.status
    event = {} if passed else _event(gate, explain)
    return Row(
        kind="legitimate",
        id=legitimate.id,
        title=legitimate.title,
        owasp="",
        layer="",
        direct=Seen(direct.status, error=direct.error),
        gate=Seen(gate.status, error=gate.error),
        verdict=Verdict.PASSED if passed else Verdict.BROKEN,
        decided_by=str(event.get("layer", "")),
        reason=str(event.get("reason", "")),
        event_id=gate.event_id,
    )


def judge_attack(attack: Attack, direct: Answer, gate: Answer, explain: Explain) -> Row:
    """Judge both answers by the same proof: what the attacker got from either end."""
    got, got_through = attack.proof(direct), attack.proof(gate)
    event = _event(gate, explain)
    decided_by = str(event.get("layer", ""))
    verdict, note = _verdict(attack, got, got_through, gate, decided_by)
    return Row(
        kind="attack",
        id=attack.id,
        title=attack.title,
        owasp=attack.owasp,
        layer=attack.layer,
        direct=Seen(direct.status, got, direct.error),
        gate=Seen(gate.status, got_through, gate.error),
        verdict=verdict,
        decided_by=decided_by,
        reason=str(event.get("reason", "")),
        event_id=gate.event_id,
        note=note,
    )


def _verdict(
    attack: Attack, got: str | None, got_through: str | None, gate: Answer, decided_by: str
) -> tuple[Verdict, str]:
    if got is None:
        return Verdict.UNPROVEN, "the API alone resists, so this shows nothing"
    if got_through is not None:
        return (Verdict.TO_COME if attack.to_come else Verdict.MISSED), ""
    if gate.status == TOO_MANY_REQUESTS and attack.layer != "limits":
        return Verdict.MISSED, "refused by a rate limit, so not judged"
    if decided_by in BROKEN_LAYERS or (decided_by == "upstream" and attack.layer != "upstream"):
        return Verdict.MISSED, "the gate failed, so not judged"
    if gate.error not in ("", "closed without an answer") and attack.layer != "framing":
        return Verdict.MISSED, "the gate did not answer, so not judged"
    return Verdict.STOPPED, _how_without_event(attack, gate)


def _how_without_event(attack: Attack, gate: Answer) -> str:
    if gate.status == 0:
        return "connection closed"
    return attack.harmless if 200 <= gate.status < 300 else ""  # noqa: PLR2004 - 2xx


def _event(answer: Answer, explain: Explain) -> Mapping[str, Any]:
    """Look up the event of a refusal; events are written off the hot path, so it may take a moment."""
    if answer.event_id is None:
        return {}
    deadline = time.monotonic() + EVENT_WAIT_SECONDS
    while (event := explain(answer.event_id)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return event or {}
