"""The benchmark sends what it says, and its descriptions are what they say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from bench import api


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_body_and_answer_have_the_promised_sizes() -> None:
    assert (len(api.BODY), len(api.ANSWER)) == (249, 200)


@pytest.mark.parametrize("count", [2, 10, 1000])
def test_description_has_exactly_the_operations_asked_for(count: int) -> None:
    found = operations(api.description(count))
    assert len(found) == count
    assert len({operation["operationId"] for operation in found}) == count


def test_body_and_answer_hold_to_the_description() -> None:
    components = api.description(10)["components"]
    for schema, document in (("NewOrder", api.BODY), ("Order", api.ANSWER)):
        root = {"$ref": f"#/components/schemas/{schema}", "components": components}
        assert jsonschema_rs.is_valid(root, json.loads(document)), schema
        assert not jsonschema_rs.is_valid(root, {**json.loads(document), "more": 1})


def test_called_operations_are_the_same_in_every_size() -> None:
    small, large = api.description(10)["paths"], api.description(1000)["paths"]
    for path in ("/v1/orders", "/v1/orders/{orderId}"):
        assert small[path] == large[path]
