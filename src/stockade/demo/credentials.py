"""Where the demo's tokens come from: real clients, real tokens of the real authorization server.

Two kinds cannot be asked for, because no honest server issues them: an expired token and one for another audience.
They are put into the database as if they had been issued, so that the gate meets exactly what a thief would have.
"""

from __future__ import annotations

import secrets
import ssl
import time
from typing import TYPE_CHECKING

import httpx

from stockade.identity import admin
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.storage.tokens import NewAccessToken, insert_access_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stockade.identity.admin import CreatedClient
    from stockade.identity.storage import Storage

REVOCATION_SECONDS = 1.0
HOUR = 3600


class DemoCredentials:
    """Implements `stockade.demo.calls.Credentials`; closes with the HTTP client."""

    def __init__(
        self, storage: Storage, token_endpoint: str, ca_file: Path, scopes: Sequence[str], audience: str
    ) -> None:
        self._storage = storage
        self._token_endpoint = token_endpoint
        self._scopes = tuple(scopes)
        self._audience = audience
        self._clients: dict[str, CreatedClient] = {}
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self._http = httpx.Client(verify=ssl.create_default_context(cafile=ca_file), timeout=10, trust_env=False)

    def client(self, label: str) -> CreatedClient:
        """The registered client of this label, with every scope of the description."""
        if label not in self._clients:
            name = f"{label}-{secrets.token_hex(3)}"
            self._clients[label] = admin.create_client(self._storage, name, self._scopes, api_key=True)
        return self._clients[label]

    def access_token(self, scopes: tuple[str, ...], client: str) -> str:
        """A token from the token endpoint; one for each label and set of scopes."""
        key = (client, tuple(sorted(scopes)))
        if key not in self._tokens:
            self._tokens[key] = self._request(client, scopes)
        return self._tokens[key]

    def api_key(self) -> str:
        """The supplier's key."""
        made = self.client("supplier").api_key
        assert made is not None  # noqa: S101  # created with api_key=True
        return made.api_key

    def revoked_token(self, scopes: tuple[str, ...]) -> str:
        """A token that was used, revoked, and for which a second has passed."""
        token = self._request("shop-app", scopes)
        admin.revoke_token(self._storage, token)
        time.sleep(REVOCATION_SECONDS)
        return token

    def expired_token(self, scopes: tuple[str, ...]) -> str:
        """A token that expired an hour ago."""
        return self._stored(scopes, self._audience, expires_in=-HOUR)

    def foreign_token(self, scopes: tuple[str, ...]) -> str:
        """A good token for another API."""
        return self._stored(scopes, "https://other.example", expires_in=HOUR)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _request(self, label: str, scopes: tuple[str, ...]) -> str:
        made = self.client(label)
        answer = self._http.post(
            self._token_endpoint,
            data={"grant_type": "client_credentials", "scope": " ".join(scopes)},
            auth=(made.client_id, made.client_secret or ""),
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def _stored(self, scopes: tuple[str, ...], audience: str, *, expires_in: int) -> str:
        token, now = generate(Kind.ACCESS_TOKEN), int(time.time())
        client_id = self.client("shop-app").client_id
        record = NewAccessToken(
            digest(token), secrets.token_hex(16), client_id, 0, tuple(scopes), audience, now - HOUR, now + expires_in
        )
        with self._storage.write() as connection:
            insert_access_token(connection, record)
        return token
