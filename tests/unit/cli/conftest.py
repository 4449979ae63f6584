"""A folder with a small API in it, and a terminal there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from terminal import Terminal

DESCRIPTION = """\
openapi: 3.1.0
info: {title: Orders, version: 1.0.0}
paths:
  /orders:
    get:
      operationId: listOrders
      security: [{oauth: ["orders:read"]}]
      parameters:
        - {name: q, in: query, schema: {type: string}}
      responses:
        "200":
          description: ok
          content: {application/json: {schema: {type: array, maxItems: 9, items: {type: integer}}}}
    post:
      operationId: createOrder
      requestBody: {content: {application/json: {}}}
      responses:
        "201": {description: made}
components:
  securitySchemes:
    oauth:
      type: oauth2
      flows: {clientCredentials: {tokenUrl: /token, scopes: {"orders:read": read}}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "openapi.yaml").write_text(DESCRIPTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch, folder)
