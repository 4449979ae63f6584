"""What the authorization server is told comes from the policy and the description, and it understands all of it."""

from __future__ import annotations

import json
from pathlib import Path

from stockade import policy as policies
from stockade import spec
from stockade.control.identity_config import identity_config, scope_texts_of, scopes_of
from stockade.control.state import StateFolder
from stockade.identity.config import read_config

DESCRIPTION = """
openapi: 3.1.0
info: {title: Shop, version: "1"}
components:
  securitySchemes:
    tokens:
      type: oauth2
      flows:
        clientCredentials:
          tokenUrl: https://localhost/token
          scopes: {"orders:read": "See your orders ", "orders:write": ""}
paths:
  /orders:
    get:
      security: [{tokens: ["orders:read"]}]
      responses: {"200": {description: all}}
"""
POLICY = """
version: 1
api: {description: ./openapi.yaml, upstream: "http://127.0.0.1:9000"}
identity:
  people: {title: Example Grocer, locale: de}
"""


def test_the_pages_know_their_title_and_what_scopes_mean(tmp_path: Path) -> None:
    (tmp_path / "openapi.yaml").write_text(DESCRIPTION)
    (tmp_path / "stockade.yaml").write_text(POLICY)
    description = spec.load(tmp_path / "openapi.yaml")
    made = identity_config(
        policies.load(tmp_path / "stockade.yaml"),
        StateFolder(tmp_path / "state"),
        scopes=scopes_of(description),
        scope_texts=scope_texts_of(description),
        certificate=Path("tls.pem"),
        key=Path("tls.key"),
        public_address="127.0.0.1:8444",
        internal_address="127.0.0.1:8445",
        admin_address="127.0.0.1:8446",
    )
    (tmp_path / "identity.json").write_text(json.dumps(made))
    people = read_config(tmp_path / "identity.json").people
    assert (people.title, people.locale) == ("Example Grocer", "de")
    # What says nothing falls back on its name.
    assert people.scopes == {"orders:read": "See your orders"}
