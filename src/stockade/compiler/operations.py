"""One operation of the description → one operation of the bundle, or the reason why it is denied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from stockade.compiler.coverage import Note
from stockade.compiler.errors import Construct, UnsupportedError
from stockade.compiler.media import essence, kind_of
from stockade.compiler.references import Place
from stockade.compiler.schemas import Direction, SchemaCompiler
from stockade.compiler.security import Security, read_security
from stockade.errors import PolicyError
from stockade.policy import Policy
from stockade.policy.extensions import OperationExtension, asks_itself, operation_extension
from stockade.spec.model import (
    Description,
    Encoding,
    Header,
    MediaType,
    Node,
    Operation,
    Parameter,
    RequestBody,
    Response,
)

METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH")
MODE_LAYERS = ("authenticate", "authorize", "limits", "validate_request", "validate_response")
# OpenAPI 3.0.4 §4.7.12.1: parameters of these names are ignored; other parts of the description say what they would.
_IGNORED_HEADERS = frozenset(["accept", "content-type", "authorization"])
_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# `/`, `\`, braces and controls in escapes: decoded they would change what the path is, and no request may spell them.
_ESCAPED_STRUCTURE = re.compile(r"%(2[fF]|5[cC]|7[bBdDfF]|[01][0-9a-fA-F])|[\\\x00-\x1f\x7f]")
_COLLECTION_STYLES = {"spaceDelimited": "array", "pipeDelimited": "array", "deepObject": "object"}


@dataclass(slots=True)
class CompiledOperation:
    """`entry` is the bundle's; `schemas` the keys it names; `denied` the construct for which it is refused."""

    operation: Operation
    entry: dict[str, Any]
    security: Security
    denied: Construct | None = None
    schemas: dict[str, None] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def deny(self, construct: Construct) -> None:
        """Keep the operation's existence and its security, and nothing else: every call is refused."""
        self.denied = construct
        self.entry |= {
            "deny": {"construct": construct.name, "pointer": construct.pointer},
            "parameters": [], "body": None, "responses": [], "upgrade": [], "stream_response": False,
        }  # fmt: skip
        self.schemas.clear()


def base_paths(operation: Operation, policy: Policy) -> list[str]:
    """Paths of an operation: the policy's base path or those of `servers`, in front of the template, decoded.

    Those that decoding would turn into other paths are left out; `check` denies their operation.
    """
    written = dict.fromkeys(_as_written(operation, policy))
    return [_decode_literals(path) for path in written if not _escapes_structure(path)]


def _as_written(operation: Operation, policy: Policy) -> list[str]:
    bases = [policy.api.base_path] if policy.api.base_path is not None else list(operation.base_paths) or [""]
    template = operation.path_template if operation.path_template.startswith("/") else f"/{operation.path_template}"
    return [base.rstrip("/") + template for base in bases]


def _escapes_structure(path: str) -> bool:
    return _ESCAPED_STRUCTURE.search(re.sub(r"\{[^{}]*\}", "", path)) is not None


def _decode_literals(template: str) -> str:
    """Percent-decode the text between variables; their names stay as they are."""
    parts = []
    for index, part in enumerate(template.split("{")):
        name, brace, literal = part.partition("}") if index else ("", "", part)
        parts.append(f"{'{' if index else ''}{name}{brace}{unquote(literal)}")
    return "".join(parts)


def compile_operation(
    description: Description, policy: Policy, schemas: SchemaCompiler, operation: Operation, identifier: str
) -> CompiledOperation:
    """Raises PolicyError for a wrong `x-stockade`; all else that cannot be had becomes `deny`."""
    extension = operation_extension(description, operation)
    builder = _Builder(description, policy, schemas, operation, extension)
    compiled = CompiledOperation(operation, builder.frame(identifier), Security([], ()))
    try:
        compiled.security = read_security(description, operation, policy)
        compiled.entry["security"] = compiled.security.alternatives
        builder.settle_sign_in(compiled)
        builder.check()
        compiled.entry |= builder.parts()
    except UnsupportedError as error:
        if not compiled.security.alternatives and not compiled.security.notes:
            # INVARIANT: an operation whose security is unknown must not become public by being denied.
            compiled.entry["security"] = [[{"kind": "token", "scheme": "stockade", "scopes": []}]]
        compiled.deny(error.construct)
        return compiled
    compiled.schemas = builder.used
    compiled.notes = [Note(kind, operation.node.pointer, words) for kind, words in compiled.security.notes]
    compiled.notes += builder.notes
    return compiled


class _Builder:
    """What the parts of one operation share: where schemas go, and what is worth a note."""

    def __init__(
        self,
        description: Description,
        policy: Policy,
        schemas: SchemaCompiler,
        operation: Operation,
        extension: OperationExtension,
    ) -> None:
        self._description = description
        self._policy = policy
        self._schemas = schemas
        self._operation = operation
        self._extension = extension
        unknown = extension.unknown_properties or policy.validation.unknown_properties
        self._closed = {"request": unknown.request == "deny", "response": unknown.response == "deny"}
        self._modes = {layer: getattr(extension.modes, layer) or getattr(policy.layers, layer) for layer in MODE_LAYERS}
        self.used: dict[str, None] = {}
        self.notes: list[Note] = []

    def frame(self, identifier: str) -> dict[str, Any]:
        """The entry without what can fail."""
        extension = self._extension
        unknown_query = extension.unknown_query or self._policy.validation.unknown_query
        return {
            "id": identifier,
            "method": self._operation.method.upper(),
            "paths": base_paths(self._operation, self._policy),
            "pointer": self._operation.node.pointer,
            "deny": None,
            "modes": self._modes,
            "security": [],
            "parameters": [],
            "unknown_query": unknown_query,
            "body": None,
            "responses": [],
            "limit": extension.limit.model_dump() if extension.limit is not None else None,
            "acr": list(extension.acr),
            "max_age_seconds": extension.max_age,
            "internal_token": extension.internal_token or self._policy.identity.internal_token,
            "upgrade": list(extension.upgrade),
            "stream_response": extension.stream,
        }

    def settle_sign_in(self, compiled: CompiledOperation) -> None:
        """What is open to all cannot ask how its caller signed in. Raises PolicyError where the operation does."""
        if not compiled.security.is_public:
            return
        if name := asks_itself(self._operation):
            node = self._operation.node
            place = Node(node.document, f"{node.pointer}/x-stockade/{name}", None)
            message = f"`{name}` asks how the user signed in, and the operation is open to all"
            raise PolicyError(
                message, location=self._description.locate(place), hint="give it `security`, or drop this"
            )
        compiled.entry |= {"acr": [], "max_age_seconds": None}

    def check(self) -> None:
        """Raises UnsupportedError for what `spec` could read and nothing can enforce."""
        if self._operation.method.upper() not in METHODS:
            raise UnsupportedError(f"the method `{self._operation.method.upper()}`", self._operation.node.pointer)
        for unsupported in self._operation.unsupported:
            raise UnsupportedError(unsupported.construct, unsupported.node.pointer)
        for path in _as_written(self._operation, self._policy):
            if _escapes_structure(path):
                raise UnsupportedError(
                    f"the path `{path}`, which escapes what has a meaning", self._operation.node.pointer
                )

    def parts(self) -> dict[str, Any]:
        """Parameters, body and responses. Raises UnsupportedError."""
        self._note_extension()
        parameters = [
            self._parameter(parameter)
            for parameter in self._operation.parameters
            if not (parameter.place == "header" and parameter.name.lower() in _IGNORED_HEADERS)
        ]
        body = self._body(self._operation.request_body) if self._operation.request_body is not None else None
        responses = [entry for response in self._operation.responses for entry in self._response(response)]
        self._note_responses(responses)
        return {"parameters": parameters, "body": body, "responses": responses}

    def _note(self, kind: str, pointer: str, message: str) -> None:
        self.notes.append(Note(kind, pointer, message))

    def _note_extension(self) -> None:
        pointer = self._operation.node.pointer
        for name in ("owner", "scope"):
            if getattr(self._extension, name):
                self._note("not_enforced_yet", f"{pointer}/x-stockade/{name}", f"`{name}` is not enforced yet")
        for layer, mode in self._modes.items():
            if mode != "enforce":
                self._note("layer_open", pointer, f"layer `{layer}` is in mode `{mode}`")

    # Schemas

    def _schema(self, node: Node | None, direction: Direction) -> str | None:
        if node is None or node.value is True or node.value == {}:
            return None
        key = self._schemas.intern(node, direction, closed=self._closed.get(direction, False))
        self.used[key] = None
        return key

    def _decode(self, node: Node | None) -> dict[str, Any] | None:
        if node is None:
            return None
        return self._schemas.decoder.tree(Place(node.document, node.pointer, node.value))

    # Parameters

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        pointer = parameter.node.pointer
        schema, content, decode = self._text_schema(parameter.schema, parameter.content, pointer)
        if content is None:
            self._check_style(parameter, decode)
        return {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required or parameter.place == "path",
            "style": parameter.style,
            "explode": parameter.explode,
            "allow_reserved": parameter.allow_reserved,
            "allow_empty_value": parameter.allow_empty_value,
            "content": content,
            "schema": self._schema(schema, "request"),
            "decode": decode,
            "pointer": pointer,
        }

    def _text_schema(
        self, schema: Node | None, content: MediaType | None, pointer: str
    ) -> tuple[Node | None, str | None, dict[str, Any] | None]:
        """The schema of a value that is carried as text, the media type it is written in (or None), its decoding."""
        if content is None:
            return schema, None, self._decode(schema)
        media_type = essence(content.media_type)
        kind = self._kind(media_type.text, content) if media_type is not None else None
        if media_type is not None and kind == "json":
            return content.schema, "application/json", None
        if kind in ("text", "binary"):
            return content.schema, None, self._decode(content.schema)
        raise UnsupportedError(f"a parameter or header written as `{content.media_type}`", f"{pointer}/content")

    def _kind(self, media_type: str, content: MediaType) -> str | None:
        schema = content.schema
        place = Place(schema.document, schema.pointer, schema.value) if schema is not None else None
        return kind_of(media_type, place, self._schemas.references, self._schemas.decoder)

    def _check_style(self, parameter: Parameter, decode: dict[str, Any] | None) -> None:
        pointer = parameter.node.pointer
        if parameter.style not in _STYLES[parameter.place]:
            raise UnsupportedError(f"style `{parameter.style}` of a {parameter.place} parameter", pointer)
        needed = _COLLECTION_STYLES.get(parameter.style)
        types = decode["types"] if decode is not None else ["string"]
        if needed is not None and not any(kind in ("array", "object") for kind in types):
            raise UnsupportedError(f"style `{parameter.style}` of a value that is neither array nor object", pointer)
        if needed == "object" and "object" not in types:
            raise UnsupportedError("style `deepObject` of a value that is no object", pointer)

    # Bodies

    def _body(self, body: RequestBody) -> dict[str, Any] | None:
        contents = self._contents(body.content, "request")
        if not contents and self._modes["validate_request"] == "enforce" and (body.required or body.content):
            raise UnsupportedError(self._unchecked(body.content), body.node.pointer)
        for content in contents:
            if content["schema"] is None and content["kind"] != "binary":
                self._note("free_form_body", content["pointer"], "the request body has no schema")
        return {
            "required": body.required,
            "max_bytes": self._extension.max_body_bytes or self._policy.limits.sizes.max_body_bytes,
            "pointer": body.node.pointer,
            "content": contents,
        }

    @staticmethod
    def _unchecked(content: tuple[MediaType, ...]) -> str:
        names = ", ".join(f"`{each.media_type}`" for each in content) or "no media type"
        return f"a body of {names}, whose schema nothing can check"

    def _contents(self, media_types: tuple[MediaType, ...], direction: Direction) -> list[dict[str, Any]]:
        """The bundle's `content`, most specific first; media types that cannot be checked are left out, so refused."""
        grouped: dict[str, list[MediaType]] = {}
        for media_type in media_types:
            found = essence(media_type.media_type)
            if found is None:
                self._refuse(media_type, "is no media type")
                continue
            grouped.setdefault(found.text, []).append(media_type)
        entries = [entry for text, group in grouped.items() for entry in self._content(text, group, direction)]
        return sorted(entries, key=lambda entry: entry["media_type"].count("*"))

    def _refuse(self, media_type: MediaType, why: str) -> None:
        self._note("media_type_refused", media_type.node.pointer, f"`{media_type.media_type}` {why}: refused")

    def _content(self, text: str, group: list[MediaType], direction: Direction) -> Iterator[dict[str, Any]]:
        first = group[0]
        kind: str | None = self._kind(text, first)
        if direction == "response" and self._extension.stream:
            kind = "binary"
        if kind is None:
            self._refuse(first, "has a schema that nothing here can check")
            return
        if len(group) > 1 and kind != "json":
            raise UnsupportedError(f"several entries for `{text}`", first.node.pointer)
        schema = None if kind == "binary" else self._joint_schema(group, direction)
        if kind == "binary":
            self._note("unchecked_body", first.node.pointer, f"of `{text}` only the size is checked")
        yield {
            "media_type": text,
            "kind": kind,
            "schema": schema,
            "decode": self._decode(first.schema) if kind in ("form", "multipart") else None,
            "encoding": {name: _encoding(each, first) for name, each in sorted(first.encoding.items())},
            "pointer": first.node.pointer,
        }

    def _joint_schema(self, group: list[MediaType], direction: Direction) -> str | None:
        """The schema of a media type that the description lists once for each of its parameters: any of theirs."""
        keys = [self._schema(media_type.schema, direction) for media_type in group]
        named = list(dict.fromkeys(key for key in keys if key is not None))
        if len(named) < len(set(keys)) or not named:
            return None
        if len(named) == 1:
            return named[0]
        key = self._schemas.union(named)
        self.used[key] = None
        return key

    # Responses

    def _response(self, response: Response) -> Iterator[dict[str, Any]]:
        contents = self._contents(response.content, "response")
        pointer = response.node.pointer
        if response.content and not contents and self._modes["validate_response"] == "enforce":
            if response.status[:1] in ("4", "5"):
                # Not emitted: what the upstream answers here keeps its status and loses its body.
                return
            raise UnsupportedError(self._unchecked(response.content), pointer)
        for content in contents:
            if content["schema"] is None and content["kind"] != "binary":
                self._note("response_without_schema", content["pointer"], "the response has no schema")
        headers = [self._header(header) for header in response.headers if header.name.lower() != "content-type"]
        yield {"status": response.status, "headers": headers, "content": contents, "pointer": pointer}

    def _header(self, header: Header) -> dict[str, Any]:
        pointer = header.node.pointer
        schema, content, decode = self._text_schema(header.schema, header.content, pointer)
        if content is not None:
            # The bundle's headers carry text; a document in a header is let through as text, and reported.
            self._note("unchecked_header", pointer, f"header `{header.name}` holds a document that is not checked")
            schema, decode = None, None
        if header.explode and decode is not None and "object" in decode["types"]:
            raise UnsupportedError("an exploded object in a response header", pointer)
        return {
            "name": header.name,
            "required": header.required,
            "schema": self._schema(schema, "response"),
            "decode": decode,
            "pointer": pointer,
        }

    def _note_responses(self, responses: list[dict[str, Any]]) -> None:
        statuses = [response["status"] for response in responses]
        pointer = self._operation.node.pointer
        if not any(status[:1] in ("2", "3") or status == "default" for status in statuses):
            self._note("no_response", f"{pointer}/responses", "no response is declared for success")
        if "default" not in statuses and not (
            any(status[:1] == "4" for status in statuses) and any(status[:1] == "5" for status in statuses)
        ):
            self._note("undeclared_errors", f"{pointer}/responses", "errors are not all declared")


def _encoding(encoding: Encoding, holder: MediaType) -> dict[str, Any]:
    ranges = encoding.content_type.split(",") if encoding.content_type is not None else []
    if any(essence(each) is None for each in ranges) or encoding.style not in _STYLES["query"]:
        raise UnsupportedError("an encoding that cannot be read", f"{holder.node.pointer}/encoding")
    return {
        "content_type": encoding.content_type,
        "style": encoding.style,
        "explode": encoding.explode,
        "allow_reserved": encoding.allow_reserved,
    }
