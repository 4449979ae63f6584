"""The shared vectors through the Python face of the engine."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from vectors import NOW, Occasion, VectorFile, body, holds, load, response_headers

from stockade.enforcement.engine import Decision, Engine, Identity, Request, Response, ResponseDecision

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = load()
THUMBPRINT = b"c" * 32


def cases() -> Iterator[Any]:
    for file in FILES:
        for case in file.cases:
            yield pytest.param(file, case, id=f"{file.name}: {case['name']}")


def identities(file: VectorFile) -> dict[str, Identity | None]:
    found: dict[str, Identity | None] = {}
    for credential in file.credentials.values():
        fields = credential["identity"]
        found[credential["secret"]] = identity(fields) if fields else None
    return found


def identity(fields: dict[str, Any]) -> Identity:
    """Certificates have names in the vectors: `client`, which requests show, and any other."""
    changed: dict[str, Any] = {"scopes": tuple(fields["scopes"]), "audience": tuple(fields["audience"])}
    if jkt := fields.get("jkt"):
        changed["jkt"] = base64.urlsafe_b64decode(jkt + "=")
    if name := fields.get("certificate"):
        changed["certificate"] = THUMBPRINT if name == "client" else b"o" * 32
    return Identity(**fields | changed)


def request_of(file: VectorFile, request: dict[str, Any], occasion: Occasion | None = None) -> Request:
    return Request(
        method=request["method"],
        target=file.secrets(request["target"]),
        headers=file.headers(request, occasion),
        body=body(request),
        address=request.get("address", "127.0.0.1"),
        client_certificate=request.get("client_certificate", False),
        certificate_thumbprint=THUMBPRINT if request.get("client_certificate") else None,
    )


def summary(decision: Decision | ResponseDecision) -> dict[str, Any]:
    found: dict[str, Any] = {
        "outcome": decision.outcome,
        "observed": [denial.reason for denial in decision.observed],
        **(asdict(decision.denial) if decision.denial else {}),
    }
    if isinstance(decision, Decision):
        found |= {
            "operation": decision.operation,
            "path": decision.canonical_path,
            "allow": list(decision.allow),
            "challenge": ", ".join(decision.challenges) or None,
            "nonce": decision.nonce is not None,
        }
        if decision.answer:
            found["answer"] = {
                "status": decision.answer.status,
                "headers": [list(field) for field in decision.answer.headers],
                "json": json.loads(decision.answer.body) if decision.answer.body else None,
            }
    return found


@pytest.mark.parametrize(("file", "case"), list(cases()))
def test_python_answers_as_the_vectors_say(file: VectorFile, case: dict[str, Any]) -> None:
    engine = Engine.from_payload(file.payload)
    known = identities(file)
    for step in case.get("steps", [case]):
        now = step.get("now", NOW)
        request = request_of(file, step["request"], Occasion(now, engine.nonce(now)))
        decision = engine.decide_request(
            request,
            identities=known,
            available=case.get("available", True),
            now=now,
        )
        assert holds(step["expect"], summary(decision)), summary(decision)
    if "response" in case:
        given = case["response"]
        response = Response(given["status"], response_headers(given), body(given))
        answered = engine.decide_response(request_of(file, case["request"]), response)
        assert holds(case["expect_response"], summary(answered)), summary(answered)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_vector_bundle_passes_its_self_check(file: VectorFile) -> None:
    report = Engine.from_payload(file.payload).self_check()
    assert report.operations > 0


def test_the_vectors_are_all_there() -> None:
    assert sum(len(file.cases) for file in FILES) >= 450
