"""JSON in: what is refused, and where errors and nodes are placed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from stockade.errors import DescriptionError
from stockade.spec.json_reader import JsonPositions, read_json
from stockade.spec.text import decode, place


def refuse(text: str) -> DescriptionError:
    with pytest.raises(DescriptionError) as caught:
        read_json(text, "api.json")
    return caught.value


def test_json_means_what_the_standard_library_says() -> None:
    text = '{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {"": {}}}'
    assert read_json(text, "f") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{"a": 1,\n "a": 2}', 2, 2),
        ('{"x": {"a": 1, "b": "}", "a": 2}, "a": 3}', 1, 26),
        ('{"a": {"a": {}}, "b": [{"c": 1, "d": "{\\"", "c": 2}]}', 1, 45),
    ],
)
def test_duplicate_key_is_refused_at_its_second_place(text: str, line: int, column: int) -> None:
    error = refuse(text)
    assert "duplicate key" in error.message
    assert error.location is not None
    assert (error.location.line, error.location.column) == (line, column)


def test_duplicate_key_spelled_with_an_escape_is_refused() -> None:
    assert "duplicate key `a`" in refuse('{"a": 1, "\\u0061": 2}').message


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[-Infinity]", "[1e999]", "[" + "1" * 5000 + "]"])
def test_numbers_without_a_json_value_are_refused(text: str) -> None:
    assert refuse(text).hint is not None


def test_half_a_surrogate_pair_is_refused() -> None:
    error = refuse('{\n"a": "\\ud83d"}')
    assert "surrogate" in error.message
    assert error.location is not None
    assert error.location.line == 2


@pytest.mark.parametrize("text", ["", "{", '{"a"', "[1,]", "tru", '{"a": 1} x', '{"a": "\n"}', "{'a': 1}"])
def test_broken_json_is_an_error_with_a_place(text: str) -> None:
    error = refuse(text)
    assert error.message.startswith("not valid JSON: ")
    assert error.location is not None
    assert error.location.line is not None


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_bomb_is_refused_quickly_at_its_place(opening: str) -> None:
    started = time.process_time()
    error = refuse('{"x": "[[[[",\n' + '"y": ' + opening * 500_000)
    assert time.process_time() - started < 2
    assert "nested deeper than 200" in error.message
    assert error.location is not None
    assert error.location.line == 2


def test_every_node_has_its_place() -> None:
    value = {"a/b": {"~": [1, {"é": None}, "}{"]}, "": [], "n": {"x": {"y": True}}}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    positions = JsonPositions(text)

    def check(node: Any, tokens: list[str]) -> None:
        members = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in members:
            offset = positions.offset([*tokens, str(key)])
            wanted = json.dumps(key if isinstance(node, dict) else child, ensure_ascii=False)[:1]
            assert text[offset : offset + len(wanted)] == wanted
            if isinstance(node, dict):
                assert text[offset:].startswith(json.dumps(key, ensure_ascii=False) + ":")
            check(child, [*tokens, str(key)])

    check(value, [])
    assert place(text, positions.offset(["n", "x"]), "f").line == text[: text.index('"x"')].count("\n") + 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"a: \xff", "not valid UTF-8"),
        (b"a: \xed\xa0\x80", "not valid UTF-8"),
        (b"a:\n b\0", "NUL"),
    ],
)
def test_what_is_not_plain_utf8_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        decode(content, "f")
    assert words in caught.value.message
    assert caught.value.hint is not None


def test_place_of_a_wrong_byte_counts_characters() -> None:
    with pytest.raises(DescriptionError) as caught:
        decode("é: 1\nüü: ".encode() + b"\xff", "f")
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (2, 5)
