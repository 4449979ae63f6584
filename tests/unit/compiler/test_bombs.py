"""Descriptions built to explode are compiled, denied or refused, in bounded time."""

from __future__ import annotations

from typing import Any

import pytest
from compiler_workshop import Workshop, api, document, ref

from stockade.compiler import schemas
from stockade.errors import BundleError

OK = {"200": {"description": ""}}
LEVELS = 40


def doubling(keyword: str) -> dict[str, Any]:
    """Each level names the next one twice: 2^40 paths through 40 schemas."""
    components: dict[str, Any] = {f"L{n}": {keyword: [ref(f"L{n + 1}"), ref(f"L{n + 1}")]} for n in range(LEVELS)}
    components[f"L{LEVELS}"] = {"type": "object", "properties": {"a": {"type": "string"}}}
    return components


@pytest.mark.timeout(20)
@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_doubling_composition_is_compiled_once_a_level(workshop: Workshop, keyword: str) -> None:
    described = api(ref("L0"), doubling(keyword))
    form = {"application/x-www-form-urlencoded": {"schema": ref("L0")}}
    described["paths"]["/form"] = {"post": {"requestBody": {"content": form}, "responses": OK}}
    assert len(workshop.compile(described).compiled.payload) < 200_000


@pytest.mark.timeout(20)
def test_decode_trees_are_bounded(workshop: Workshop) -> None:
    wide = {"type": "object", "properties": {f"p{n}": ref("Wide") for n in range(60)}}
    form = {"multipart/form-data": {"schema": ref("Wide")}}
    paths = {"/form": {"post": {"requestBody": {"content": form}, "responses": OK}}}
    built = workshop.compile(document(paths, components={"schemas": {"Wide": wide}}))
    assert len(built.compiled.payload) < 2_000_000


@pytest.mark.timeout(20)
def test_discriminators_that_lead_to_each_other_end(workshop: Workshop) -> None:
    components: dict[str, Any] = {
        f"S{n}": {"oneOf": [ref(f"S{m}") for m in range(n + 1, 12)], "discriminator": {"propertyName": "k"}}
        for n in range(11)
    }
    components["S11"] = {"type": "object", "properties": {"k": {"type": "string"}}}
    accepts = workshop.schema(ref("S0"), components).request_body()
    assert not accepts({"k": "T"})


def test_too_many_variants_are_an_error(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MAX_DEFINITIONS", 20)
    with pytest.raises(BundleError, match="more than 20 definitions"):
        workshop.schema(ref("L0"), doubling("anyOf"))
