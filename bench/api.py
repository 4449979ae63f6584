"""The API that is benchmarked: what is sent, what comes back, and descriptions of it with any number of operations."""

from __future__ import annotations

import json
from typing import Any

GET_TARGET = "/v1/orders/4711?currency=EUR"
POST_TARGET = "/v1/orders"
POST_BYTES = 249
ANSWER_BYTES = 200


def padded(document: dict[str, Any], size: int) -> bytes:
    """Return the document as compact JSON of exactly `size` bytes; its `note` is what gives."""
    bare = len(json.dumps({**document, "note": ""}, separators=(",", ":")))
    encoded = json.dumps({**document, "note": "x" * (size - bare)}, separators=(",", ":")).encode()
    assert len(encoded) == size
    return encoded


ITEMS = [
    {"sku": "KTL-0001", "quantity": 2, "price_cents": 3900},
    {"sku": "TWL-0007", "quantity": 1, "price_cents": 790},
]
BODY = padded({"customer": "c-2041", "currency": "EUR", "items": ITEMS, "express": True, "discount": 0.05}, POST_BYTES)
ANSWER = padded(
    {"id": 4711, "status": "paid", "currency": "EUR", "total_cents": 8590, "items": ITEMS[:1]}, ANSWER_BYTES
)

ITEM = {
    "type": "object",
    "required": ["sku", "quantity", "price_cents"],
    "additionalProperties": False,
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
        "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
        "price_cents": {"type": "integer", "minimum": 0},
    },
}
NEW_ORDER = {
    "type": "object",
    "required": ["customer", "currency", "items"],
    "additionalProperties": False,
    "properties": {
        "customer": {"type": "string", "minLength": 1, "maxLength": 40},
        "currency": {"$ref": "#/components/schemas/Currency"},
        "items": {"type": "array", "minItems": 1, "maxItems": 50, "items": {"$ref": "#/components/schemas/Item"}},
        "express": {"type": "boolean"},
        "discount": {"type": "number", "minimum": 0, "maximum": 1},
        "note": {"type": "string", "maxLength": 500},
    },
}
ORDER = {
    "type": "object",
    "required": ["id", "status", "total_cents", "items"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "status": {"type": "string", "enum": ["new", "paid", "shipped"]},
        "currency": {"$ref": "#/components/schemas/Currency"},
        "total_cents": {"type": "integer", "minimum": 0},
        "items": {"type": "array", "maxItems": 50, "items": {"$ref": "#/components/schemas/Item"}},
        "note": {"type": "string", "maxLength": 500},
    },
}


def description(operations: int) -> dict[str, Any]:
    """Return an OpenAPI 3.1 description with this many operations (at least 2), the two that are called among them."""
    paths: dict[str, Any] = {
        "/v1/orders/{orderId}": {"get": _operation("getOrder", [_path("orderId"), _CURRENCY_PARAMETER])},
        "/v1/orders": {"post": {**_operation("createOrder", []), "requestBody": _body("NewOrder")}},
    }
    for number in range(operations - 2):
        method = ("get", "put", "patch", "delete")[number % 4]
        path = f"/v1/area{number // 4 % 40}/things{number // 160}/{{id}}" + ("" if number % 8 < 4 else "/parts")
        operation = _operation(f"op{number}", [_path("id")])
        if method in ("put", "patch"):
            operation["requestBody"] = _body("NewOrder")
        assert method not in paths.setdefault(path, {})
        paths[path][method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Benchmark, {operations} operations", "version": "1.0.0"},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "oauth": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": {"tokenUrl": "https://localhost/token", "scopes": {"orders": "Orders"}}
                    },
                }
            },
            "schemas": {
                "Currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
                "Item": ITEM,
                "NewOrder": NEW_ORDER,
                "Order": ORDER,
            },
        },
    }


_CURRENCY_PARAMETER = {"name": "currency", "in": "query", "schema": {"$ref": "#/components/schemas/Currency"}}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}


def _operation(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "security": [{"oauth": ["orders"]}],
        "parameters": parameters,
        "responses": {"200": {"description": "The order", **_content("Order")}},
    }


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, **_content(schema)}


def _content(schema: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}
