"""The server is killed again and again under load: what it answered holds, and nothing is given twice.

SIGKILL at any moment, from parallel redemptions of codes, refreshes, client_credentials and client assertions. What was
sent and not answered may or may not have happened; what was answered must have.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from code_support import Attempt, Someone, application, code_of, refresh
from identity_support import ask, assert_with, assertion, introspect, jwks_of, signing_key

from stockade.identity import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Cluster, Server


ROUNDS = 6


@dataclass
class Account:
    """What was sent and what came back. `successes` counts the answers for each thing that is good once."""

    tokens: list[str] = field(default_factory=list)
    successes: Counter[str] = field(default_factory=Counter)
    successors: dict[str, set[str]] = field(default_factory=dict)
    once: list[Callable[[httpx.Client], httpx.Response]] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    unanswered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, answer: httpx.Response) -> dict[str, Any] | None:
        """The tokens of an answer; None for a refusal. Anything but these two is a surprise."""
        with self._lock:
            if answer.status_code == 200:
                tokens: dict[str, Any] = answer.json()
                return tokens
            if answer.status_code not in (400, 401):
                self.surprises.append(f"{answer.status_code} {answer.text}")
            return None


class Killing:
    """Workers that go on until the server is gone."""

    def __init__(self, server: Server) -> None:
        self.server, self.account, self.gone = server, Account(), threading.Event()
        self.key = signing_key(kid="k")
        self.machine = server.client("machine")
        self.by_key = server.client("by-key", auth_method="private_key_jwt", jwks=jwks_of(self.key))
        self.app = application(server, "app")

    def round(self, seconds: float) -> None:
        self.gone.clear()
        workers = [self.machines, self.assertions, self.codes, self.contested_codes, self.refreshes, self.refreshes]
        with ThreadPoolExecutor(len(workers)) as pool:
            running = [pool.submit(self._until_gone, worker) for worker in workers]
            time.sleep(seconds)
            self.server.kill()
            self.gone.set()
            for one in running:
                one.result()

    def _until_gone(self, work: Callable[[httpx.Client], None]) -> None:
        with self.server.outside() as http:
            try:
                while not self.gone.is_set():
                    work(http)
            except httpx.TransportError:
                self.account.unanswered += 1

    def machines(self, http: httpx.Client) -> None:
        if tokens := self.account.answered(ask(http, self.machine)):
            self.account.tokens.append(tokens["access_token"])

    def assertions(self, http: httpx.Client) -> None:
        """The same assertion from two sides at once, and once more later."""
        text = assertion(self.server, self.by_key.client_id, self.key)

        def use(client: httpx.Client) -> httpx.Response:
            answer = assert_with(client, text)
            if tokens := self.account.answered(answer):
                self.account.tokens.append(tokens["access_token"])
                self.account.successes[text] += 1
            return answer

        self.account.once.append(use)
        self._twice(use, http)

    def codes(self, http: httpx.Client) -> None:
        """Each code once; what it gives is kept, and its refresh token goes on in a family."""
        attempt, code = self._code(http)
        if tokens := self.account.answered(attempt.redeem(http, self.app, code)):
            self.account.tokens.append(tokens["access_token"])
            self.account.families.append(tokens["refresh_token"])

    def contested_codes(self, http: httpx.Client) -> None:
        attempt, code = self._code(http)

        def use(client: httpx.Client) -> httpx.Response:
            answer = attempt.redeem(client, self.app, code)
            if self.account.answered(answer):
                self.account.successes[code] += 1
            return answer

        self.account.once.append(use)
        self._twice(use, http)

    def refreshes(self, http: httpx.Client) -> None:
        """One family at a time, by one caller. Who got no answer asks again with what it had."""
        try:
            current = self.account.families.pop(0)
        except IndexError:
            time.sleep(0.01)
            return
        try:
            tokens = self.account.answered(refresh(http, self.app, current))
        except httpx.TransportError:
            self.account.families.append(current)
            raise
        if tokens is None:
            self.account.surprises.append("a family was lost")
            return
        self.account.successors.setdefault(current, set()).add(tokens["refresh_token"])
        self.account.tokens.append(tokens["access_token"])
        self.account.families.append(tokens["refresh_token"])

    def _code(self, http: httpx.Client) -> tuple[Attempt, str]:
        attempt = Attempt(self.app.client_id)
        someone = Someone(self.server, http)
        someone.sign_in()
        return attempt, code_of(someone.open(attempt.url(scope="openid orders:read offline_access")))

    def _twice(self, use: Callable[[httpx.Client], httpx.Response], http: httpx.Client) -> None:
        with ThreadPoolExecutor(1) as pool, self.server.outside() as other:
            second = pool.submit(use, other)
            try:
                use(http)
            finally:
                second.result()

    def check(self) -> None:
        """After the restart."""
        account = self.account
        with self.server.gateway() as gateway, self.server.outside() as http:
            dead = [token for token in account.tokens if not introspect(gateway, token)["active"]]
            assert not dead, f"{len(dead)} of {len(account.tokens)} answered tokens are lost"
            for again in account.once:
                again(http)
        assert max(account.successes.values(), default=0) <= 1
        assert all(len(given) == 1 for given in account.successors.values())
        assert not account.surprises
        with self.server.storage() as storage, storage.read() as connection:
            audit.verify(connection)
        account.tokens.clear()
        account.once.clear()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_crash_loses_nothing_and_gives_nothing_twice(
    make_server: Callable[..., Server], request: pytest.FixtureRequest, database: str
) -> None:
    settings: dict[str, Any] = {"throttling": {"client_burst": 100_000, "address_burst": 100_000}}
    # Longer than a restart takes.
    settings |= {"refresh": {"grace_seconds": 60}}
    settings["scopes"] = ["orders:read", "openid", "offline_access"]
    if database == "postgresql":
        cluster: Cluster = request.getfixturevalue("cluster")
        settings["database_url"] = cluster.database("crash")
    server = make_server(**settings)
    server.storage().close()
    killing, chance = Killing(server), random.Random(4)
    given = 0
    for _ in range(ROUNDS):
        server.start()
        killing.round(chance.uniform(0.5, 1.5))
        given += len(killing.account.tokens)
        server.start()
        killing.check()
        server.stop()
    assert given > 40
    assert killing.account.unanswered >= ROUNDS
    assert len(killing.account.successors) >= ROUNDS
    assert len(killing.account.successes) >= ROUNDS
