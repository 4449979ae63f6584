"""The people's part of a server without its listeners: real database, real keys, browsers as cookie jars."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from starlette.requests import Request

from stockade.identity import admin_people
from stockade.identity.client_auth.throttle import Throttle
from stockade.identity.config import Config
from stockade.identity.keys.derive import ensure_derived_keys
from stockade.identity.keys.keyring import ensure_keys
from stockade.identity.keys.seal import Seal
from stockade.identity.observability import Metrics
from stockade.identity.people.cookies import Cookie, new_browser
from stockade.identity.people.passwords import Passwords
from stockade.identity.revocation_feed import RevocationFeed
from stockade.identity.services import Services
from stockade.identity.storage import Storage, open_storage
from stockade.identity.storage.lanes import Lanes
from stockade.identity.storage.users import UserRecord, find_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from sqlalchemy import Connection

PASSWORD = "seven-green-kettles"
START = 1_800_000_000.0
# As little work as argon2 allows: what it costs is not what is tested here.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """Services on a database of their own."""

    services: Services
    storage: Storage
    clock: Clock

    def user(self, username: str = "alice", password: str | None = PASSWORD, **options: Any) -> UserRecord:
        return admin_people.create_user(
            self.storage, username, password, passwords=self.services.passwords, must_change=False, **options
        )

    def fresh(self, user: UserRecord) -> UserRecord:
        with self.storage.read() as connection:
            found = find_user(connection, user.user_id)
        assert found is not None
        return found

    def read(self, work: Callable[[Connection], Any]) -> Any:
        with self.storage.read() as connection:
            return work(connection)


@dataclass
class Browser:
    """Keeps cookies and makes requests."""

    address: str = "192.0.2.7"
    agent: str = "Test/1.0"
    cookies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.take(new_browser())

    @property
    def request(self) -> Request:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = [(b"user-agent", self.agent.encode()), (b"cookie", cookie.encode())]
        return Request({"type": "http", "method": "POST", "headers": headers, "client": (self.address, 40_000)})

    def take(self, *cookies: Cookie) -> None:
        """As a browser does: by what the header says."""
        for cookie in cookies:
            parsed = SimpleCookie(cookie.header)
            for name, morsel in parsed.items():
                assert morsel["secure"]
                assert morsel["httponly"]
                assert morsel["path"] == "/"
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


def config_for(folder: Path, **changes: Any) -> Config:
    listener = {"certificate": "c", "key": "k"}
    return Config.model_validate(
        {
            "database_url": f"sqlite:///{folder / 'identity.db'}",
            "issuer": "https://id.example.com",
            "audiences": ["https://api.example.com"],
            "internal_audience": "http://127.0.0.1:9000",
            "public": listener,
            "internal": {**listener, "ca": "ca"},
            "key_encryption_key": {"file": "kek"},
            **changes,
        }
    )


@asynccontextmanager
async def world(folder: Path, *, seal: Seal | None = None, **changes: Any) -> AsyncIterator[World]:
    config, clock, seal = config_for(folder, **changes), Clock(), seal or Seal(secrets.token_bytes(32))
    with open_storage(config.database_url) as storage:
        lanes, metrics = Lanes(storage), Metrics()
        services = Services(
            config=config,
            lanes=lanes,
            keyring=ensure_keys(storage, seal, int(clock())),
            feed=RevocationFeed(lanes, metrics),
            throttle=Throttle(config.throttling),
            metrics=metrics,
            external=None,
            seal=seal,
            derived=ensure_derived_keys(storage, seal),
            clock=clock,
            passwords=Passwords(hasher=QUICK),
        )
        try:
            yield World(services, storage, clock)
        finally:
            await asyncio.to_thread(lanes.close)


def kinds(world: World) -> list[str]:
    """What the audit record tells, in order."""
    from stockade.identity import audit

    rows: Iterable[audit.AuditRow] = world.read(lambda connection: list(audit.read(connection)))
    return [row.event.kind for row in rows]
