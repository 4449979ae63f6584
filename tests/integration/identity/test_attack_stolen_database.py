"""A thief has the whole database, and not the key-encryption key: nothing in it lets him in anywhere.

Every kind of credential is in use. Then every table is dumped, and every value is tried at every door, as it stands
and dressed up as each kind of credential.
"""

from __future__ import annotations

import hmac
import itertools
import secrets
import time
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha1, sha256, sha512
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from code_support import Attempt, Someone, application, code_of, refresh
from identity_support import basic, credentials, introspect, token_for
from sqlalchemy import MetaData, select

from stockade.identity.admin_people import create_user
from stockade.identity.admin_registration import create_initial_access_token
from stockade.identity.clients_metadata import ClientMetadata
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.credentials import Kind, _checksum
from stockade.identity.keys.derive import ROOT_NAME, ensure_derived_keys
from stockade.identity.keys.seal import load_seal, read_key_file
from stockade.identity.mfa import recovery, totp
from stockade.identity.people.cookies import BROWSER, SESSION
from stockade.identity.storage.recovery import replace_codes
from stockade.identity.storage.schema import meta, signing_keys
from stockade.identity.storage.totp import replace_totp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_support import Server

    from stockade.identity.admin import CreatedClient

PASSWORD = "seven-green-kettles"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SETTINGS = {
    "registration": "initial_access_token",
    "throttling": {
        "client_burst": 10**6, "address_burst": 10**6,
        "people": {f"{of}_burst": 10**6 for of in ("pair", "network", "name", "device", "code")},
    },
    "scopes": ["orders:read", "openid", "offline_access"],
    "connections": {"max_per_address": 1_000},
}  # fmt: skip


@dataclass
class World:
    """What the honest hold. `short`: secrets that could be guessed from a plain digest."""

    server: Server
    machine: CreatedClient
    app: CreatedClient
    username: str
    secrets: dict[str, str] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, internal_certificates: Any, public_certificates: Any
) -> Iterator[World]:
    from identity_support import Server

    folder = tmp_path_factory.mktemp("stolen")
    with Server(folder, internal_certificates, public_certificates, SETTINGS) as server:
        yield live(server)


def live(server: Server) -> World:
    machine = server.client("machine", api_key=True)
    world = World(server, machine, application(server, "app"), "ann")
    assert machine.client_secret is not None
    assert machine.api_key is not None
    world.secrets |= {"client secret": machine.client_secret, "API key": machine.api_key.api_key}
    with server.outside() as http:
        world.secrets["access token"] = token_for(http, machine)
        use_codes(world, http)
        use_devices(world, http)
        use_registration(world, http)
    use_people(world)
    take_keys(world)
    return world


def use_codes(world: World, http: httpx.Client) -> None:
    someone, attempt = Someone(world.server, http), Attempt(world.app.client_id)
    someone.sign_in()
    scope = "openid offline_access orders:read"
    tokens = attempt.redeem(http, world.app, code_of(someone.open(attempt.url(scope=scope)))).json()
    fresh = refresh(http, world.app, tokens["refresh_token"]).json()
    used = code_of(someone.open(Attempt(world.app.client_id).url()))
    pushed = http.post("/oauth2/par", data=Attempt(world.app.client_id).parameters(), headers=credentials(world.app))
    waiting = someone.open(Attempt(world.app.client_id).url(prompt="login")).headers["location"]
    world.secrets |= {
        "access token of a person": tokens["access_token"],
        "ID token": tokens["id_token"],
        "replaced refresh token": tokens["refresh_token"],
        "refresh token": fresh["refresh_token"],
        "authorization code": used,
        "pushed request": pushed.json()["request_uri"].rpartition(":")[2],
        "interaction": dict(parse_qsl(urlsplit(waiting).query))["i"],
        "session": str(http.cookies[SESSION]),
        "browser": str(http.cookies[BROWSER]),
        "code verifier": attempt.verifier,
    }


def use_devices(world: World, http: httpx.Client) -> None:
    described = ClientMetadata(grant_types=(DEVICE,))
    device = world.server.client("tv", ("orders:read",), auth_method="none", metadata=described)
    answer = http.post("/oauth2/device_authorization", data={"client_id": device.client_id}).json()
    world.secrets["device code"] = answer["device_code"]
    world.short["user code"] = answer["user_code"]


def use_registration(world: World, http: httpx.Client) -> None:
    with world.server.storage() as storage:
        made = create_initial_access_token(storage, "partner", ("orders:read",), ("client_credentials",), uses=5)
    document = {"grant_types": ["client_credentials"], "scope": "orders:read"}
    headers = {"Authorization": f"Bearer {made.initial_access_token}"}
    registered = http.post("/oauth2/register", json=document, headers=headers).json()
    world.secrets |= {
        "initial access token": made.initial_access_token,
        "registration access token": registered["registration_access_token"],
        "registered secret": registered["client_secret"],
    }


def use_people(world: World) -> None:
    seal = load_seal(KeyEncryptionKey(file=world.server.folder / "kek"))
    code, secret = recovery._new_code(), secrets.token_bytes(20)
    with world.server.storage() as storage:
        user = create_user(storage, world.username, PASSWORD)
        derived = ensure_derived_keys(storage, seal)
        with storage.write() as connection:
            replace_codes(connection, user.user_id, [recovery._digest(derived, user.user_id, code)], int(time.time()))
            replace_totp(connection, user.user_id, seal.close(secret, totp._bound_to(user.user_id)), 0, 0)
    world.raw["TOTP secret"] = secret
    world.short |= {"recovery code": code, "password": PASSWORD}


def take_keys(world: World) -> None:
    seal = load_seal(KeyEncryptionKey(file=world.server.folder / "kek"))
    (world.raw["key-encryption key"],) = read_key_file(world.server.folder / "kek")
    with world.server.storage() as storage, storage.read() as connection:
        root = connection.execute(select(meta.c.value).where(meta.c.name == ROOT_NAME)).scalar_one()
        world.raw["derivation root"] = seal.open(b64decode(root), ROOT_NAME)
        for row in connection.execute(select(signing_keys)):
            private = seal.open(row.sealed_private_key, row.kid)
            world.raw[f"signing key {row.kid}"] = unpadded(private.partition(b'"d":')[2].split(b'"')[1].decode())


def unpadded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def dump(server: Server) -> dict[tuple[str, str], list[Any]]:
    """Every value of every column of every table that there is, by table and column."""
    found: dict[tuple[str, str], list[Any]] = {}
    with server.storage() as storage, storage.read() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.tables.values():
            for row in connection.execute(select(table)).mappings():
                for name, value in row.items():
                    found.setdefault((table.name, str(name)), []).append(value)
    return found


def values(server: Server) -> list[str | bytes]:
    """What could be a secret: not numbers, each once."""
    found = {value for column in dump(server).values() for value in column if isinstance(value, str | bytes)}
    return sorted(found, key=str)


def spellings(secret: bytes) -> set[bytes]:
    """How bytes could be written."""
    return {
        secret, secret.hex().encode(), b64encode(secret), b64encode(secret).rstrip(b"="),
        urlsafe_b64encode(secret).rstrip(b"="),
    }  # fmt: skip


def test_no_secret_stands_in_the_database_or_its_journal(world: World) -> None:
    files = b"".join(path.read_bytes() for path in world.server.folder.glob("identity.db*"))
    rows = b"\n".join(value.encode() if isinstance(value, str) else value for value in values(world.server))
    for place in (files, rows):
        assert b"c_" in place
        for name, text in (world.secrets | world.short).items():
            assert text.encode() not in place, name
            body = text.split("_", 2)[-1][:43]
            if text.startswith("stk_"):
                assert not any(spelling in place for spelling in spellings(unpadded(body))), name
        for name, raw in world.raw.items():
            assert not any(spelling in place for spelling in spellings(raw)), name


def test_what_is_short_cannot_be_guessed_from_what_is_stored(world: World) -> None:
    """No digest of it that needs no key stands there, nor one keyed with anything that stands there."""
    stored = [value if isinstance(value, bytes) else value.encode() for value in values(world.server)]
    place = b"\n".join(stored)
    for name, text in world.short.items():
        for form in {text, text.replace("-", ""), text.lower(), text.upper(), text.replace("-", "").lower()}:
            for algorithm in (sha1, sha256, sha512):
                assert not any(one in place for one in spellings(algorithm(form.encode()).digest())), name
            for key in stored:
                assert not any(one in place for one in spellings(hmac.new(key, form.encode(), sha256).digest())), name


def test_every_kind_of_credential_was_in_use(world: World) -> None:
    """Or the tests here would not mean much."""
    found = dump(world.server)
    for table in (
        "access_tokens", "refresh_tokens", "authorization_codes", "pushed_requests", "device_codes", "client_secrets",
        "api_keys", "initial_access_tokens", "interactions", "sessions", "recovery_codes", "totp_secrets",
        "signing_keys",
    ):  # fmt: skip
        assert any(name == table for name, _ in found), table
    prefixes = {text[:6] for text in world.secrets.values() if text.startswith("stk_")}
    assert prefixes == {kind.value for kind in Kind}


def guesses(world: World) -> list[str]:
    """Each value as it stands, written out, and dressed as each kind of credential."""
    found: set[str] = set()
    for value in values(world.server):
        plain = {value} if isinstance(value, str) else {value.hex(), urlsafe_b64encode(value).rstrip(b"=").decode()}
        found |= {text for text in plain if 6 <= len(text) < 500 and text.isprintable() and text.isascii()}
        if isinstance(value, bytes) and len(value) == 32:
            bodies = [f"{kind.value}_{urlsafe_b64encode(value).rstrip(b'=').decode()}" for kind in Kind]
            found |= {body + _checksum(body) for body in bodies}
    return sorted(found)


def doors(world: World) -> Iterator[tuple[str, Any]]:
    """Each opens for the right secret (see the test below), and is tried with every guess."""
    server, app, machine = world.server, world.app, world.machine
    yield "client secret", lambda http, text: token(http, basic(machine.client_id, text))
    yield "refresh token", lambda http, text: refresh(http, app, text).status_code == 200
    yield "authorization code", lambda http, text: Attempt(app.client_id).redeem(http, app, text).status_code == 200
    device = {"grant_type": DEVICE, "client_id": named(server, "tv")}
    yield "device code", lambda http, text: device_known(http, {**device, "device_code": text})
    yield "userinfo", lambda http, text: http.get("/oauth2/userinfo", headers=bearer(text)).status_code == 200
    yield "initial access token", register
    yield "registration access token", lambda http, text: managed(http, server, text)
    yield "pushed request", lambda http, text: pushed_known(http, app, text)
    yield "session", signed_in
    yield "password", lambda http, text: password_taken(http, world.username, text)


def token(http: httpx.Client, headers: dict[str, str]) -> bool:
    answer = http.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=headers)
    return answer.status_code == 200


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def named(server: Server, name: str) -> str:
    from stockade.identity import admin

    with server.storage() as storage:
        return admin.show_client(storage, name).client_id


def device_known(http: httpx.Client, form: dict[str, str]) -> bool:
    """Whether the code exists: it would only wait for its user."""
    return bool(http.post("/oauth2/token", data=form).json().get("error") in ("authorization_pending", "slow_down"))


def register(http: httpx.Client, text: str) -> bool:
    document = {"grant_types": ["client_credentials"], "scope": "orders:read"}
    return http.post("/oauth2/register", json=document, headers=bearer(text)).status_code == 201


def managed(http: httpx.Client, server: Server, text: str) -> bool:
    with server.storage() as storage:
        from stockade.identity import admin

        dynamic = [one.client_id for one in admin.list_clients(storage) if one.metadata.registered_by == "dynamic"]
    return any(http.get(f"/oauth2/register/{one}", headers=bearer(text)).status_code == 200 for one in dynamic)


def pushed_known(http: httpx.Client, app: CreatedClient, text: str) -> bool:
    uri = text if text.startswith("urn:") else f"urn:ietf:params:oauth:request_uri:{text}"
    query = {"client_id": app.client_id, "request_uri": uri}
    answer = http.get("/oauth2/authorize", params=query, follow_redirects=False)
    return answer.status_code == 303


def signed_in(http: httpx.Client, text: str) -> bool:
    answer = http.get("/account", headers={"Cookie": f"{SESSION}={text}; {BROWSER}={text}"}, follow_redirects=False)
    return answer.status_code == 200


def password_taken(http: httpx.Client, username: str, text: str) -> bool:
    """A right password leads on to the second factor."""
    from pages.pages_support import form_to, send

    answer = send(http, form_to(http.get("/sign-in"), "/sign-in"), username=username, password=text)
    return answer.status_code in (200, 303) and "second" in (answer.headers.get("location", "") + answer.text)


def test_nothing_in_the_database_opens_a_door(world: World) -> None:
    found = guesses(world)
    assert len(found) > 100
    tried = 0
    with ThreadPoolExecutor(3) as pool:
        for name, door in doors(world):
            # Argon2 is slow on purpose, and the text of a hash is what a thief would try as a password.
            wanted = [text for text in found if "argon2" in text or "$" in text] if name == "password" else found
            opened = list(pool.map(lambda part, door=door: attack(world, door, part), chunks(wanted, 3)))
            assert list(itertools.chain(*opened)) == [], name
            tried += len(wanted)
    assert tried > 1_000
    with world.server.gateway() as gateway:
        for text in found:
            if len(text) < 100:
                assert introspect(gateway, text) == {"active": False}, text


def attack(world: World, door: Any, part: list[str]) -> list[str]:
    with world.server.outside() as http:
        return [text for text in part if door(http, text)]


def chunks(items: list[str], count: int) -> list[list[str]]:
    return [items[start::count] for start in range(count)]


def test_each_door_opens_for_whom_it_should(world: World) -> None:
    """Last, since some of it is good once: a door that never opens would prove nothing."""
    right = {**world.secrets, "userinfo": world.secrets["access token of a person"], "password": PASSWORD}
    with world.server.outside() as http:
        for name, door in doors(world):
            if name == "authorization code":
                continue  # its verifier is the application's
            assert door(http, right[name]), name
    with world.server.gateway() as gateway:
        assert introspect(gateway, world.secrets["access token"])["active"]
