"""The shared vectors through the running gateway: the same answers as the engine gives in Rust and in Python."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from vectors import NOW, VectorFile, holds, load
from vectors_stand import Reply, Stand

if TYPE_CHECKING:
    from pathlib import Path

FILES = load()
CANNOT_TRAVEL = {
    "responses: a declared upgrade": "the request does not ask for one: to a gateway its 101 is a `protocol_error`",
    "responses: an undeclared upgrade": "likewise",
}
"""Cases that mean nothing on a wire, each with the reason."""
EARLIER = {
    "paths: raw space": ("framing", "bad_request"),
    "paths: raw fragment": ("framing", "bad_request"),
}
"""Cases that never get as far as the engine: no HTTP/1 request line holds such a target (RFC 9112 §3)."""
DIFFERENT: dict[str, str] = {}
"""Where the gateway answers differently to this day. A case that no longer does must leave this list."""
LONGEST_WAIT_SECONDS = 2
ATTEMPTS = 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_gateway_answers_as_the_vectors_say(file: VectorFile, tmp_path: Path) -> None:
    failures: list[str] = []
    count = 0
    for number, cases in enumerate(batches(file)):
        secure = any(step["request"].get("client_certificate") for case in cases for step in steps(case))
        available = cases[0].get("available", True)
        for attempt in range(ATTEMPTS):
            with Stand(file, tmp_path / f"{number}-{attempt}", available, secure) as stand:
                found = [f"{case['name']}: {failure}" for case in cases for failure in differences(stand, case)]
            # Limits run by the clock, and a busy machine may stall between two steps: those, and only those, run again.
            if not found or "steps" not in cases[0]:
                break
        failures += found
        count += len(cases)
    print(f"\n{file.name}: {count} of {len(file.cases)} vectors through the gateway")
    assert not failures, f"{len(failures)} differ:\n" + "\n".join(failures)


def test_what_cannot_travel_is_little_and_exists() -> None:
    names = {f"{file.name}: {case['name']}" for file in FILES for case in file.cases}
    listed = [*CANNOT_TRAVEL, *EARLIER, *DIFFERENT]
    assert set(listed) <= names
    assert len(listed) <= 10


def batches(file: VectorFile) -> list[list[dict[str, Any]]]:
    """Cases that may share a gateway: what is counted and what is remembered must not pass from one to the next."""
    travelling = [case for case in file.cases if f"{file.name}: {case['name']}" not in CANNOT_TRAVEL]
    if any("steps" in case for case in travelling):
        return [[case] for case in travelling]
    both = ([case for case in travelling if case.get("available", True) is available] for available in (True, False))
    return [cases for cases in both if cases]


def steps(case: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = case.get("steps", [case])
    return found


def differences(stand: Stand, case: dict[str, Any]) -> list[str]:
    found = run(stand, case)
    if f"{stand.file.name}: {case['name']}" in DIFFERENT:
        return [] if found else ["agrees by now: take it out of DIFFERENT"]
    return found


def run(stand: Stand, case: dict[str, Any]) -> list[str]:
    failures = []
    started = time.monotonic()
    for step in steps(case):
        later = step.get("now", NOW) - NOW
        if later > LONGEST_WAIT_SECONDS:
            break  # The engine's clock can be set, the gateway's can't.
        time.sleep(max(0.0, started + later - time.monotonic()))
        try:
            reply = stand.ask(step["request"], case.get("response"), f"vector: {case['name']}")
            found, answered = summaries(stand, reply)
        except (AssertionError, OSError) as error:
            return [*failures, repr(error)]
        expected = on_the_wire(stand, case, step["expect"], found)
        if not holds(expected, found):
            failures.append(f"wanted {expected}\n  found {found}")
        if "response" in case and not holds(case["expect_response"], answered):
            failures.append(f"response: wanted {case['expect_response']}\n  found {answered}")
    return failures


def on_the_wire(stand: Stand, case: dict[str, Any], expect: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What can be seen from outside of what is expected."""
    expect = dict(expect)
    if found["outcome"] == "deny":
        expect.pop("path", None)  # A canonical path is seen where it is forwarded.
    if early := EARLIER.get(f"{stand.file.name}: {case['name']}"):
        expect["layer"], expect["reason"] = early
    if "headers" in expect.get("answer", {}) and "answer" in found:
        wanted = {name for name, _ in expect["answer"]["headers"]}
        kept = [
            field
            for field in found["answer"]["headers"]
            if field[0] in wanted or field[0].startswith("access-control-")
        ]
        found["answer"]["headers"] = kept  # The gateway adds what every answer of its own has: `Date` and the like.
    return expect


def summaries(stand: Stand, reply: Reply) -> tuple[dict[str, Any], dict[str, Any]]:
    """What became of the request and of its response, in the vectors' words."""
    events = stand.events()
    if own_answer(stand, reply):
        content = json.loads(reply.body) if reply.body else None
        headers = [[name.lower(), value] for name, value in reply.headers]
        return {"outcome": "answer", "answer": {"status": reply.status, "headers": headers, "json": content}}, {}
    reached = bool(stand.upstream.targets)
    final = events[-1]
    about_response = [event for event in events if event.get("layer") == "validate_response"]
    found: dict[str, Any] = {
        "outcome": "allow" if reached else "deny",
        "operation": final.get("operation"),
        "path": stand.upstream.targets[0].partition("?")[0] if reached else None,
        "observed": [each["reason"] for each in events if each["outcome"] == "observe" and each not in about_response],
        "allow": [method for field in reply.fields("allow") for method in field.split(", ")],
        "challenge": challenge(reply),
        "nonce": bool(reply.fields("dpop-nonce")),
    }
    if not reached:
        found |= {key: final.get(key) for key in ("layer", "reason", "status", "pointer")}
        assert final["status"] == reply.status
    return found, response_summary(final, about_response, reply)


def response_summary(final: dict[str, Any], about: list[dict[str, Any]], reply: Reply) -> dict[str, Any]:
    observed = [each["reason"] for each in about if each["outcome"] == "observe"]
    if final["outcome"] == "allow":
        return {"outcome": "allow", "observed": observed}
    sanitised = final.get("reason") == "error_sanitised"
    return {
        "outcome": "sanitise" if sanitised else "deny",
        "observed": observed,
        "status": reply.status,
        **{key: final.get(key) for key in ("layer", "reason", "pointer")},
    }


def own_answer(stand: Stand, reply: Reply) -> bool:
    """A preflight or the metadata: not a refusal, and not from the upstream."""
    return not stand.upstream.targets and reply.status in (200, 204)


def challenge(reply: Reply) -> str | None:
    fields = reply.fields("www-authenticate")
    return re.sub(r'(resource_metadata=")https?://[^/"]*', r"\1", ", ".join(fields)) if fields else None
