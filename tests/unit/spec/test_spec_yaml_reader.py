"""YAML in: the core schema, anchors, bounds, places."""

from __future__ import annotations

import math
import time

import pytest

from stockade.errors import DescriptionError
from stockade.spec.limits import LimitError
from stockade.spec.survey import TooBigError, survey
from stockade.spec.yaml_reader import Mark, read_yaml, yaml_marks


def refuse(text: str) -> DescriptionError:
    with pytest.raises(DescriptionError) as caught:
        read_yaml(text, "api.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (word, word)
            for word in ("no", "on", "Yes", "y", "off", "1_000", "2001-12-14", "12:30:45", "0b1", "=", "1.2.3")
        ],
        *[(word, word) for word in ("tRUE", "nULL", "0o8", "0xg", "1e", ".", "+.inf.", "e5", "1x", "-0x1")],
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-12", -12),
        ("+7", 7),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        (".INF", math.inf),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!int 1", 1),
        ("!!float 1", 1.0),
        ("! 1", "1"),
        ("|\n  1\n", "1\n"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}", "f")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(read_yaml("a: .nan", "f")["a"])


def test_keys_are_the_text_that_was_written() -> None:
    text = "200: a\nno: b\nnull: c\n1.0: d\n'x': e\n? y\n: f\n"
    assert read_yaml(text, "f") == {"200": "a", "no": "b", "null": "c", "1.0": "d", "x": "e", "y": "f"}


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 3", "200: a\n'200': b", "{a: 1, a: 1}", "&x a: 1\n*x : 2", "x: &x {}\ny:\n  <<: *x\n  <<: *x"],
)
def test_duplicate_key_is_refused(text: str) -> None:
    error = refuse(text)
    assert "duplicate key" in error.message
    assert error.location is not None
    assert error.location.line == text.count("\n") + 1


@pytest.mark.parametrize(
    "tag", ["!!binary aGk=", "!!timestamp 2001-01-01", "!!python/object:os.system x", "!mine x", "!!set {a}"]
)
def test_foreign_tags_are_refused(tag: str) -> None:
    assert "tag" in refuse(f"a: {tag}").message


@pytest.mark.parametrize("text", ["? " * 100_000, "[a]: 1", "{a: 1}: 2", "? [x]\n: 1", "- &a [1]\n- {*a : 1}"])
def test_keys_that_are_no_text_are_refused(text: str) -> None:
    assert "key" in refuse(text).message


def test_aliases_share_what_the_anchor_holds() -> None:
    value = read_yaml("a: &x {b: [1]}\nc: *x\nd: &s text\n*s : 1\ne: *s", "f")
    assert value == {"a": {"b": [1]}, "c": {"b": [1]}, "d": "text", "text": 1, "e": "text"}
    assert value["a"] is value["c"]


def test_merge_keys_yield_to_own_keys_and_to_earlier_sources() -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\nw:\n  <<: *x\n  '<<': quoted\n"
    value = read_yaml(text, "f")
    assert value["z"] == {"c": 3, "a": 1, "b": 1}
    assert value["w"] == {"<<": "quoted", "a": 1, "b": 1}


def test_merge_of_something_else_is_refused() -> None:
    assert "`<<`" in refuse("a: {<<: 1}").message


def test_quoted_merge_key_is_a_plain_key() -> None:
    assert read_yaml("'<<': 1", "f") == {"<<": 1}


def test_recursive_alias_is_refused() -> None:
    assert "inside its own anchor" in refuse("a: &x\n  b: *x").message


def test_unknown_alias_is_refused() -> None:
    assert "without an anchor" in refuse("a: *x").message


def test_second_document_is_refused() -> None:
    error = refuse("a: 1\n---\nb: 2")
    assert "second YAML document" in error.message
    assert error.location is not None
    assert error.location.line == 2


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n...\n"])
def test_empty_file_holds_nothing(text: str) -> None:
    if "---" in text:
        assert read_yaml(text, "f") is None
    else:
        assert "empty" in refuse(text).message


def test_tab_is_named_as_such() -> None:
    error = refuse("a:\n\tb: 1")
    assert "tab" in error.message
    assert error.location is not None
    assert error.location.line == 2
    assert "spaces" in (error.hint or "")


@pytest.mark.parametrize(
    "text", ["a: b: c", "[1, 2", "'open", "a: @x", "\x01", "a: \x7f\x08", "%x\n---\n", "- a\nb: 1", "a: %x"]
)
def test_broken_yaml_is_an_error_with_a_place(text: str) -> None:
    error = refuse(text)
    assert error.location is not None
    assert error.location.line is not None
    assert error.hint


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 10) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, levels)]
    return "\n".join(lines)


def wide_merges() -> str:
    base = "b: &b {" + ", ".join(f"k{i}: 1" for i in range(2000)) + "}\n"
    return base + "\n".join(f"m{i}: {{<<: *b}}" for i in range(2000))


BOMBS = {
    "nested lists": "[" * 100_000,
    "nested mappings": "{a: " * 100_000,
    "nested blocks": "\n".join(" " * i + "a:" for i in range(400)),
    "nested dashes": "- " * 100_000,
    "aliases of aliases": laughs(30),
    "aliased depth": "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 300)]),
    "merged mappings": wide_merges(),
    "huge anchor": "a: &" + "x" * 5_000_000 + " 1",
    "huge number": "a: " + "1" * 1_000_000,
    "huge hexadecimal number": "a: 0x" + "f" * 1_000_000,
    "aliased text": "a: &a " + "x" * 5_000_000 + "\nb: [" + "*a, " * 1000 + "]",
    "many values": "[" + "a," * 3_000_000 + "]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_quickly(name: str) -> None:
    started = time.process_time()
    with pytest.raises(LimitError) as caught:
        read_yaml(BOMBS[name], "f")
    assert time.process_time() - started < 3
    assert caught.value.location is not None
    assert caught.value.location.line is not None


def test_survey_counts_aliases_as_often_as_they_are_used() -> None:
    shared: list[object] = ["x"] * 1000
    for _ in range(3):
        shared = [shared] * 100
    with pytest.raises(TooBigError):
        survey(shared)


def test_marks_lead_to_keys_elements_and_through_aliases() -> None:
    text = "a: &x\n  b: 1\nc:\n  - 2\n  - d: *x\ne:\n  <<: *x\n"
    marks = yaml_marks(text, "f")

    def at(*tokens: str) -> tuple[int, int]:
        mark: Mark = marks
        for token in tokens:
            mark = mark.children[token]
        return mark.line, mark.column

    assert at("a") == (1, 1)
    assert at("a", "b") == (2, 3)
    assert at("c", "1") == (5, 5)
    assert at("c", "1", "d") == (5, 5)
    assert at("c", "1", "d", "b") == (2, 3)
    assert at("e", "b") == (2, 3)
