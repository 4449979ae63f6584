"""Where `$ref`s lead, with chains followed to the schema that says something."""

from __future__ import annotations

from typing import Any, NamedTuple

from stockade.compiler.errors import UnsupportedError
from stockade.errors import DescriptionError
from stockade.spec.model import Description, Node

_MAX_HOPS = 64
# Keywords that change nothing about what is valid: a `$ref` among them is a plain reference.
ANNOTATIONS = frozenset([
    "$comment", "$defs", "$id", "$anchor", "$schema", "title", "description", "summary", "default", "deprecated",
    "example", "examples", "externalDocs", "xml", "readOnly", "writeOnly", "discriminator", "x-stockade",
])  # fmt: skip


class Place(NamedTuple):
    """A schema and where it stands. `document` and `pointer` identify it."""

    document: str
    pointer: str
    value: Any

    def child(self, *tokens: str | int) -> Place:
        """The value below; it must exist."""
        value = self.value
        pointer = self.pointer
        for token in tokens:
            value = value[token]
            pointer = f"{pointer}/{escape(str(token))}"
        return Place(self.document, pointer, value)


def escape(token: str) -> str:
    """RFC 6901 §3."""
    return token.replace("~", "~0").replace("/", "~1") if "~" in token or "/" in token else token


class References:
    """Resolution of one description's references, remembered."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self.is_draft4 = description.dialect == "draft4"
        self._known: dict[tuple[str, str], Place] = {}
        self._anchors: dict[str, int] | None = None

    def reference(self, value: Any) -> str | None:
        """The `$ref` (or resolvable `$dynamicRef`) of a schema, if it has one."""
        reference = value.get("$ref") if isinstance(value, dict) else None
        return reference if isinstance(reference, str) else None

    def is_alias(self, value: Any) -> bool:
        """Whether a schema is a `$ref` and nothing else. OpenAPI 3.0 ignores what stands beside `$ref`."""
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            return False
        return (
            self.is_draft4
            or len(value) == 1
            or all(key == "$ref" or key in ANNOTATIONS or key.startswith("x-") for key in value)
        )

    def target(self, place: Place, reference: str) -> Place:
        """The schema that `reference` at `place` names, through aliases. Raises UnsupportedError."""
        key = (place.document, reference)
        # Without `$id` (OpenAPI 3.0 knows none) a reference means the same everywhere in its document.
        if self.is_draft4 and key in self._known:
            return self._known[key]
        found = self.follow(self._resolve(place, reference))
        self._known[key] = found
        return found

    def follow(self, place: Place) -> Place:
        """The schema at the end of a chain of aliases. Raises UnsupportedError where it has no end."""
        for _ in range(_MAX_HOPS):
            if not self.is_alias(place.value):
                return place
            place = self._resolve(place, place.value["$ref"])
        raise UnsupportedError("a `$ref` that leads to itself", place.pointer)

    def dynamic_target(self, place: Place, reference: str) -> Place:
        """`$dynamicRef` with one possible target (JSON Schema core §8.2.3.2). Raises UnsupportedError."""
        _, _, fragment = reference.partition("#")
        if fragment and not fragment.startswith("/"):
            if self._anchors is None:
                self._anchors = _dynamic_anchors(self._description)
            if self._anchors.get(fragment, 0) > 1:
                raise UnsupportedError(f"`$dynamicRef` to `{fragment}`, which has several targets", place.pointer)
        return self.follow(self._resolve(place, reference))

    def _resolve(self, place: Place, reference: str) -> Place:
        try:
            node = self._description.resolve(Node(place.document, place.pointer, place.value), reference)
        except DescriptionError as error:
            raise UnsupportedError(error.message, f"{place.pointer}/$ref") from None
        return Place(node.document, node.pointer, node.value)


def _dynamic_anchors(description: Description) -> dict[str, int]:
    counts: dict[str, int] = {}
    waiting = list(description.documents.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            anchor = value.get("$dynamicAnchor")
            if isinstance(anchor, str):
                counts[anchor] = counts.get(anchor, 0) + 1
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return counts
