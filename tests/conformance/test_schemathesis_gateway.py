"""The outside judge in front of the running product: over TLS, with real tokens, before a recording upstream."""

from __future__ import annotations

import http.client
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from judge_draws import CASE_ID, POLICY, SHARED, Draw, Subject, compiled, credentialed, read
from judge_exceptions import Disagreement, settle
from shop import shop
from stack import Stack, Upstream
from test_schemathesis import agrees

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_SECONDS = 20


@pytest.mark.parametrize("name", ["shop", "petstore.yaml", "museum.yaml"])
def test_what_the_judge_calls_valid_reaches_the_upstream_and_nothing_else(name: str, tmp_path: Path) -> None:
    if name != "shop" and not (SHARED / name).exists():
        pytest.skip(f"{name} is not here: set STOCKADE_SHARED")
    document = shop() if name == "shop" else read(SHARED / name)
    for operation in limited(document):
        del operation["x-stockade"]["limit"]
    subject = compiled(name, document, tmp_path)
    counts: Counter[str] = Counter()
    unsettled: list[Disagreement] = []
    apart: list[str] = []
    for draw, reached in through_the_gate(subject, tmp_path / "stack"):
        outcome, denial = subject.decide(draw)
        if reached != (outcome == "allow"):
            apart.append(f"{draw.method} {draw.target}: engine {outcome}, {'reached' if reached else 'never reached'}")
        found = Disagreement(subject, draw, denial)
        if agrees(draw, outcome, denial):
            counts["valid" if draw.valid else "invalid"] += 1
        elif exception := settle(found):
            counts[f"exception {exception}"] += 1
        else:
            unsettled.append(found)
    print(f"\n{name} through the gateway: {dict(sorted(counts.items()))}")
    assert not apart, "\n".join(apart[:20])
    assert not unsettled, "\n".join(map(str, unsettled[:20]))
    assert counts["valid"] >= 20
    assert counts["invalid"] >= 50


def limited(document: dict[str, object]) -> list[dict[str, dict[str, object]]]:
    """Operations with a rate: this judge is not about time."""
    paths: dict[str, dict[str, dict[str, dict[str, object]]]] = document["paths"]  # type: ignore[assignment]
    return [
        operation
        for item in paths.values()
        for operation in item.values()
        if isinstance(operation, dict) and "limit" in operation.get("x-stockade", {})
    ]


def through_the_gate(subject: Subject, folder: Path) -> Iterator[tuple[Draw, bool]]:
    """Each draw, and whether the upstream saw it."""
    upstream = Upstream()
    folder.mkdir()
    policy = {**POLICY, "layers": {"validate_response": "off"}}
    scopes = subject.payload["authentication"]["scopes_supported"]
    try:
        with Stack(folder, subject.document, upstream.url, **policy) as stack:
            token = stack.token(*scopes)
            key = stack.client(*scopes, api_key=True)["api_key"]
            for draw in subject.draws(fuzzed=4, enumerated=40):
                send(stack, draw, token, key)
                yield draw, any(seen.header(CASE_ID) == draw.id for seen in upstream.seen)
                upstream.seen.clear()
    finally:
        upstream.close()


def send(stack: Stack, draw: Draw, token: str, key: str) -> None:
    """The draw's bytes, on a connection of its own, until it is answered."""
    place = urlsplit(stack.url)
    target, headers = credentialed(draw, token, key)
    connection = http.client.HTTPSConnection(
        str(place.hostname), place.port, context=stack.tls, timeout=PATIENCE_SECONDS
    )
    connection.putrequest(draw.method, target, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader(CASE_ID, draw.id)
    connection.endheaders(draw.body or None)
    connection.getresponse().read()
    connection.close()
