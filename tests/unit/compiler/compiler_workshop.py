"""Descriptions made of plain values, compiled, and their schemas run by the engine's own validator crate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

from stockade import spec
from stockade.compiler import Compiled, compile_bundle
from stockade.policy import Policy, build
from stockade.spec.model import Description

VALIDATORS = {"draft4": jsonschema_rs.Draft4Validator, "draft2020-12": jsonschema_rs.Draft202012Validator}


def accept_all(_dialect: str, _schemas: dict[str, Any]) -> list[Any]:
    return []


@dataclass(frozen=True)
class Built:
    """A compiled description, its payload read back."""

    description: Description
    compiled: Compiled

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.compiled.payload)
        return payload

    def operation(self, index: int = 0) -> dict[str, Any]:
        operation: dict[str, Any] = self.payload["operations"][index]
        return operation

    def note_kinds(self, index: int = 0) -> set[str]:
        return {note.kind for note in self.compiled.coverage.operations[index].notes}

    def validator(self, key: str) -> Callable[[Any], bool]:
        payload = self.payload
        root = {"$defs": payload["schemas"], "allOf": [{"$ref": f"#/$defs/{key}"}]}
        valid = VALIDATORS[payload["dialect"]](root).is_valid
        return lambda instance: bool(valid(instance))

    def request_body(self) -> Callable[[Any], bool]:
        return self.validator(self.operation()["body"]["content"][0]["schema"])

    def response_body(self) -> Callable[[Any], bool]:
        return self.validator(self.operation()["responses"][0]["content"][0]["schema"])


class Workshop:
    """Writes descriptions to a folder and compiles them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, document: dict[str, Any]) -> Description:
        path = self.folder / "openapi.json"
        path.write_text(json.dumps(document))
        return spec.load(path)

    def policy(self, **sections: Any) -> Policy:
        api = {"description": "openapi.json", "upstream": "http://127.0.0.1:9000"} | sections.pop("api", {})
        return build({"api": api, **sections})

    def compile(self, document: dict[str, Any], policy: Policy | None = None, check: Any = accept_all) -> Built:
        description = self.load(document)
        return Built(description, compile_bundle(description, policy or self.policy(), check_schemas=check))

    def schema(
        self,
        schema: Any,
        components: dict[str, Any] | None = None,
        *,
        openapi: str = "3.1.0",
        policy: Policy | None = None,
    ) -> Built:
        """An API with one operation, whose request and response body have `schema`."""
        return self.compile(api(schema, components, openapi=openapi), policy)


def api(
    schema: Any, components: dict[str, Any] | None = None, *, openapi: str = "3.1.0", **operation: Any
) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return document(
        {"/things": {"post": {
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "", "content": content}},
            **operation,
        }}},
        openapi=openapi, components={"schemas": components or {}},
    )  # fmt: skip


def document(paths: dict[str, Any], *, openapi: str = "3.1.0", **more: Any) -> dict[str, Any]:
    return {"openapi": openapi, "info": {"title": "Things", "version": "1"}, "paths": paths, **more}


A = {"type": "object", "properties": {"a": {"type": "integer"}}}
B = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
