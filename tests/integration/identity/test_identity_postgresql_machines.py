"""What machine clients need, on PostgreSQL with two servers: no lock within one process can be what helps."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from dpop_support import DpopKey
from identity_support import AUDIENCE, credentials, introspect
from signed_in_support import make_person

from stockade.identity.admin_registration import create_initial_access_token
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.credentials import digest
from stockade.identity.storage import device_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_support import Cluster, Server

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
OTHER = "https://other.example"


class Pair:
    """Two servers of one issuer."""

    def __init__(self, first: Server, second: Server) -> None:
        self.first = first
        self.clients = [first.outside(), second.outside()]
        self.clients[1].base_url = httpx.URL(f"https://localhost:{second.public_port}")

    def at_once(self, count: int, path: str, headers: dict[str, str] | None = None, **request: object) -> list[int]:
        """The same request so often, at both."""

        def send(number: int) -> int:
            return self.clients[number % 2].post(path, headers=headers, **request).status_code  # type: ignore[arg-type]

        with ThreadPoolExecutor(count) as pool:
            return sorted(pool.map(send, range(count)))


@pytest.fixture
def pair(make_server: Callable[..., Server], cluster: Cluster) -> Iterator[Pair]:
    settings = {
        "database_url": cluster.database(f"machines_{secrets.token_hex(4)}"),
        "registration": "initial_access_token",
        "throttling": {"client_burst": 1_000, "address_burst": 1_000},
    }
    first = make_server(**settings)
    with first:
        second = make_server(**settings, issuer=first.issuer, key_encryption_key={"file": str(first.folder / "kek")})
        with second:
            both = Pair(first, second)
            yield both
            for client in both.clients:
                client.close()


def test_a_device_code_is_redeemed_once_and_its_token_exchanged(pair: Pair) -> None:
    server, http = pair.first, pair.clients[0]
    metadata = ClientMetadata(grant_types=(DEVICE, "refresh_token"))
    tv = server.client("tv", ("orders:read", "offline_access"), auth_method="none", metadata=metadata)
    form = {"client_id": tv.client_id, "scope": "orders:read offline_access"}
    code = http.post("/oauth2/device_authorization", data=form).json()["device_code"]
    token_form = {"grant_type": DEVICE, "device_code": code, "client_id": tv.client_id}
    assert http.post("/oauth2/token", data=token_form).json()["error"] == "authorization_pending"
    with server.storage() as storage:
        who = make_person(storage)
        with storage.write() as connection:
            assert device_codes.decide(connection, digest(code), who, 0)
    answers = [http.post("/oauth2/token", data=token_form)]
    assert pair.at_once(6, "/oauth2/token", data=token_form) == [400] * 6
    tokens = answers[0].json()
    metadata = ClientMetadata(
        grant_types=("client_credentials", EXCHANGE), introspection_audiences=(AUDIENCE,), exchange_audiences=(OTHER,)
    )
    backend = server.client("backend", ("orders:read",), metadata=metadata)
    exchange = {
        "grant_type": EXCHANGE,
        "subject_token": tokens["access_token"],
        "subject_token_type": ACCESS_TOKEN,
        "audience": OTHER,
    }
    exchanged = pair.clients[1].post("/oauth2/token", data=exchange, headers=credentials(backend))
    with server.gateway() as gateway:
        known = introspect(gateway, exchanged.json()["access_token"], resource=OTHER)
    assert (known["sub"], known["act"]) == (who.user_id, {"sub": backend.client_id})
    looked = http.post("/oauth2/introspect", data={"token": tokens["access_token"]}, headers=credentials(backend))
    assert looked.json()["sub"] == who.user_id


def test_of_parallel_redemptions_at_two_servers_one_wins(pair: Pair) -> None:
    server, http = pair.first, pair.clients[0]
    metadata = ClientMetadata(grant_types=(DEVICE,))
    tv = server.client("tv", ("orders:read",), auth_method="none", metadata=metadata)
    code = http.post("/oauth2/device_authorization", data={"client_id": tv.client_id}).json()["device_code"]
    with server.storage() as storage:
        who = make_person(storage)
        with storage.write() as connection:
            assert device_codes.decide(connection, digest(code), who, 0)
    form = {"grant_type": DEVICE, "device_code": code, "client_id": tv.client_id}
    assert pair.at_once(8, "/oauth2/token", data=form) == [200] + [400] * 7


def test_a_proof_is_good_once_at_both_servers_together(pair: Pair) -> None:
    client, key = pair.first.client("proves"), DpopKey()
    key.post(pair.clients[0], "/oauth2/token", credentials(client), grant_type="client_credentials")
    proof = key.proof("POST", pair.first.token_url)
    headers = credentials(client) | {"DPoP": proof}
    form = {"grant_type": "client_credentials"}
    assert pair.at_once(8, "/oauth2/token", headers, data=form) == [200] + [400] * 7


def test_an_initial_token_is_used_no_more_often_at_two_servers(pair: Pair) -> None:
    with pair.first.storage() as storage:
        made = create_initial_access_token(storage, "partner", ("orders:read",), ("client_credentials",), uses=3)
    headers = {"Authorization": f"Bearer {made.initial_access_token}"}
    document = {"grant_types": ["client_credentials"]}
    assert pair.at_once(8, "/oauth2/register", headers, json=document) == [201] * 3 + [401] * 5
