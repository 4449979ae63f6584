"""Administration: the operations behind `stockade client`, `stockade token` and `stockade keys`.

Each takes an open Storage and works whether a server runs or not: a running server sees revocations within a tenth
of a second and keys within a few. A client is named by its id or its name. Secrets are returned once, in fields that
stay out of every repr. Raises AdministrationError for what cannot be done as asked, StorageUnavailable
when the database cannot.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from stockade.errors import StateError
from stockade.identity.audit import AuditEvent, record
from stockade.identity.client_rules import SUBJECTS, check_keys, require_coherent
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.config import scope_token
from stockade.identity.credentials import Kind, digest, generate, kind_of
from stockade.identity.errors import AdministrationError, KeysUnavailable
from stockade.identity.keys.keyring import rotate
from stockade.identity.keys.reseal import change_key
from stockade.identity.keys.seal import read_key_file
from stockade.identity.storage import clients as table
from stockade.identity.storage.clients import NO_METADATA, ApiKeyRecord, AuthMethod, ClientRecord
from stockade.identity.storage.revocations import record_client_revocation
from stockade.identity.storage.signing_keys import read_signing_keys
from stockade.identity.storage.tokens import StoredCredential, api_key_digest, find_credential, revoke_credential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from stockade.identity.keys.seal import Seal
    from stockade.identity.storage import Storage

_MAX_NAME_CHARS = 128


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
    metadata: ClientMetadata = NO_METADATA


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
    metadata: ClientMetadata = NO_METADATA
    jwks: Mapping[str, Any] | None = None


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
    metadata: ClientMetadata | None = None,
) -> CreatedClient:
    """Register a client. `jwks` is a JWK Set (RFC 7517): public keys for `private_key_jwt`, or certificates (`x5c`).

    Without `metadata` it has the grant `client_credentials`, or none where it cannot prove itself.
    """
    method = _auth_method(auth_method)
    if metadata is None:
        metadata = ClientMetadata(grant_types=()) if method is AuthMethod.NONE else ClientMetadata()
    require_coherent(method, metadata)
    client = ClientRecord(
        client_id=f"c_{secrets.token_hex(10)}",
        name=_name(name),
        auth_method=method,
        jwks=check_keys(method, jwks),
        scopes=_scopes(scopes),
        generation=0,
        created_at=int(time.time()),
        disabled_at=None,
        metadata=metadata,
    )
    secret = generate(Kind.CLIENT_SECRET) if method is AuthMethod.CLIENT_SECRET_BASIC else None
    try:
        with storage.write() as connection:
            table.insert_client(connection, client)
            if secret is not None:
                table.add_secret(connection, client.client_id, digest(secret), client.created_at)
            key = _add_api_key(connection, client, client.name, client.scopes, None) if api_key else None
            _note(connection, "client.created", client)
    except IntegrityError as error:
        raise AdministrationError(f"a client named `{name}` exists", hint="choose another name") from error
    return CreatedClient(client.client_id, client.name, method, client.scopes, secret, key, metadata)


@dataclass(frozen=True, slots=True)
class ClientChanges:
    """What to change of a client; None leaves it. `metadata` are fields of ClientMetadata with their new values."""

    name: str | None = None
    scopes: Sequence[str] | None = None
    auth_method: AuthMethod | str | None = None
    jwks: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def update_client(storage: Storage, client: str, changes: ClientChanges) -> tuple[ListedClient, str | None]:
    """Change what is registered. Returns the client, and a secret where it needs one from now on and has none.

    Tokens that it holds stay as they were given; `disable_client` ends them.
    """
    with storage.write() as connection:
        found = _find(connection, client)
        method = found.auth_method if changes.auth_method is None else _auth_method(changes.auth_method)
        metadata = parse_metadata(_kept_metadata(found, method, changes) | dict(changes.metadata))
        require_coherent(method, metadata)
        kept = found.jwks if method is found.auth_method else None
        changed = replace(
            found,
            name=found.name if changes.name is None else _name(changes.name),
            auth_method=method,
            scopes=found.scopes if changes.scopes is None else _scopes(changes.scopes),
            jwks=check_keys(method, kept if changes.jwks is None else changes.jwks),
            metadata=metadata,
        )
        try:
            table.update_client(connection, changed)
        except IntegrityError as error:
            raise AdministrationError(f"a client named `{changed.name}` exists") from error
        secret = _changed_secret(connection, found, method)
        _note(connection, "client.updated", changed)
        return _listed(changed, table.list_api_keys(connection, changed.client_id)), secret


def _kept_metadata(client: ClientRecord, method: AuthMethod, changes: ClientChanges) -> dict[str, Any]:
    """What is registered, without what goes with a method or grant that the client had before."""
    kept = client.metadata.model_dump()
    if method is not client.auth_method:
        kept |= dict.fromkeys(SUBJECTS)
    if "authorization_code" not in changes.metadata.get("grant_types", ("authorization_code",)):
        kept |= {"redirect_uris": (), "post_logout_redirect_uris": ()}
    return kept


def _changed_secret(connection: Connection, before: ClientRecord, method: AuthMethod) -> str | None:
    """A client that no longer uses a secret must not keep one; one that now does needs its first."""
    if method is before.auth_method:
        return None
    table.retire_secrets(connection, before.client_id, None)
    if method is not AuthMethod.CLIENT_SECRET_BASIC:
        return None
    secret = generate(Kind.CLIENT_SECRET)
    table.add_secret(connection, before.client_id, digest(secret), int(time.time()))
    return secret


def parse_metadata(values: Mapping[str, Any]) -> ClientMetadata:
    """Check the single values. Raises AdministrationError that names the first that is wrong."""
    try:
        return ClientMetadata.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        value = first["input"] if isinstance(first["input"], str) else first["loc"][0]
        problem = first.get("ctx", {}).get("error", first["msg"].lower())
        raise AdministrationError(f"{first['loc'][0]}: `{value}` {problem}") from error


def show_client(storage: Storage, client: str) -> ListedClient:
    """One client with all that is registered of it."""
    with storage.read() as connection:
        found = _find(connection, client)
        return _listed(found, table.list_api_keys(connection, found.client_id))


def list_clients(storage: Storage) -> list[ListedClient]:
    """All clients by name, each with its API keys."""
    with storage.read() as connection:
        records, keys = table.list_clients(connection), table.list_api_keys(connection)
    return [_listed(client, [key for key in keys if key.client_id == client.client_id]) for client in records]


def disable_client(storage: Storage, client: str, by: str = "operator") -> int:
    """Stop a client: it can prove nothing, its API keys sleep, and every token it has is dead for good.

    Gateways hear of it through the revocation log; its number is returned.
    """
    now = time.time()
    with storage.write() as connection:
        found = _find(connection, client)
        table.set_disabled(connection, found.client_id, int(now))
        _note(connection, "client.disabled", found, by)
        return record_client_revocation(connection, found.client_id, now)


def enable_client(storage: Storage, client: str, by: str = "operator") -> None:
    """Let a client work again with its secrets, keys and API keys. Tokens from before stay dead."""
    with storage.write() as connection:
        found = _find(connection, client)
        table.set_disabled(connection, found.client_id, None)
        _note(connection, "client.enabled", found, by)


def rotate_client_secret(storage: Storage, client: str, overlap_seconds: int = 0) -> str:
    """Give a client a new secret, returned once. The last one goes on for `overlap_seconds`; tokens stay good."""
    if overlap_seconds < 0:
        raise AdministrationError("the overlap must not be negative")
    now = int(time.time())
    secret = generate(Kind.CLIENT_SECRET)
    with storage.write() as connection:
        found = _find(connection, client)
        if found.auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
            raise AdministrationError(f"client `{found.name}` has no secret, it uses `{found.auth_method.value}`")
        table.retire_secrets(connection, found.client_id, now + overlap_seconds if overlap_seconds else None)
        table.add_secret(connection, found.client_id, digest(secret), now)
        _note(connection, "client.secret_rotated", found)
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
        found = _find(connection, client)
        wanted = found.scopes if scopes is None else _scopes(scopes)
        if extra := sorted(set(wanted) - set(found.scopes)):
            raise AdministrationError(f"client `{found.name}` does not have the scope `{extra[0]}`")
        _note(connection, "client.api_key_created", found)
        return _add_api_key(connection, found, _name(name or found.name), wanted, expires_at)


def revoke_token(storage: Storage, credential: str, by: str = "operator") -> bool:
    """Revoke an access token or API key, given itself or, for an API key, by its id. False: there was nothing to do."""
    now = time.time()
    with storage.write() as connection:
        kind = kind_of(credential) or Kind.API_KEY
        found = digest(credential) if kind_of(credential) else api_key_digest(connection, credential)
        known = None if found is None else find_credential(connection, kind, found, now)
        if found is None or known is None or revoke_credential(connection, kind, found, now) is None:
            return False
        who = known.authorization
        event = AuditEvent("token.revoked", who.user_id, known.client_id, who.session_id, detail={"by": by})
        record(connection, event, now)
        return True


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
            record(connection, AuditEvent("keys.rotated"), time.time())
    except KeysUnavailable as error:
        raise StateError(f"the signing keys cannot be rotated: {error.reason}") from error


def change_key_encryption_key(storage: Storage, file: Path, new_file: Path, wait: Callable[[], None]) -> int:
    """Seal everything with the key in `new_file`, which then stands in `file`. Returns how many secrets there were.

    `wait` lets running servers finish (keys/reseal.py). Raises StateError: the old key still opens everything.
    """
    new = read_key_file(new_file)
    if len(new) != 1:
        raise StateError(f"`{new_file}` must hold one key")
    count = change_key(storage, file, new[0], wait)
    with storage.write() as connection:
        record(connection, AuditEvent("keys.resealed", detail={"secrets": count}), time.time())
    return count


def _find(connection: Connection, client: str) -> ClientRecord:
    found = table.find_client(connection, client, time.time()) or table.find_client_by_name(connection, client)
    if found is None:
        raise AdministrationError(f"no client `{client}`", hint="list them with `stockade client list`")
    return found


def _listed(client: ClientRecord, api_keys: Sequence[ApiKeyRecord]) -> ListedClient:
    return ListedClient(
        client_id=client.client_id,
        name=client.name,
        auth_method=client.auth_method,
        scopes=client.scopes,
        created_at=client.created_at,
        disabled_at=client.disabled_at,
        api_keys=tuple(api_keys),
        metadata=client.metadata,
        jwks=client.jwks,
    )


def _note(connection: Connection, kind: str, client: ClientRecord, by: str = "operator") -> None:
    """Into the audit record, with the deed."""
    event = AuditEvent(kind, client_id=client.client_id, detail={"name": client.name, "by": by})
    record(connection, event, time.time())


def _add_api_key(
    connection: Connection, client: ClientRecord, name: str, scopes: tuple[str, ...], expires_at: int | None
) -> CreatedApiKey:
    key = generate(Kind.API_KEY)
    made = ApiKeyRecord(
        key_id=f"k_{secrets.token_hex(10)}",
        client_id=client.client_id,
        name=name,
        scopes=scopes,
        created_at=int(time.time()),
        expires_at=expires_at,
        revoked_at=None,
    )
    table.insert_api_key(connection, made, digest(key))
    return CreatedApiKey(made.key_id, made.client_id, name, scopes, expires_at, key)


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
