"""YAML in, plain values and their positions out: the one place where `stockade.yaml` is read.

Scalars follow the YAML 1.2 core schema, so that `off`, `no` and dates stay text. Aliases, tags and duplicate keys
are refused: a policy says each thing once, and an alias bomb cannot be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from stockade.errors import Location, PolicyError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

Steps = tuple[str | int, ...]
Mark = tuple[int, int]

_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value")
)
_INT = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z")
_CONSTANTS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """A file's value, and for each path in it where the value and (in mappings) its key stand; marks count from 1."""

    file: str
    value: Any
    values: dict[Steps, Mark] = field(repr=False)
    keys: dict[Steps, Mark] = field(repr=False)

    def locate(self, path: Steps, *, key: bool = False) -> Location:
        """The place of `path`, or of its nearest parent that the file holds."""
        marks = (self.keys, self.values) if key else (self.values, self.keys)
        for end in range(len(path), -1, -1):
            for table in marks:
                if (mark := table.get(path[:end])) is not None:
                    return Location(self.file, *mark)
        return Location(self.file)


def read_tree(text: str, file: str) -> Tree:
    """Parse YAML (or JSON) text. Raises PolicyError with line and column."""
    if len(text) > MAX_BYTES:
        raise PolicyError(f"the file is larger than {MAX_BYTES} bytes", location=Location(file))
    _refuse_aliases(text, file)
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        raise PolicyError(f"not valid YAML: {error.problem}", location=_location(error, file)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PolicyError(f"not valid YAML: {error}", location=Location(file)) from None
    tree = Tree(file, None, {}, {})
    value = _build(node, (), tree) if node is not None else None
    return Tree(file, value, tree.values, tree.keys)


def _refuse_aliases(text: str, file: str) -> None:
    """Events come before composition, so that neither depth nor aliases cost anything."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent):
                place = Location(file, *_mark(event))
                raise PolicyError("aliases are not supported here", location=place, hint="write the value out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    place = Location(file, *_mark(event))
                    raise PolicyError(f"nested deeper than {MAX_DEPTH} levels", location=place)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.MarkedYAMLError as error:
        raise PolicyError(f"not valid YAML: {error.problem}", location=_location(error, file)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyError(f"not valid YAML: {error}", location=Location(file)) from None


def _location(error: yaml.MarkedYAMLError, file: str) -> Location:
    mark = error.problem_mark
    return Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)


def _mark(node: yaml.Node | yaml.Event) -> Mark:
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _build(node: yaml.Node, path: Steps, tree: Tree) -> Any:
    tree.values[path] = _mark(node)
    if node.tag not in _TAGS:
        raise PolicyError(f"tag `{node.tag}` is not supported", location=Location(tree.file, *_mark(node)))
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, tree)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), tree) for index, item in enumerate(node.value)]
    return _scalar(node)


def _build_mapping(node: yaml.MappingNode, path: Steps, tree: Tree) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = Location(tree.file, *_mark(key_node))
        if not isinstance(key_node, yaml.ScalarNode):
            raise PolicyError("a key must be text", location=place)
        key = str(key_node.value)
        if key in mapping:
            raise PolicyError(f"`{key}` is given twice", location=place, hint="keep one of the two")
        tree.keys[*path, key] = _mark(key_node)
        mapping[key] = _build(value_node, (*path, key), tree)
    return mapping


def _scalar(node: yaml.Node) -> Any:
    text = node.value
    if getattr(node, "style", None):  # quoted or block: text, whatever it looks like
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
