"""Clients, their secrets and their API keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import bindparam, delete, insert, or_, select, update

from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.errors import StorageUnavailable
from stockade.identity.storage.prepared import Prepared
from stockade.identity.storage.schema import api_keys, client_secrets, clients

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

MAX_SECRETS = 2
# Holds the tokens whose revocation gateways measure (endpoints/canary.py). Nobody can prove to be it.
CANARY_CLIENT_ID = "c_stockade_canary"


class AuthMethod(StrEnum):
    """How a client proves who it is at the token endpoint: exactly the registered one is accepted."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 - RFC 7591's name of the method
    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS_CLIENT_AUTH = "tls_client_auth"
    SELF_SIGNED_TLS_CLIENT_AUTH = "self_signed_tls_client_auth"
    NONE = "none"  # a public client, or one that holds API keys only


NO_METADATA = ClientMetadata()


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """A registered client, with the digests of the secrets that are good at the time asked for."""

    client_id: str
    name: str
    auth_method: AuthMethod
    jwks: dict[str, Any] | None
    scopes: tuple[str, ...]
    generation: int
    created_at: int
    disabled_at: int | None
    secret_digests: tuple[bytes, ...] = ()
    metadata: ClientMetadata = NO_METADATA
    registration_digest: bytes | None = None

    @property
    def confidential(self) -> bool:
        """Whether it can prove who it is (RFC 6749 §2.1)."""
        return self.auth_method is not AuthMethod.NONE


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key as the database knows it: everything but the key."""

    key_id: str
    client_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


_WITH_SECRETS = Prepared(
    select(clients, client_secrets.c.digest)
    .outerjoin(
        client_secrets,
        (client_secrets.c.client_id == clients.c.client_id)
        & or_(client_secrets.c.expires_at.is_(None), client_secrets.c.expires_at > bindparam("now")),
    )
    .where(clients.c.client_id == bindparam("client_id"))
)


def find_client(connection: Connection, client_id: str, now: float) -> ClientRecord | None:
    """Look a client up with its live secrets, in one statement whether it exists or not."""
    rows = _WITH_SECRETS.all(connection, {"client_id": client_id, "now": now})
    if not rows:
        return None
    return _client(rows[0], tuple(row.digest for row in rows if row.digest is not None))


def find_client_by_name(connection: Connection, name: str) -> ClientRecord | None:
    """Look a client up by the name the operator gave it; without secrets."""
    row = connection.execute(select(clients).where(clients.c.name == name)).one_or_none()
    return _client(row) if row else None


def list_clients(connection: Connection) -> list[ClientRecord]:
    """All registered clients, by name; without secrets, and without the one that is built in."""
    statement = select(clients).where(clients.c.client_id != CANARY_CLIENT_ID).order_by(clients.c.name)
    return [_client(row) for row in connection.execute(statement)]


def read_self_signed(connection: Connection) -> list[dict[str, Any]]:
    """JWK Sets of the clients that prove themselves by a certificate of their own (RFC 8705 §2.2)."""
    statement = select(clients.c.jwks).where(
        clients.c.auth_method == AuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH.value,
        clients.c.disabled_at.is_(None),
        clients.c.jwks.is_not(None),
    )
    return [json.loads(text) for text in connection.execute(statement).scalars()]


def insert_client(connection: Connection, record: ClientRecord) -> None:
    """Register a client. Raises IntegrityError when the name or id is taken."""
    connection.execute(
        insert(clients).values(
            client_id=record.client_id,
            name=record.name,
            auth_method=record.auth_method.value,
            jwks=None if record.jwks is None else json.dumps(record.jwks),
            scopes=" ".join(record.scopes),
            generation=record.generation,
            created_at=record.created_at,
            disabled_at=record.disabled_at,
            metadata=record.metadata.model_dump_json(exclude_defaults=True),
            registration_digest=record.registration_digest,
        )
    )


def update_client(connection: Connection, record: ClientRecord) -> None:
    """Replace what is registered; the generation stays. Raises IntegrityError when the name is taken."""
    connection.execute(
        update(clients)
        .where(clients.c.client_id == record.client_id)
        .values(
            name=record.name,
            auth_method=record.auth_method.value,
            jwks=None if record.jwks is None else json.dumps(record.jwks),
            scopes=" ".join(record.scopes),
            metadata=record.metadata.model_dump_json(exclude_defaults=True),
            registration_digest=record.registration_digest,
        )
    )


def set_disabled(connection: Connection, client_id: str, now: int | None) -> None:
    """Disable (`now`) or enable (None). Disabling starts a new generation: tokens of the old one are dead for good."""
    changes: dict[str, Any] = {"disabled_at": now}
    if now is not None:
        changes["generation"] = clients.c.generation + 1
    connection.execute(update(clients).where(clients.c.client_id == client_id).values(changes))


def add_secret(connection: Connection, client_id: str, digest: bytes, now: int) -> None:
    """Store the digest of a new secret."""
    connection.execute(insert(client_secrets).values(digest=digest, client_id=client_id, created_at=now))


def retire_secrets(connection: Connection, client_id: str, expires_at: int | None) -> None:
    """Let the newest secret hold until `expires_at` and drop the others; None drops them all."""
    newest = (
        select(client_secrets.c.digest)
        .where(client_secrets.c.client_id == client_id)
        .order_by(client_secrets.c.created_at.desc())
        .limit(MAX_SECRETS - 1)
    )
    kept = [] if expires_at is None else list(connection.execute(newest).scalars())
    connection.execute(
        delete(client_secrets).where(client_secrets.c.client_id == client_id, client_secrets.c.digest.not_in(kept))
    )
    connection.execute(update(client_secrets).where(client_secrets.c.digest.in_(kept)).values(expires_at=expires_at))


def insert_api_key(connection: Connection, record: ApiKeyRecord, digest: bytes) -> None:
    """Store an API key's digest and what it may do."""
    connection.execute(
        insert(api_keys).values(
            digest=digest,
            key_id=record.key_id,
            client_id=record.client_id,
            name=record.name,
            scopes=" ".join(record.scopes),
            created_at=record.created_at,
            expires_at=record.expires_at,
        )
    )


def list_api_keys(connection: Connection, client_id: str | None = None) -> list[ApiKeyRecord]:
    """API keys, of one client or of all, oldest first."""
    statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    if client_id is not None:
        statement = statement.where(api_keys.c.client_id == client_id)
    return [_api_key(row) for row in connection.execute(statement)]


def _client(row: Row[Any], secret_digests: tuple[bytes, ...] = ()) -> ClientRecord:
    return ClientRecord(
        client_id=row.client_id,
        name=row.name,
        auth_method=AuthMethod(row.auth_method),
        jwks=None if row.jwks is None else json.loads(row.jwks),
        scopes=tuple(row.scopes.split()),
        generation=row.generation,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        secret_digests=secret_digests,
        metadata=read_metadata(row.metadata),
        registration_digest=row.registration_digest,
    )


def read_metadata(text: str) -> ClientMetadata:
    """Parse what the database holds. A newer program's word that this one does not know must not be ignored."""
    try:
        return _parsed_metadata(text)
    except ValidationError:
        raise StorageUnavailable("a client's metadata in the database cannot be read") from None


@lru_cache(maxsize=4_096)
def _parsed_metadata(text: str) -> ClientMetadata:
    return ClientMetadata.model_validate_json(text)


def _api_key(row: Row[Any]) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id=row.key_id,
        client_id=row.client_id,
        name=row.name,
        scopes=tuple(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
