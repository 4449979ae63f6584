"""`x-stockade` in a description: what the description itself cannot say about an operation or a schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from stockade.errors import Location
from stockade.policy.fields import Items, Mode, Model, Quota, Seconds, Size, Strictness
from stockade.policy.load import explain
from stockade.policy.model import UnknownProperties
from stockade.policy.positions import Steps
from stockade.spec.model import Description, Node, Operation

NAME = "x-stockade"


def _check_protocol(text: str) -> str:
    if not text or not all(character.isalnum() or character in "!#$%&'*+-.^_`|~" for character in text):
        raise ValueError(f"`{text}` is not the name of a protocol; write it as `websocket`")
    return text.lower()


def _check_acr(text: str) -> str:
    """What can stand in the `acr_values` of a challenge (RFC 9470 §3): no space, quote or backslash."""
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}", text):
        raise ValueError(f"`{text}` is no `acr` value; it is visible ASCII without quotes")
    return text


class Modes(Model):
    """Modes of single layers; what is not given is as `layers` says."""

    authenticate: Mode | None = None
    authorize: Mode | None = None
    limits: Mode | None = None
    validate_request: Mode | None = None
    validate_response: Mode | None = None
    detect: Mode | None = None


class OperationExtension(Model):
    """`x-stockade` of an operation, of a path (for its operations) or of the whole description (for all)."""

    limit: Quota | None = Field(default=None, description="per client and operation, as `5/minute`")
    modes: Modes = Field(default=Modes(), description="mode of single layers, as under `layers`")
    upgrade: Items[Annotated[str, AfterValidator(_check_protocol)]] = Field(
        default=(), description="protocols that a client may upgrade to, as `websocket`"
    )
    stream: bool = Field(
        default=False, description="pass response bodies on unbuffered and unvalidated, as for server-sent events"
    )
    max_body_bytes: Size | None = Field(default=None, description="largest request body")
    unknown_query: Strictness | None = Field(default=None, description="as `validation.unknown_query`")
    unknown_properties: UnknownProperties | None = Field(default=None, description="as `validation.unknown_properties`")
    owner: str | None = Field(default=None, description="which caller an object belongs to; not enforced yet")
    acr: Items[Annotated[str, AfterValidator(_check_acr)]] = Field(
        default=(),
        description="how strongly the user must have signed in: one of these, or a stronger one (`pwd`, `mfa`, `phr`)",
    )
    max_age: Seconds | None = Field(default=None, description="how many seconds ago the user may have signed in")
    internal_token: Literal["shared", "operation"] | None = Field(
        default=None, description="as `identity.internal_token`"
    )
    scope: str | None = Field(default=None, description="scope that shows the whole object; not enforced yet")


class SchemaExtension(Model):
    """`x-stockade` of a schema."""

    sensitivity: Literal["secret", "pii", "financial"] | None = Field(
        default=None, description="to come; not enforced yet"
    )
    owner: str | None = Field(default=None, description="to come; not enforced yet")
    scope: str | None = Field(default=None, description="scope that a caller needs to see it; not enforced yet")


TO_COME = ("owner", "scope", "sensitivity")
Extension = TypeVar("Extension", OperationExtension, SchemaExtension)


def read_extension(model: type[Extension], value: Any, node: Node, description: Description) -> Extension:
    """Parse the `x-stockade` value that stands at `node`. Raises PolicyError with its place in the description."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise explain(error, model, value, lambda steps, _key: _locate(description, node, steps))[0] from None


def _locate(description: Description, node: Node, steps: Steps) -> Location:
    tokens = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return description.locate(Node(node.document, node.pointer + tokens, None))


def operation_extension(description: Description, operation: Operation) -> OperationExtension:
    """What root, path and operation say together; the nearest word counts. Raises PolicyError."""
    merged: dict[str, Any] = {}
    modes: dict[str, Any] = {}
    for value, node in _sources(description, operation):
        read_extension(OperationExtension, value, node, description)
        merged.update(value)
        modes.update(value.get("modes") or {})
    return OperationExtension.model_validate({**merged, "modes": modes}) if merged else OperationExtension()


def asks_itself(operation: Operation) -> str | None:
    """The first word about the user's sign-in that stands on the operation itself, if any does."""
    own = operation.extensions.get(NAME)
    words = own if isinstance(own, Mapping) else {}
    return next((name for name in ("acr", "max_age") if words.get(name)), None)


def _sources(description: Description, operation: Operation) -> list[tuple[Any, Node]]:
    path_pointer = operation.node.pointer.rpartition("/")[0]
    path_item = _value_at(description.documents.get(operation.node.document), path_pointer)
    candidates = [
        (description.extensions.get(NAME), description.root.document, description.root.pointer),
        (path_item.get(NAME) if isinstance(path_item, Mapping) else None, operation.node.document, path_pointer),
        (operation.extensions.get(NAME), operation.node.document, operation.node.pointer),
    ]
    return [
        (value, Node(document, f"{pointer}/{NAME}", value))
        for value, document, pointer in candidates
        if value is not None
    ]


def _value_at(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        step = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
