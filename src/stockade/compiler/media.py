"""Media types: what kind of body each is, and whether its schema can be held at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from stockade.compiler.decode import Decoder
from stockade.compiler.references import Place, References

Kind = Literal["json", "form", "multipart", "text", "binary"]

_MEDIA_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]+|\*)/([a-z0-9!#$&^_.+-]+|\*)\Z")
_BINARY_TYPES = ("image/", "audio/", "video/", "font/", "model/", "application/octet-stream", "application/zip")
_BINARY_FORMATS = ("binary", "byte", "base64")
_STREAMED = ("text/event-stream",)
_UNCONSTRAINED = frozenset(["type", "description", "title", "default", "example", "examples", "format", "nullable"])


@dataclass(frozen=True, slots=True)
class Essence:
    """A media type without parameters, in lower case."""

    text: str

    @property
    def specificity(self) -> int:
        """`a/b` before `a/*` before `*/*`."""
        return self.text.count("*")


def essence(media_type: str) -> Essence | None:
    """`application/json; charset=utf-8` → `application/json`; None where it is no media type."""
    text = media_type.partition(";")[0].strip().lower()
    match = _MEDIA_TYPE.match(text)
    if match is None or (match.group(1) == "*" and match.group(2) != "*"):
        return None
    return Essence(text)


def kind_of(  # noqa: PLR0911 (a table)
    media_type: str, schema: Place | None, references: References, decoder: Decoder
) -> Kind | None:
    """The kind of a body; None when it has a schema that nothing here can check. Raises UnsupportedError."""
    if media_type == "application/json" or media_type.endswith("+json"):
        return "json"
    if media_type == "application/x-www-form-urlencoded":
        return "form"
    if media_type == "multipart/form-data":
        return "multipart"
    target = references.follow(schema) if schema is not None else None
    if target is None or target.value is True or target.value == {}:
        return "text" if media_type.startswith("text/") and media_type not in _STREAMED else "binary"
    if not isinstance(target.value, dict):
        return None
    if "string" not in decoder.types(target):
        # Generators write `*/*` for what is JSON; read so, whatever is not JSON is refused.
        return "json" if media_type in ("*/*", "application/*") else None
    return _text_kind(media_type, target)


def _text_kind(media_type: str, target: Place) -> Kind:
    value = target.value
    if value.get("format") in _BINARY_FORMATS or "contentEncoding" in value or "contentMediaType" in value:
        return "binary"
    if media_type.startswith(_BINARY_TYPES) or "*" in media_type:
        return "binary" if _is_unconstrained(value) else "text"
    if media_type in _STREAMED and _is_unconstrained(value):
        return "binary"
    return "text"


def _is_unconstrained(value: dict[str, object]) -> bool:
    return all(keyword in _UNCONSTRAINED or keyword.startswith("x-") for keyword in value)
