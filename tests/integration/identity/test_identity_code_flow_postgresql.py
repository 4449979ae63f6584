"""The code flow's promises on PostgreSQL, where transactions run beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from code_support import Attempt, Someone, application, at_once, audited, code_of, later, refresh, tokens_for
from identity_support import introspect
from sqlalchemy import func, select

from stockade.identity.interactions import Decision
from stockade.identity.storage.schema import refresh_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_support import Cluster, Server


@pytest.fixture(scope="module")
def database_url(cluster: Cluster) -> str:
    """A database of this module's own: each server's keys open only under its own key-encryption key."""
    return cluster.database("the_code_flow")


def test_two_servers_give_one_answer_for_one_code_and_one_successor_for_one_token(
    make_server: Callable[..., Server], cluster: Cluster, database_url: str
) -> None:
    first = make_server(database_url=database_url).start()
    second = make_server(database_url=database_url)
    second.write_config(issuer=first.issuer, key_encryption_key={"file": str(first.folder / "kek")})
    second.start()
    client = application(first, "raced", first_party=False)
    with first.outside() as http, first.gateway() as gateway:
        someone = Someone(first, http)
        someone.sign_in()
        attempt = Attempt(client.client_id)
        asked = someone.open(attempt.url(scope="openid offline_access"))
        code = code_of(someone.decide(asked.headers["location"], Decision.ALLOWED))

        def redeem(number: int) -> int:
            with (first, second)[number % 2].outside() as own:
                return attempt.redeem(own, client, code).status_code

        assert sorted(at_once(8, redeem)) == [200] + [400] * 7
        assert len(audited(first, "code.replayed", client)) == 1

        token = tokens_for(first, http, client, someone, scope="openid offline_access")["refresh_token"]

        def use(number: int) -> str:
            with (first, second)[number % 2].outside() as own:
                answer = refresh(own, client, token)
                assert answer.status_code == 200, answer.text
                return str(answer.json()["refresh_token"])

        successors = set(at_once(20, use))
        assert len(successors) == 1
        later(first, refresh_tokens.c.used_at, 11)
        assert refresh(http, client, token).status_code == 400
        answer = refresh(http, client, successors.pop())
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert len(audited(first, "token.reuse_detected", client)) == 1
        assert introspect(gateway, token) == {"active": False}
    with first.storage() as storage, storage.read() as connection:
        # One of the flow whose code was replayed, and two of the other.
        assert connection.execute(select(func.count()).select_from(refresh_tokens)).scalar_one() == 3
