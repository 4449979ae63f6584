"""OpenAPI Overlay 1.0."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from spec_support import HEAD

from stockade.spec.jsonpath import QueryBudget, QueryError, query

if TYPE_CHECKING:
    from spec_support import Describe, Refusal

API = HEAD + (
    "paths:\n"
    "  /a:\n    get: {operationId: a, tags: [one], responses: {'200': {description: x}}}\n"
    "    post: {operationId: b, tags: [one], responses: {'200': {description: x}}}\n"
    "  /b:\n    get: {operationId: c, x-list: [1, 2, 3, 4], responses: {'200': {description: x}}}\n"
)


def overlay(*actions: str, extra: str = "") -> str:
    lines = "".join(f"  - {action}\n" for action in actions)
    return f"overlay: 1.0.0\ninfo: {{title: O, version: '1'}}\n{extra}actions:\n{lines}"


def test_update_merges_objects_appends_to_arrays_and_replaces_the_rest(describe: Describe) -> None:
    change = "{target: '$.paths[\"/a\"].get', update: {deprecated: true, tags: [two], operationId: z, x-s: {k: 1}}}"
    operation = describe(API, (overlay(change),)).operations[0]
    assert operation.deprecated
    assert operation.tags == ("one", "two")
    assert operation.operation_id == "z"
    assert operation.extensions == {"x-s": {"k": 1}}


def test_update_of_an_array_appends_one_entry(describe: Describe) -> None:
    description = describe(API, (overlay("{target: '$.paths[\"/b\"].get.x-list', update: [5]}"),))
    assert description.operations[2].extensions["x-list"] == [1, 2, 3, 4, [5]]


def test_remove_takes_every_match_at_once(describe: Describe) -> None:
    description = describe(API, (overlay("{target: '$.paths[\"/b\"].get.x-list[0,2,3]', remove: true, update: 1}"),))
    assert description.operations[2].extensions["x-list"] == [2]
    assert [o.operation_id for o in describe(API, (overlay("{target: $.paths.*.get, remove: true}"),)).operations] == [
        "b"
    ]


def test_actions_and_overlays_apply_in_order(describe: Describe) -> None:
    first = overlay("{target: $.info, update: {title: A}}", "{target: $.info, update: {title: B, x-b: 1}}")
    second = overlay("{target: '$.info[?@ == 1]', remove: true}", "{target: $.info, update: {title: C}}")
    description = describe(API, (first, second))
    assert description.title == "C"
    assert description.documents["openapi.yaml"]["info"] == {"title": "C", "version": "1"}
    assert description.sha256 != describe(API, (second, first)).sha256
    assert len(description.inputs) == 3


def test_value_shared_by_an_alias_changes_only_where_the_target_says(describe: Describe) -> None:
    api = HEAD + "x-one: &x {deep: {list: [1]}}\nx-two: *x\n"
    description = describe(api, (overlay("{target: $.x-one.deep, update: {list: [2], new: 3}}"),))
    assert description.extensions["x-one"] == {"deep": {"list": [1, 2], "new": 3}}
    assert description.extensions["x-two"] == {"deep": {"list": [1]}}


def test_an_update_applied_twice_stays_two_values(describe: Describe) -> None:
    actions = overlay(
        "{target: $.paths.*.get, update: {x-l: {v: [1]}}}", "{target: '$.paths[\"/a\"].get.x-l', update: {v: [2]}}"
    )
    operations = describe(API, (actions,)).operations
    assert operations[0].extensions["x-l"] == {"v": [1, 2]}
    assert operations[2].extensions["x-l"] == {"v": [1]}


def test_node_of_an_overlay_is_located_in_the_overlay(describe: Describe) -> None:
    change = "target: $.paths['/a'].get\n    update:\n      parameters:\n        - {name: q, in: nowhere}"
    description = describe(API, (overlay(change),))
    (unsupported,) = description.operations[0].unsupported
    where = description.locate(unsupported.node)
    assert where.file.endswith("overlay0.yaml")
    assert (where.line, where.column) == (7, 11)
    assert where.pointer == "/actions/0/update/parameters/0"


def test_nodes_after_a_removed_element_keep_their_place(describe: Describe) -> None:
    api = HEAD + "x-l:\n- a\n- b\n- {c: 1}\n"
    description = describe(api, (overlay("{target: '$.x-l[0]', remove: true}"),))
    node = description.resolve(description.root, "#/x-l/1/c")
    assert str(description.locate(node)).endswith("openapi.yaml:6:4 at /x-l/2/c")


def test_target_that_matches_nothing_is_a_warning(describe: Describe) -> None:
    description = describe(API, (overlay("{target: $.nothing, update: {}}"),))
    ((message, node),) = [w for w in description.warnings if "matches nothing" in w[0]]
    assert "$.nothing" in message
    assert str(description.locate(node)).endswith("overlay0.yaml:4:6 at /actions/0/target")


@pytest.mark.parametrize("name", ["openapi.yaml", "./openapi.yaml", "https://example.com/openapi.yaml"])
def test_extends_of_this_description_is_no_warning(describe: Describe, name: str) -> None:
    assert describe(API, (overlay("{target: $.info, update: {}}", extra=f"extends: {name}\n"),)).warnings == ()


def test_extends_of_another_description_is_a_warning(describe: Describe) -> None:
    description = describe(API, (overlay("{target: $.info, update: {}}", extra="extends: other.yaml\n"),))
    assert "other.yaml" in description.warnings[0][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("openapi: 3.1.0", "not an overlay"),
        ("[]", "not an overlay"),
        ("overlay: 2.0.0\nactions: [{target: $, remove: true}]", "version"),
        ("overlay: 1.0.0", "`actions`"),
        ("overlay: 1.0.0\nactions: []", "`actions`"),
        ("overlay: 1.0.0\nactions: [1]", "must be an object"),
        ("overlay: 1.0.0\nactions: [{update: {}}]", "`target`"),
        ("overlay: 1.0.0\nactions: [{target: $}]", "changes nothing"),
        ("overlay: 1.0.0\nactions: [{target: $, remove: 'yes'}]", "`remove`"),
        ("overlay: 1.0.0\nactions: [{target: 'paths', remove: true}]", "no JSONPath"),
        ("overlay: 1.0.0\nactions: [{target: '$..[?match(@, \"a\")]', remove: true}]", "no JSONPath"),
        ("overlay: 1.0.0\nactions: [{target: $, remove: true}]", "whole description"),
        ("overlay: 1.0.0\nactions: [{target: $.info.title, update: x}]", "neither an object nor an array"),
        ("overlay: 1.0.0\nactions: [{target: $.info, update: x}]", "must be an object"),
        ("overlay: 1.0.0\nextends: 1\nactions: [{target: $.info, update: {}}]", "`extends`"),
    ],
)
def test_wrong_overlay_is_an_error_with_a_place(refusal: Refusal, text: str, words: str) -> None:
    error = refusal(API, (text,))
    assert words in error.message
    assert error.hint
    assert error.location is not None
    assert error.location.file.endswith("overlay0.yaml")
    assert error.location.line is not None


BOMBS = {
    "every pair of nodes": ["{target: '$..*..*..*', remove: true}"],
    "filters in filters": ["{target: '$..[?@..[?@..[?@..x]]]', remove: true}"],
    "absolute query in a filter": ["{target: '$..[?$..x]', remove: true}"],
    "nested target": ["{target: '$" + "[?@" * 1000 + "', remove: true}"],
}


@pytest.mark.parametrize("name", BOMBS)
def test_expensive_target_is_refused_quickly(refusal: Refusal, name: str) -> None:
    nodes = "".join(f"  k{i}: {{a: {{b: {{c: {{x: [1, {{x: 1}}]}}}}}}}}\n" for i in range(2_000))
    started = time.process_time()
    error = refusal(HEAD + "x-m:\n" + nodes, (overlay(*BOMBS[name]),))
    assert time.process_time() - started < 6
    assert error.location is not None
    assert error.location.file.endswith("overlay0.yaml")


def test_update_that_multiplies_the_description_is_refused(refusal: Refusal) -> None:
    nodes = "".join(f"  k{i}: {{x: 1}}\n" for i in range(2000))
    big = "{" + ", ".join(f"m{i}: 1" for i in range(1000)) + "}"
    assert (
        "more than"
        in refusal(HEAD + "x-m:\n" + nodes, (overlay(f"{{target: $.x-m.*, update: {{big: {big}}}}}"),)).message
    )


def test_query_follows_rfc_9535_examples() -> None:
    store = {"o": {"j": 1, "k": 2}, "a": [5, 3, {"j": 4}, {"k": 6}]}

    def found(target: str) -> list[tuple[str | int, ...]]:
        return list(query(target, store, QueryBudget(1000)))

    assert found("$") == [()]
    assert found("$.o[*]") == [("o", "j"), ("o", "k")]
    assert found("$..j") == [("o", "j"), ("a", 2, "j")]
    assert found("$.a[-1]") == [("a", 3)]
    assert found("$.a[::2]") == [("a", 0), ("a", 2)]
    assert found("$.a[?@ > 4]") == [("a", 0)]
    assert found("$.a[?@.j == $.a[2].j]") == [("a", 2)]
    assert found("$.a[?length(@) == 1]") == [("a", 2), ("a", 3)]
    assert found("$.a[?count(@.*) == 1 && !@.k]") == [("a", 2)]


def test_query_budget_counts_what_is_visited_without_being_selected() -> None:
    with pytest.raises(QueryError):
        list(query("$..none", [[[]] * 10] * 10, QueryBudget(50)))
