"""Administration: the operations behind `stockade client`, `stockade token` and `stockade keys`.

Each takes an open Storage and works whether a server runs or not: a running server sees revocations within a tenth
of a second and keys within a few. A client is named by its id or its name. Secrets are returned once, in fields that
stay out of every repr. Raises AdministrationError for what cannot be done as asked, StorageUnavailable
when the database cannot.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from stockade.errors import StateError
from stockade.identity.client_auth.private_key_jwt import ALGORITHMS
from stockade.identity.config import scope_token
from stockade.identity.credentials import Kind, digest, generate, kind_of
from stockade.identity.errors import AdministrationError, KeysUnavailable
from stockade.identity.jose import InvalidTokenError, import_public_keys
from stockade.identity.keys.keyring import rotate
from stockade.identity.storage import clients as table
from stockade.identity.storage.clients import ApiKeyRecord, AuthMethod, ClientRecord
from stockade.identity.storage.revocations import record_client_revocation
from stockade.identity.storage.signing_keys import read_signing_keys
from stockade.identity.storage.tokens import StoredCredential, api_key_digest, find_credential, revoke_credential

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from stockade.identity.keys.seal import Seal
    from stockade.identity.storage import Storage

_MAX_NAME_CHARS = 128
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class CreatedApiKey:
    """An API key, shown once."""

    key_id: str
    client_id: str
    name: str
    scopes: tuple[str, ...]
    expires_at: int | None
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedClient:
    """A new client. `client_secret` (for `client_secret_basic`) and `api_key` (when asked for) are shown once."""

    client_id: str
    name: str
    auth_method: AuthMethod
    scopes: tuple[str, ...]
    client_secret: str | None = field(repr=False)
    api_key: CreatedApiKey | None


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client with its API keys; no secret can be shown again. Times are NumericDate."""

    client_id: str
    name: str
    auth_method: AuthMethod
    scopes: tuple[str, ...]
    created_at: int
    disabled_at: int | None
    api_keys: tuple[ApiKeyRecord, ...]


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A published signing key. `state` is `next`, `current` or `previous`, `since` the NumericDate it became that."""

    kid: str
    algorithm: str
    state: str
    since: int


def create_client(
    storage: Storage,
    name: str,
    scopes: Sequence[str],
    auth_method: AuthMethod | str = AuthMethod.CLIENT_SECRET_BASIC,
    jwks: Mapping[str, Any] | None = None,
    *,
    api_key: bool = False,
) -> CreatedClient:
    """Register a client. `jwks` is a JWK Set (RFC 7517) of public keys, for `private_key_jwt` and only for it."""
    method = _auth_method(auth_method)
    record = ClientRecord(
        client_id=f"c_{secrets.token_hex(10)}",
        name=_name(name),
        auth_method=method,
        jwks=_jwks(method, jwks),
        scopes=_scopes(scopes),
        generation=0,
        created_at=int(time.time()),
        disabled_at=None,
    )
    secret = generate(Kind.CLIENT_SECRET) if method is AuthMethod.CLIENT_SECRET_BASIC else None
    try:
        with storage.write() as connection:
            table.insert_client(connection, record)
            if secret is not None:
                table.add_secret(connection, record.client_id, digest(secret), record.created_at)
            key = _add_api_key(connection, record, record.name, record.scopes, None) if api_key else None
    except IntegrityError as error:
        raise AdministrationError(f"a client named `{name}` exists", hint="choose another name") from error
    return CreatedClient(record.client_id, record.name, method, record.scopes, secret, key)


def list_clients(storage: Storage) -> list[ListedClient]:
    """All clients by name, each with its API keys."""
    with storage.read() as connection:
        records, keys = table.list_clients(connection), table.list_api_keys(connection)
    return [
        ListedClient(
            client_id=record.client_id,
            name=record.name,
            auth_method=record.auth_method,
            scopes=record.scopes,
            created_at=record.created_at,
            disabled_at=record.disabled_at,
            api_keys=tuple(key for key in keys if key.client_id == record.client_id),
        )
        for record in records
    ]


def disable_client(storage: Storage, client: str) -> int:
    """Stop a client: it can prove nothing, its API keys sleep, and every token it has is dead for good.

    Gateways hear of it through the revocation log; its number is returned.
    """
    now = time.time()
    with storage.write() as connection:
        record = _find(connection, client)
        table.set_disabled(connection, record.client_id, int(now))
        return record_client_revocation(connection, record.client_id, now)


def enable_client(storage: Storage, client: str) -> None:
    """Let a client work again with its secrets, keys and API keys. Tokens from before stay dead."""
    with storage.write() as connection:
        record = _find(connection, client)
        table.set_disabled(connection, record.client_id, None)


def rotate_client_secret(storage: Storage, client: str, overlap_seconds: int = 0) -> str:
    """Give a client a new secret, returned once. The last one goes on for `overlap_seconds`; tokens stay good."""
    if overlap_seconds < 0:
        raise AdministrationError("the overlap must not be negative")
    now = int(time.time())
    secret = generate(Kind.CLIENT_SECRET)
    with storage.write() as connection:
        record = _find(connection, client)
        if record.auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
            raise AdministrationError(f"client `{record.name}` has no secret, it uses `{record.auth_method.value}`")
        table.retire_secrets(connection, record.client_id, now + overlap_seconds if overlap_seconds else None)
        table.add_secret(connection, record.client_id, digest(secret), now)
    return secret


def create_api_key(
    storage: Storage,
    client: str,
    scopes: Sequence[str] | None = None,
    name: str | None = None,
    expires_in_seconds: int | None = None,
) -> CreatedApiKey:
    """Make an API key for a client, with all of its scopes or some. Without an expiry it holds until revoked."""
    if expires_in_seconds is not None and expires_in_seconds <= 0:
        raise AdministrationError("the expiry must lie in the future")
    expires_at = None if expires_in_seconds is None else int(time.time()) + expires_in_seconds
    with storage.write() as connection:
        record = _find(connection, client)
        wanted = record.scopes if scopes is None else _scopes(scopes)
        if extra := sorted(set(wanted) - set(record.scopes)):
            raise AdministrationError(f"client `{record.name}` does not have the scope `{extra[0]}`")
        return _add_api_key(connection, record, _name(name or record.name), wanted, expires_at)


def revoke_token(storage: Storage, credential: str) -> bool:
    """Revoke an access token or API key, given itself or, for an API key, by its id. False: there was nothing to do."""
    with storage.write() as connection:
        kind = kind_of(credential)
        if kind is None:
            found = api_key_digest(connection, credential)
            return found is not None and revoke_credential(connection, Kind.API_KEY, found, time.time()) is not None
        return revoke_credential(connection, kind, digest(credential), time.time()) is not None


def introspect(storage: Storage, credential: str) -> StoredCredential | None:
    """Everything known of an access token or API key and where it stands; None when it is unknown or malformed."""
    kind = kind_of(credential)
    if kind is None:
        return None
    with storage.read() as connection:
        return find_credential(connection, kind, digest(credential), time.time())


def list_keys(storage: Storage) -> list[ListedKey]:
    """The signing keys, oldest first; the private halves stay sealed. Empty before the server first ran."""
    with storage.read() as connection:
        rows = read_signing_keys(connection)
    return [
        ListedKey(row.kid, row.algorithm, row.state.value, row.retired_at or row.activated_at or row.created_at)
        for row in rows
    ]


def rotate_keys(storage: Storage, seal: Seal, overlap_seconds: int = 86_400) -> None:
    """Put the next signing key in force at once. With an overlap of 0 the old one leaves the JWKS as well."""
    try:
        with storage.write() as connection:
            rotate(connection, seal, int(time.time()), overlap_seconds)
    except KeysUnavailable as error:
        raise StateError(f"the signing keys cannot be rotated: {error.reason}") from error


def _find(connection: Connection, client: str) -> ClientRecord:
    record = table.find_client(connection, client, time.time()) or table.find_client_by_name(connection, client)
    if record is None:
        raise AdministrationError(f"no client `{client}`", hint="list them with `stockade client list`")
    return record


def _add_api_key(
    connection: Connection, client: ClientRecord, name: str, scopes: tuple[str, ...], expires_at: int | None
) -> CreatedApiKey:
    key = generate(Kind.API_KEY)
    record = ApiKeyRecord(
        key_id=f"k_{secrets.token_hex(10)}",
        client_id=client.client_id,
        name=name,
        scopes=scopes,
        created_at=int(time.time()),
        expires_at=expires_at,
        revoked_at=None,
    )
    table.insert_api_key(connection, record, digest(key))
    return CreatedApiKey(record.key_id, record.client_id, name, scopes, expires_at, key)


def _auth_method(value: AuthMethod | str) -> AuthMethod:
    try:
        return AuthMethod(value)
    except ValueError:
        known = ", ".join(f"`{method.value}`" for method in AuthMethod)
        raise AdministrationError(f"unknown authentication method `{value}`", hint=f"use one of {known}") from None


def _name(value: str) -> str:
    if not 0 < len(value) <= _MAX_NAME_CHARS or not value.isprintable():
        raise AdministrationError(f"a name has 1 to {_MAX_NAME_CHARS} printable characters")
    return value


def _scopes(values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        try:
            scope_token(value)
        except ValueError as error:
            raise AdministrationError(f"scope `{value}` {error}") from error
    return tuple(dict.fromkeys(values))


def _jwks(method: AuthMethod, jwks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Keep public signature keys only: a private key has no business here."""
    if method is not AuthMethod.PRIVATE_KEY_JWT:
        if jwks is not None:
            raise AdministrationError("a JWK Set goes with `private_key_jwt` only")
        return None
    entries = (jwks or {}).get("keys")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise AdministrationError("`private_key_jwt` needs a JWK Set with at least one key")
    if any(_PRIVATE_MEMBERS & entry.keys() for entry in entries):
        raise AdministrationError("the JWK Set holds a private key", hint="register public keys only")
    try:
        keys = import_public_keys({"keys": entries}, ALGORITHMS)
    except InvalidTokenError as error:
        raise AdministrationError(f"the JWK Set cannot be used: {error}") from error
    if len(keys) != len(entries):
        raise AdministrationError(
            "the JWK Set has a key that cannot be used",
            hint="use P-256, Ed25519, or RSA from 2048 bits, for signatures, each with its own `kid`",
        )
    return {"keys": [key.as_dict(private=False) for key in keys]}
