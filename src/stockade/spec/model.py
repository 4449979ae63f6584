"""What `spec` hands on: an API description, parsed once, as frozen values.

Schemas stay raw JSON (`Node.value`), because a schema is data to be compiled, not a Python object model; everything
around them is typed. A `Node` knows which document and pointer it came from, so `$ref`s inside it can be resolved and
every later error can name file, line and pointer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stockade.errors import Location

ParameterPlace = Literal["path", "query", "header", "cookie"]
Style = Literal["simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"]
Dialect = Literal["draft4", "draft2020-12"]


@dataclass(frozen=True, slots=True)
class Node:
    """A raw JSON value and where it stands: `document` is a key of `Description.documents`, `pointer` RFC 6901."""

    document: str
    pointer: str
    value: Any = field(compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class Encoding:
    """OpenAPI Encoding Object of one property of a form or multipart body."""

    content_type: str | None
    style: Style
    explode: bool
    allow_reserved: bool


@dataclass(frozen=True, slots=True)
class MediaType:
    """One entry of `content`. `schema` is None where none is given (anything of that type)."""

    media_type: str
    schema: Node | None
    encoding: Mapping[str, Encoding]
    node: Node


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, with the defaults of its place applied. Exactly one of `schema` and `content` is set, or neither."""

    name: str
    place: ParameterPlace
    required: bool
    style: Style
    explode: bool
    allow_reserved: bool
    allow_empty_value: bool
    schema: Node | None
    content: MediaType | None
    node: Node
    extensions: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestBody:
    """`content` in the order of the description."""

    required: bool
    content: tuple[MediaType, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class Header:
    """A declared response header."""

    name: str
    required: bool
    explode: bool
    schema: Node | None
    content: MediaType | None
    node: Node


@dataclass(frozen=True, slots=True)
class Response:
    """`status` is `200`, `2XX` or `default`."""

    status: str
    headers: tuple[Header, ...]
    content: tuple[MediaType, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a Security Requirement Object. `scopes` as written."""

    scheme: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecurityScheme:
    """`kind` is the description's `type`; `http_scheme` in lower case; `place`/`parameter_name` for `apiKey`."""

    name: str
    kind: Literal["apiKey", "http", "oauth2", "openIdConnect", "mutualTLS"]
    http_scheme: str | None
    place: Literal["query", "header", "cookie"] | None
    parameter_name: str | None
    scopes: Mapping[str, str]
    node: Node


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A construct that the parser understands enough to name, and that nothing can enforce. Its operation is denied."""

    construct: str
    node: Node


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `security` None: neither the operation nor the description says anything."""

    operation_id: str | None
    method: str
    path_template: str
    base_paths: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    request_body: RequestBody | None
    responses: tuple[Response, ...]
    security: tuple[tuple[Requirement, ...], ...] | None
    extensions: Mapping[str, Any]
    unsupported: tuple[Unsupported, ...]
    deprecated: bool
    tags: tuple[str, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class Description:
    """A whole description.

    `documents` maps a document key to its parsed root, overlays applied: the key of a file is its path relative to the
    folder of the description (so that it is the same wherever the folder lies), of a remote document its URL.
    """

    title: str
    version: str
    openapi: str
    dialect: Dialect
    source: str
    sha256: str
    documents: Mapping[str, Any]
    root: Node
    operations: tuple[Operation, ...]
    security_schemes: Mapping[str, SecurityScheme]
    extensions: Mapping[str, Any]
    resolve: Callable[[Node, str], Node]
    """`resolve(from_node, ref)`: the node that `$ref` names, seen from `from_node`. Raises DescriptionError."""
    locate: Callable[[Node], Location]
    """File, line and column of a node, of its nearest ancestor where it does not exist (computed on demand)."""
    warnings: tuple[tuple[str, Node], ...] = ()
    inputs: tuple[Path, ...] = ()
    """Every file that was read, overlays included; a change in any makes the description stale."""
