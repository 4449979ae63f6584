"""YAML text in, plain values out, read by the core schema of YAML 1.2 (§10.3): `no`, `on`, `1_000` and dates are text.

libyaml delivers events; the tree is built here, without recursion, so that depth, aliases and size are bounded while
reading. An alias shares the value of its anchor, and counts as often as it is used. Mapping keys are the text that was
written (`200:` is the key `200`), since JSON has no other keys. `<<` merges, as every tool around OpenAPI has it,
although it left the core schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from stockade.errors import DescriptionError, Location
from stockade.spec.limits import (
    MAX_ANCHOR_CHARS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_NUMBER_CHARS,
    TEXT_PER_NODE,
    LimitError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_NUMBER = re.compile(_INTEGER.pattern + r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"([-+]?)\.(?:inf|Inf|INF)\Z")
_NANS = frozenset([".nan", ".NaN", ".NAN"])
_NUMBER_STARTS = frozenset("+-.0123456789")
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {"null": type(None), "bool": bool, "int": int, "float": float}
_SYNTAX_HINTS = {
    "\\t": "YAML is indented with spaces; replace the tab",
    "mapping values": "quote a value that holds `: `",
    "%": "quote a value that begins with `%`",
    "@": "quote a value that begins with `@`",
    "`": "quote a value that begins with a backtick",
}


_NO_CHILDREN: Mapping[str, Mark] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node stands (line and column from 1): a member at its key, an element at its value."""

    line: int
    column: int
    children: Mapping[str, Mark] = field(default_factory=lambda: _NO_CHILDREN)


def read_yaml(text: str, file: str) -> Any:
    """The value that `text` spells. Raises DescriptionError: syntax, duplicate keys, foreign tags, any bound."""
    return _Tree(text, file, with_marks=False).build()[0]


def yaml_marks(text: str, file: str) -> Mark:
    """The places of all nodes of a text that `read_yaml` accepts."""
    mark = _Tree(text, file, with_marks=True).build()[1]
    return mark if mark is not None else Mark(1, 1)


@dataclass(slots=True)
class _Built:
    """A finished node: `size` counts its values with aliases expanded, `height` its levels."""

    value: Any
    mark: Mark | None
    size: int
    height: int
    text: str | None = None
    """What a scalar was written as: the key that it would be."""


class _Frame:
    """A collection whose end has not been read. `wants_key`: a mapping whose next node is a key."""

    __slots__ = (
        "anchor",
        "container",
        "height",
        "key",
        "key_place",
        "marks",
        "merge_next",
        "merged",
        "place",
        "size",
        "wants_key",
    )

    def __init__(self, container: Any, anchor: str | None, place: tuple[int, int] | None) -> None:
        self.container = container
        self.anchor = anchor
        self.place = place
        self.marks: dict[str, Mark] = {}
        self.size = 1
        self.height = 1
        self.wants_key = type(container) is dict
        self.key = ""
        self.key_place = (1, 1)
        self.merge_next = False
        self.merged: _Built | None = None


class _Tree:
    def __init__(self, text: str, file: str, *, with_marks: bool) -> None:
        self._text = text
        self._file = file
        self._with_marks = with_marks
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Built | None] = {}
        self._root: _Built | None = None
        self._total = 0
        self._documents = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open_mapping,
            yaml.SequenceStartEvent: self._open_sequence,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }

    def build(self) -> tuple[Any, Mark | None]:
        try:
            self._run()
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except yaml.YAMLError as error:
            self._raise_unreadable(error)
        if self._root is None:
            where = Location(self._file, 1, 1)
            raise DescriptionError("the file is empty", location=where, hint="name the file that holds the description")
        return self._root.value, self._root.mark

    def _run(self) -> None:
        loader = yaml.CSafeLoader(self._text)
        try:
            while (event := loader.get_event()) is not None:
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(event)
        finally:
            loader.dispose()

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse("a second YAML document", event, "keep one document in a file")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text, anchor = event.value, event.anchor
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.wants_key and anchor is None:
            self._key(frame, text, event)
            return
        value = text if event.style and event.tag is None else self._resolve(text, event)
        built = _Built(value, self._mark(event), 1 + len(text) // TEXT_PER_NODE, 0, text)
        if anchor is not None:
            self._check_anchor(anchor, event)
            self._anchors[anchor] = built
        self._attach(built, event)

    def _resolve(self, text: str, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag is None:
            return self._plain(text, event)
        if tag in ("!", _TAG + "str"):
            return text
        wanted = _SCALAR_TAGS.get(tag.removeprefix(_TAG))
        if wanted is None or not tag.startswith(_TAG):
            self._refuse(f"the tag `{tag[:MAX_ANCHOR_CHARS]}`", event, "a description holds plain JSON values only")
        value = self._plain(text, event)
        if wanted is float and type(value) is int:
            return float(value)
        if type(value) is not wanted:
            self._refuse(f"a value that is no {tag.removeprefix(_TAG)}", event, "correct the value or drop the tag")
        return value

    def _plain(self, text: str, event: yaml.ScalarEvent) -> Any:
        """YAML 1.2.2 §10.3.2, tag resolution of the core schema."""
        if text in _WORDS:
            return _WORDS[text]
        return self._number(text, event) if text[0] in _NUMBER_STARTS else text

    def _number(self, text: str, event: yaml.ScalarEvent) -> Any:
        if not _NUMBER.match(text):
            return self._special(text)
        if len(text) > MAX_NUMBER_CHARS:
            self._limit("number too long", event, "write it as a string")
        if _INTEGER.match(text):
            # `0o17` and `0x1f` spell their base; `017` is decimal.
            return int(text, 0 if text[1:2] in ("o", "x") else 10)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self._limit("number too large", event, "write it as a string")
        return value

    def _special(self, text: str) -> Any:
        if text in _NANS:
            return float("nan")
        match = _SPECIAL.match(text)
        return float(match.group(1) + "inf") if match else text

    def _open_mapping(self, event: yaml.MappingStartEvent) -> None:
        self._open(event, {}, "map")

    def _open_sequence(self, event: yaml.SequenceStartEvent) -> None:
        self._open(event, [], "seq")

    def _open(self, event: yaml.CollectionStartEvent, container: Any, tag: str) -> None:
        if event.tag is not None and event.tag not in ("!", _TAG + tag):
            self._refuse(
                f"the tag `{event.tag[:MAX_ANCHOR_CHARS]}`", event, "a description holds plain JSON values only"
            )
        if self._frames and self._frames[-1].wants_key:
            self._refuse("a mapping key that is not text", event, "use text as the key")
        if len(self._frames) >= MAX_DEPTH:
            self._limit(f"nested deeper than {MAX_DEPTH} levels", event, "flatten it with `$ref`")
        if event.anchor is not None:
            self._check_anchor(event.anchor, event)
            self._anchors[event.anchor] = None
        self._frames.append(_Frame(container, event.anchor, _place(event) if self._with_marks else None))

    def _close(self, event: yaml.Event) -> None:
        frame = self._frames.pop()
        if frame.merged is not None:
            self._merge(frame, frame.merged)
        mark = Mark(*frame.place, frame.marks) if frame.place is not None else None
        built = _Built(frame.container, mark, frame.size, frame.height)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = built
        self._attach(built, event, counted=frame.size - 1)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        if name not in self._anchors:
            self._refuse(
                f"the alias `*{name[:MAX_ANCHOR_CHARS]}` without an anchor", event, "define the anchor before it"
            )
        built = self._anchors[name]
        if built is None:
            self._refuse(f"the alias `*{name}` inside its own anchor", event, "use `$ref` for recursion")
        if len(self._frames) + built.height > MAX_DEPTH:
            self._limit(f"nested deeper than {MAX_DEPTH} levels", event, "flatten it with `$ref`")
        if self._frames and self._frames[-1].wants_key:
            if built.text is None:
                self._refuse("a mapping key that is not text", event, "use text as the key")
            self._key(self._frames[-1], built.text, event)
            return
        mark = self._mark(event)
        if mark is not None and built.mark is not None:
            mark = Mark(mark.line, mark.column, built.mark.children)
        self._attach(_Built(built.value, mark, built.size, built.height, built.text), event)

    def _key(self, frame: _Frame, text: str, event: yaml.Event) -> None:
        frame.wants_key = False
        is_merge = text == "<<" and type(event) is yaml.ScalarEvent and not event.style
        if is_merge and frame.merged is None:
            frame.merge_next = True
            return
        if is_merge or text in frame.container:
            self._refuse(f"duplicate key `{text[:MAX_ANCHOR_CHARS]}`", event, "keep one of the two")
        frame.key = text
        # Claims the key's place in the order, and is overwritten by the value.
        frame.container[text] = None
        if self._with_marks:
            frame.key_place = _place(event)

    def _attach(self, built: _Built, event: yaml.Event, *, counted: int = 0) -> None:
        """Put a node where it belongs. `counted` of its values are in the total already."""
        self._total += built.size - counted
        if self._total > MAX_NODES:
            self._limit(f"more than {MAX_NODES} values, aliases expanded", event, "split the description into files")
        if not self._frames:
            self._root = built
            return
        frame = self._frames[-1]
        frame.size += built.size
        if built.height >= frame.height:
            frame.height = built.height + 1
        if frame.wants_key:
            # An anchored scalar; collections and aliases that are no text were refused before.
            self._key(frame, built.text or "", event)
        elif type(frame.container) is list:
            if built.mark is not None:
                frame.marks[str(len(frame.container))] = built.mark
            frame.container.append(built.value)
        elif frame.merge_next:
            self._check_merge(built, event)
            frame.merged = built
            frame.merge_next, frame.wants_key = False, True
        else:
            frame.container[frame.key] = built.value
            if built.mark is not None:
                frame.marks[frame.key] = Mark(*frame.key_place, built.mark.children)
            frame.wants_key = True

    def _check_merge(self, built: _Built, event: yaml.Event) -> None:
        sources = built.value if type(built.value) is list else [built.value]
        if not all(type(source) is dict for source in sources):
            self._refuse("`<<` with a value that is no mapping", event, "merge an alias to a mapping, or quote the key")

    def _merge(self, frame: _Frame, merged: _Built) -> None:
        """The mapping's own keys win, then the earlier source (YAML 1.1 merge key type)."""
        is_list = type(merged.value) is list
        for index, source in enumerate(merged.value if is_list else [merged.value]):
            for key, value in source.items():
                frame.container.setdefault(key, value)
            if merged.mark is not None:
                mark = merged.mark.children[str(index)] if is_list else merged.mark
                for key, child in mark.children.items():
                    frame.marks.setdefault(key, child)

    def _check_anchor(self, anchor: str, event: yaml.Event) -> None:
        if len(anchor) > MAX_ANCHOR_CHARS:
            self._limit(f"an anchor longer than {MAX_ANCHOR_CHARS} characters", event, "give it a shorter name")

    def _mark(self, event: yaml.Event) -> Mark | None:
        return Mark(*_place(event)) if self._with_marks else None

    def _refuse(self, message: str, event: yaml.Event, hint: str) -> NoReturn:
        raise DescriptionError(message, location=self._location(event), hint=hint)

    def _limit(self, message: str, event: yaml.Event, hint: str) -> NoReturn:
        raise LimitError(message, location=self._location(event), hint=hint)

    def _location(self, event: yaml.Event) -> Location:
        return Location(self._file, *_place(event))

    def _syntax(self, error: yaml.MarkedYAMLError) -> DescriptionError:
        mark = error.problem_mark or error.context_mark
        where = Location(self._file, mark.line + 1, mark.column + 1) if mark else Location(self._file, 1, 1)
        problem = error.problem or "syntax error"
        if "nesting depth" in problem:
            # libyaml's own bound, met first because its scanner reads ahead.
            hint = "flatten it with `$ref`"
            return LimitError(f"nested deeper than {MAX_DEPTH} levels", location=where, hint=hint)
        if self._text.startswith("\t") or self._tab_at(where):
            problem, hint = "a tab where YAML wants spaces", _SYNTAX_HINTS["\\t"]
        else:
            hint = next((h for sign, h in _SYNTAX_HINTS.items() if sign in problem), "correct the syntax here")
        return DescriptionError(f"not valid YAML: {problem}", location=where, hint=hint)

    def _tab_at(self, where: Location) -> bool:
        lines = self._text.split("\n", where.line or 1)
        line = lines[(where.line or 1) - 1] if len(lines) >= (where.line or 1) else ""
        return "\t" in line[: len(line) - len(line.lstrip())]

    def _raise_unreadable(self, error: yaml.YAMLError) -> NoReturn:
        position = getattr(error, "position", None)
        reason = getattr(error, "reason", None) or "unreadable"
        before = self._text[:position] if isinstance(position, int) else ""
        where = Location(self._file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        hint = "remove the character"
        raise DescriptionError(f"not valid YAML: {reason}", location=where, hint=hint) from None


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
