"""JSON pointers (RFC 6901)."""

from __future__ import annotations

import re
from typing import Any

from stockade.spec.model import Node

_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,9})\Z")


def escape(token: str) -> str:
    """RFC 6901 §3: `~` is written `~0` and `/` is written `~1`."""
    if "~" in token or "/" in token:
        return token.replace("~", "~0").replace("/", "~1")
    return token


def split(pointer: str) -> list[str]:
    """The reference tokens of a pointer that is empty or begins with `/`. Raises ValueError for a stray `~` (§3)."""
    if not pointer:
        return []
    tokens = pointer.split("/")[1:]
    return [_unescape(token) if "~" in token else token for token in tokens]


def _unescape(token: str) -> str:
    plain = token.replace("~1", "\0").replace("~0", "\1")
    if "~" in plain:
        raise ValueError(token)
    return plain.replace("\0", "/").replace("\1", "~")


def step(value: Any, token: str) -> Any:
    """The member or element that one token names (§4). Raises KeyError where there is none; `-` never exists."""
    if isinstance(value, dict):
        return value[token]
    if isinstance(value, list) and _INDEX.match(token) and int(token) < len(value):
        return value[int(token)]
    raise KeyError(token)


def child(node: Node, key: str | int) -> Node:
    """The node of a member or element that exists."""
    token = escape(key) if isinstance(key, str) else str(key)
    return Node(node.document, f"{node.pointer}/{token}", node.value[key])
