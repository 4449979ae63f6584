"""What stands in bodies: media types, encodings, request bodies, responses and their headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from stockade.spec.context import flag_field, object_field, require_object, text_field
from stockade.spec.faults import Fault
from stockade.spec.model import Encoding, Header, MediaType, RequestBody, Response
from stockade.spec.pointer import child

if TYPE_CHECKING:
    from stockade.spec.context import Context
    from stockade.spec.model import Node

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (a token of RFC 9110 §5.6.2)
_MEDIA_TYPE = re.compile(rf"(?:\*/\*|(?!\*/){_TOKEN}/(?:\*|{_TOKEN}))[ \t]*(?:;.*)?\Z")
HEADER_NAME = re.compile(_TOKEN + r"\Z")
_STATUS = re.compile(r"[1-5](?:[0-9][0-9]|XX)\Z")
_MEDIA_TYPE_FIELDS = frozenset(["schema", "example", "examples", "encoding"])
_ENCODING_FIELDS = frozenset(["contentType", "headers", "style", "explode", "allowReserved"])
_BODY_FIELDS = frozenset(["description", "content", "required"])
_RESPONSE_FIELDS = frozenset(["description", "headers", "content", "links"])
HEADER_FIELDS = frozenset(
    [
        "description",
        "required",
        "deprecated",
        "allowEmptyValue",
        "style",
        "explode",
        "allowReserved",
        "schema",
        "example",
        "examples",
        "content",
    ]
)
_FORM_STYLES = frozenset(["form", "spaceDelimited", "pipeDelimited", "deepObject"])
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/"


class Bodies:
    """Parses and remembers bodies, since many operations share them by reference."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # One bound method each: `Context.once` remembers by it.
        self._parse_body = self._request_body
        self._parse_response = self._response_parts
        self._parse_header = self._header

    def request_body(self, node: Node) -> RequestBody:
        """The body behind a `requestBody`, by reference or not. Raises Fault."""
        return self._context.once(self._parse_body, self._context.follow(node))

    def response(self, status: str, node: Node) -> Response:
        """One entry of `responses`. Raises Fault."""
        wanted = status.upper() if status != "default" else status
        if wanted != "default" and not _STATUS.match(wanted):
            hint = "use a status such as `404`, a range such as `4XX`, or `default`"
            raise Fault(f"the response status `{status[:40]}`", node, hint=hint)
        if status not in (wanted, "default"):
            self._context.warn(f"the status `{status}` is read as `{wanted}`", node)
        found = self._context.follow(node)
        headers, content = self._context.once(self._parse_response, found)
        return Response(wanted, headers, content, found)

    def content(self, holder: Node) -> tuple[MediaType, ...]:
        """The media types of an object's `content`; empty where it has none. Raises Fault."""
        content = object_field(holder, "content")
        if content is None:
            return ()
        self._context.spend(len(content.value))
        seen: set[str] = set()
        for name in content.value:
            if name.lower() in seen:
                raise Fault(f"the media type `{name}` twice", content, hint="keep one of the two")
            seen.add(name.lower())
        return tuple(self._media_type(name, child(content, name)) for name in content.value)

    def schema(self, holder: Node) -> Node | None:
        """The `schema` of an object, left raw. Raises Fault where it cannot be a schema."""
        if "schema" not in holder.value:
            return None
        schema = child(holder, "schema")
        if isinstance(schema.value, dict) or (self._context.is_31 and isinstance(schema.value, bool)):
            return schema
        raise Fault("`schema` must be an object", schema, hint="write a JSON Schema or a `$ref` to one")

    def _media_type(self, name: str, node: Node) -> MediaType:
        if not _MEDIA_TYPE.match(name):
            raise Fault(f"the media type `{name[:80]}`", node, hint="write `type/subtype`, or a range such as `text/*`")
        require_object(node, "a media type")
        self._context.unknown_fields(node, _MEDIA_TYPE_FIELDS, "a media type")
        return MediaType(name, self.schema(node), self._encodings(name, node), node)

    def _encodings(self, media_type: str, node: Node) -> dict[str, Encoding]:
        encodings = object_field(node, "encoding")
        if encodings is None:
            return {}
        essence = media_type.partition(";")[0].strip().lower()
        if essence != _URLENCODED and not essence.startswith(_MULTIPART):
            self._context.warn(f"`encoding` has no meaning for `{media_type}`", encodings)
            return {}
        self._context.spend(len(encodings.value))
        takes_style = essence == _URLENCODED or self._context.is_31
        return {name: self._encoding(child(encodings, name), takes_style=takes_style) for name in encodings.value}

    def _encoding(self, node: Node, *, takes_style: bool) -> Encoding:
        """OpenAPI 3.1.1 §4.8.15.1.2: an explicit `style`, `explode` or `allowReserved` overrules `contentType`.

        In 3.0 these three are ignored in multipart bodies (`takes_style` false).
        """
        require_object(node, "an encoding")
        self._context.unknown_fields(node, _ENCODING_FIELDS, "an encoding")
        if "headers" in node.value:
            self._context.warn("the headers of a part are not checked", child(node, "headers"))
        content_type = text_field(node, "contentType")
        explicit = takes_style and not node.value.keys().isdisjoint(("style", "explode", "allowReserved"))
        if not explicit:
            return Encoding(content_type, "form", explode=True, allow_reserved=False)
        style = text_field(node, "style") or "form"
        if style not in _FORM_STYLES:
            hint = "use `form`, `spaceDelimited`, `pipeDelimited` or `deepObject`"
            raise Fault(f"the style `{style}` of an encoding", node, hint=hint)
        explode = flag_field(node, "explode", default=style == "form")
        reserved = flag_field(node, "allowReserved", default=False)
        return Encoding(None, cast("Any", style), explode, reserved)

    def _request_body(self, node: Node) -> RequestBody:
        require_object(node, "a request body")
        self._context.unknown_fields(node, _BODY_FIELDS, "a request body")
        if "content" not in node.value:
            raise Fault("a request body without `content`", node, hint="declare its media types")
        return RequestBody(flag_field(node, "required", default=False), self.content(node), node)

    def _response_parts(self, node: Node) -> tuple[tuple[Header, ...], tuple[MediaType, ...]]:
        require_object(node, "a response")
        self._context.unknown_fields(node, _RESPONSE_FIELDS, "a response")
        if "description" not in node.value:
            self._context.warn("a response without `description`", node)
        return self._headers(node), self.content(node)

    def _headers(self, holder: Node) -> tuple[Header, ...]:
        headers = object_field(holder, "headers")
        if headers is None:
            return ()
        self._context.spend(len(headers.value))
        found: dict[str, Header] = {}
        for name in headers.value:
            node = child(headers, name)
            if name.lower() == "content-type":
                self._context.warn("the header `Content-Type` is given by `content`", node)
                continue
            if name.lower() in found:
                raise Fault(f"the header `{name}` twice", node, hint="header names differ by more than case")
            if not HEADER_NAME.match(name):
                raise Fault(f"the header name `{name[:80]}`", node, hint="use a token of RFC 9110")
            required, explode, schema, content, at = self._context.once(self._parse_header, self._context.follow(node))
            found[name.lower()] = Header(name, required, explode, schema, content, at)
        return tuple(found.values())

    def _header(self, node: Node) -> tuple[bool, bool, Node | None, MediaType | None, Node]:
        require_object(node, "a header")
        self._context.unknown_fields(node, HEADER_FIELDS, "a header")
        if text_field(node, "style") not in (None, "simple"):
            raise Fault("a header whose style is not `simple`", node, hint="headers know only `simple`")
        schema, content = self.value_of(node, "a header")
        required = flag_field(node, "required", default=False)
        return required, flag_field(node, "explode", default=False), schema, content, node

    def value_of(self, node: Node, what: str) -> tuple[Node | None, MediaType | None]:
        """How a parameter or header is described: by a schema or by exactly one media type. Raises Fault."""
        if "content" not in node.value:
            if "schema" not in node.value:
                self._context.warn(f"{what} without `schema`: any text passes", node)
            return self.schema(node), None
        if "schema" in node.value:
            raise Fault(f"{what} with both `schema` and `content`", node, hint="keep one of the two")
        content = self.content(node)
        if len(content) != 1:
            raise Fault(f"{what} whose `content` has not exactly one media type", node, hint="keep one")
        return None, content[0]
