"""JSON text in, plain values out (RFC 8259), and the place of any of them when somebody asks.

Parsing keeps no positions, so that a description of 12 MB takes a tenth of a second. Positions are found afterwards by
walking down from the root and skipping siblings with the C scanner; each container is walked once.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from json.scanner import make_scanner
from typing import TYPE_CHECKING, Any, NoReturn

from stockade.errors import DescriptionError
from stockade.spec.limits import MAX_DEPTH, MAX_NUMBER_CHARS, LimitError
from stockade.spec.text import place

if TYPE_CHECKING:
    from collections.abc import Callable

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE_END = re.compile("\n")
_BREAKERS = frozenset("[{")


def read_json(text: str, file: str) -> Any:
    """The value that `text` spells. Raises DescriptionError: syntax, duplicate keys, numbers that JSON cannot carry."""
    reading = _Reading(text, file)
    decoder = json.JSONDecoder(
        object_pairs_hook=reading.members,
        parse_int=reading.integer,
        parse_float=reading.number,
        parse_constant=reading.constant,
    )
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        message = error.msg[:1].lower() + error.msg[1:]
        where = place(text, error.pos, file)
        raise DescriptionError(f"not valid JSON: {message}", location=where, hint="correct the syntax here") from None
    except RecursionError:
        raise too_deep(text, file) from None
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value, text, file)
    return value


def too_deep(text: str, file: str) -> LimitError:
    """The error for JSON nested deeper than the limit, with the place of the first bracket that is."""
    depth = 0
    where = place(text, 0, file)
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        if first == '"':
            continue
        depth += 1 if first in _BREAKERS else -1
        if depth > MAX_DEPTH:
            where = place(text, token.start(), file)
            break
    return LimitError(f"nested deeper than {MAX_DEPTH} levels", location=where, hint="flatten it with `$ref`")


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    """A function from an offset to the value there and the offset after it."""
    context: Any = json.JSONDecoder()
    return make_scanner(context)


class JsonPositions:
    """Where the members and elements of one JSON text stand. The text must be valid."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._scan = _scanner()
        self._known: dict[int, dict[str, tuple[int, int]]] = {}
        self._line_starts: list[int] = []

    def line_and_column(self, tokens: list[str]) -> tuple[int, int]:
        """The place of `offset(tokens)`, both from 1."""
        if not self._line_starts:
            self._line_starts = [0, *(match.end() for match in _LINE_END.finditer(self._text))]
        offset = self.offset(tokens)
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def offset(self, tokens: list[str]) -> int:
        """The offset of the last token's key or element; of the nearest ancestor where it does not exist."""
        value = self._skip_space(0)
        name = value
        for token in tokens:
            members = self._members(value)
            if token not in members:
                break
            name, value = members[token]
        return name

    def _members(self, start: int) -> dict[str, tuple[int, int]]:
        """By key or index: the offset to show, and the offset of the value."""
        if start not in self._known:
            self._known[start] = self._elements(start) if self._text[start] == "[" else self._pairs(start)
        return self._known[start]

    def _elements(self, start: int) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        at = self._skip_space(start + 1)
        while self._text[at] != "]":
            found[str(len(found))] = (at, at)
            at = self._after_comma(self._scan(self._text, at)[1])
        return found

    def _pairs(self, start: int) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        if self._text[start] != "{":
            return found
        at = self._skip_space(start + 1)
        while self._text[at] != "}":
            key, end = self._scan(self._text, at)
            value = self._skip_space(self._skip_space(end) + 1)
            found[key] = (at, value)
            at = self._after_comma(self._scan(self._text, value)[1])
        return found

    def _after_comma(self, end: int) -> int:
        at = self._skip_space(end)
        return self._skip_space(at + 1) if self._text[at] == "," else at

    def _skip_space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at


class _Reading:
    """The decoder's hooks. They run inside the C scanner, so each is as short as it can be."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._closed = 0

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            self._refuse_duplicate(pairs)
        self._closed += 1
        return members

    def integer(self, digits: str) -> int:
        if len(digits) > MAX_NUMBER_CHARS:
            self._refuse_number(digits)
        return int(digits)

    def number(self, digits: str) -> float:
        value = float(digits)
        if len(digits) > MAX_NUMBER_CHARS or value in (float("inf"), float("-inf")):
            self._refuse_number(digits)
        return value

    def constant(self, name: str) -> NoReturn:
        where = place(self._text, self._text.find(name), self._file)
        raise DescriptionError(f"not valid JSON: `{name}`", location=where, hint="write a number or `null`")

    def _refuse_number(self, digits: str) -> NoReturn:
        where = place(self._text, self._text.find(digits), self._file)
        raise LimitError("number too long or too large", location=where, hint="write it as a string")

    def _refuse_duplicate(self, pairs: list[tuple[str, Any]]) -> NoReturn:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                break
            seen.add(key)
        where = place(self._text, self._second(key), self._file)
        raise DescriptionError(f"duplicate key `{key[:80]}`", location=where, hint="keep one of the two")

    def _second(self, key: str) -> int:
        """The offset of the second `key` in the object that would have been the next to close."""
        start = _start_of_closed_object(self._text, self._closed)
        scan = _scanner()
        positions = JsonPositions(self._text)
        at, times = positions._skip_space(start + 1), 0  # noqa: SLF001  (same module)
        while self._text[at] != "}":
            name, end = scan(self._text, at)
            times += name == key
            if times == 2:  # noqa: PLR2004
                return at
            value = positions._skip_space(positions._skip_space(end) + 1)  # noqa: SLF001
            at = positions._after_comma(scan(self._text, value)[1])  # noqa: SLF001
        return start


def _start_of_closed_object(text: str, number: int) -> int:
    """Where the object begins that is the `number`-th (from 0) to close; the decoder's hook is called in that order."""
    starts: list[int] = []
    closed = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        if first == "{":
            starts.append(token.start())
        elif first == "}":
            start = starts.pop()
            if closed == number:
                return start
            closed += 1
    return 0


def _refuse_lone_surrogates(value: Any, text: str, file: str) -> None:
    """A half of a surrogate pair has no UTF-8 form, so nothing that is compiled from it could be written."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        match = _SURROGATE.search(text)
        where = place(text, match.start() if match else 0, file)
        raise DescriptionError(
            "a string holds half of a surrogate pair", location=where, hint="write the character itself"
        ) from None
    except RecursionError:
        raise too_deep(text, file) from None
