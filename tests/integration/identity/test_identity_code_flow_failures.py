"""What breaks in the middle of the code flow, and in which direction: nothing half-given, nothing lost."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from code_support import Attempt, Someone, application, code_of, refresh, sent_back
from identity_support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server


def shown_as_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")


def test_a_locked_database_gives_no_code_and_takes_none(make_server: Callable[..., Server]) -> None:
    server = make_server().start()
    client = application(server, "locked")
    with server.outside() as http, server.gateway() as gateway:
        someone = Someone(server, http)
        someone.sign_in()
        attempt = Attempt(client.client_id)
        code = code_of(someone.open(attempt.url()))
        with contextlib.closing(sqlite3.connect(server.folder / "identity.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            shown_as_unavailable(someone.open(attempt.url()))
            assert attempt.redeem(http, client, code).status_code == 503
            other.execute("ROLLBACK")
        tokens = attempt.redeem(http, client, code).json()
        with contextlib.closing(sqlite3.connect(server.folder / "identity.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert refresh(http, client, tokens["refresh_token"]).status_code == 503
            other.execute("ROLLBACK")
        assert refresh(http, client, tokens["refresh_token"]).status_code == 200
        assert 'unavailable_total{dependency="storage"} 3' in gateway.get("/internal/metrics").text


def test_lost_keys_leave_codes_and_refresh_tokens_unused(make_server: Callable[..., Server]) -> None:
    """What cannot be signed is not given, and what it was asked for with is not spent."""
    server = make_server().start()
    client = application(server, "keyless")
    with server.outside() as http:
        someone = Someone(server, http)
        someone.sign_in()
        first, second = Attempt(client.client_id), Attempt(client.client_id)
        codes = [code_of(someone.open(attempt.url())) for attempt in (first, second)]
        token = first.redeem(http, client, codes[0]).json()["refresh_token"]
        states = "UPDATE signing_keys SET state = {} WHERE state = {}"
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql(states.format("'previous'", "'current'"))
        eventually(lambda: http.get("/oauth2/jwks").status_code == 503)
        assert second.redeem(http, client, codes[1]).status_code == 503
        assert refresh(http, client, token).status_code == 503
        assert "code" in sent_back(someone.open(second.url()))
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql(states.format("'current'", "'previous'"))
        eventually(lambda: http.get("/oauth2/jwks").status_code == 200)
        assert second.redeem(http, client, codes[1]).status_code == 200
        assert refresh(http, client, token).status_code == 200


def test_a_page_shows_an_unexpected_failure_without_a_word_of_why(make_server: Callable[..., Server]) -> None:
    server = make_server().start()
    client = application(server, "from-the-future")
    with server.outside() as http:
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql('UPDATE clients SET metadata = \'{"from": "the-future"}\'')
        answer = http.get(Attempt(client.client_id).url(), follow_redirects=False)
        shown_as_unavailable(answer)
        assert "the-future" not in answer.text
