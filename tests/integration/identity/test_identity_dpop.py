"""DPoP at the token endpoint (RFC 9449), end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dpop_support import DpopKey
from identity_support import ask, credentials, introspect

if TYPE_CHECKING:
    import httpx
    from identity_support import Server

    from stockade.identity.admin import CreatedClient


@pytest.fixture(scope="module")
def client(server: Server) -> CreatedClient:
    return server.client("dpop-client")


@pytest.fixture
def key() -> DpopKey:
    return DpopKey()


def test_a_token_asked_for_with_a_proof_is_bound_to_its_key(
    outside: httpx.Client, gateway: httpx.Client, client: CreatedClient, key: DpopKey
) -> None:
    answer = key.post(outside, "/oauth2/token", credentials(client), grant_type="client_credentials")
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    known = introspect(gateway, answer.json()["access_token"])
    assert known["cnf"] == {"jkt": key.jkt}
    assert known["token_type"] == "DPoP"


def test_without_a_proof_a_token_is_bearer(outside: httpx.Client, client: CreatedClient) -> None:
    assert ask(outside, client).json()["token_type"] == "Bearer"
