"""The description that tests share."""

from __future__ import annotations

from typing import Any


def shop() -> dict[str, Any]:
    """The description that the tests share: orders with scopes, a public page, an API key, uploads, downloads."""
    order = {
        "type": "object",
        "required": ["sku", "qty"],
        "properties": {
            "id": {"type": "integer", "readOnly": True},
            "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
            "qty": {"type": "integer", "minimum": 1, "maximum": 100},
            "note": {"type": "string", "maxLength": 200},
        },
    }
    json_order = {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}
    read, write = [{"oauth": ["orders:read"]}], [{"oauth": ["orders:write"]}]
    order_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1.0.0"},
        "paths": {
            "/orders": {
                "get": {
                    "operationId": "listOrders",
                    "security": read,
                    "parameters": [
                        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 50}},
                        {"name": "q", "in": "query", "schema": {"type": "string", "maxLength": 40}},
                    ],
                    "responses": {
                        "200": {
                            "description": "ok",
                            "content": {
                                "application/json": {
                                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}}
                                }
                            },
                        }
                    },
                },
                "post": {
                    "operationId": "createOrder",
                    "security": write,
                    "requestBody": {"required": True, "content": json_order},
                    "responses": {"201": {"description": "made", "content": json_order}},
                },
            },
            "/orders/{id}": {
                "parameters": [order_id],
                "get": {
                    "operationId": "getOrder",
                    "security": read,
                    "responses": {"200": {"description": "ok", "content": json_order}},
                },
                "delete": {
                    "operationId": "deleteOrder",
                    "security": write,
                    "responses": {"204": {"description": "gone"}},
                },
            },
            "/status": {
                "get": {
                    "operationId": "status",
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "ok",
                            "content": {
                                "application/json": {
                                    "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}}
                                }
                            },
                        }
                    },
                }
            },
            "/partner": {
                "get": {
                    "operationId": "partner",
                    "security": [{"key": []}],
                    "responses": {"200": {"description": "ok", "content": {"application/json": {}}}},
                }
            },
            "/undeclared-security": {
                "get": {
                    "operationId": "silent",
                    "responses": {"200": {"description": "ok", "content": {"application/json": {}}}},
                }
            },
            "/files/{name}": {
                "get": {
                    "operationId": "download",
                    "security": read,
                    "parameters": [
                        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 60}}
                    ],
                    "responses": {"200": {"description": "ok", "content": {"application/octet-stream": {}}}},
                    "x-stockade": {"stream": True},
                },
                "put": {
                    "operationId": "upload",
                    "security": write,
                    "parameters": [
                        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 60}}
                    ],
                    "requestBody": {"content": {"application/octet-stream": {}}},
                    "responses": {"204": {"description": "stored"}},
                    "x-stockade": {"max_body_bytes": 200_000_000},
                },
            },
            "/limited": {
                "get": {
                    "operationId": "limited",
                    "security": read,
                    "responses": {"200": {"description": "ok", "content": {"application/json": {}}}},
                    "x-stockade": {"limit": "5/minute"},
                }
            },
        },
        "components": {
            "schemas": {"Order": order},
            "securitySchemes": {
                "oauth": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": {
                            "tokenUrl": "https://localhost:8444/oauth2/token",
                            "scopes": {"orders:read": "read", "orders:write": "write"},
                        }
                    },
                },
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
