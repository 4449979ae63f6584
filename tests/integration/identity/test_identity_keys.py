"""Signing keys: published, rotated with overlap, sealed, and missed when they are gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from identity_support import AUDIENCE, eventually, introspect, token_for

from stockade.identity import admin
from stockade.identity.config import KeyEncryptionKey
from stockade.identity.jose import import_public_keys, parse, verify
from stockade.identity.keys.seal import load_seal

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from identity_support import Server


def kids(http: httpx.Client) -> list[str]:
    return [key["kid"] for key in http.get("/oauth2/jwks").json()["keys"]]


def rotate(server: Server, overlap_seconds: int = 86_400) -> None:
    with server.storage() as storage:
        admin.rotate_keys(storage, load_seal(KeyEncryptionKey(file=server.folder / "kek")), overlap_seconds)


def test_rotation_keeps_internal_tokens_good_and_was_announced(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http, server.gateway() as gateway:
        token = token_for(http, server.client("c"))
        old = parse(introspect(gateway, token)["internal_token"])
        before = http.get("/oauth2/jwks").json()
        rotate(server)
        eventually(lambda: len(kids(http)) == 3)
        new = parse(introspect(gateway, token)["internal_token"])
        assert new.kid != old.kid
        # Who read the JWKS before knows the new key; who reads it now knows the old one.
        verify(new, import_public_keys(before), ["ES256"])
        verify(old, import_public_keys(http.get("/oauth2/jwks").json()), ["ES256"])


def test_rotation_without_overlap_withdraws_the_old_key(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http:
        token = token_for(http, server.client("c"))
        with server.gateway() as gateway:
            old = parse(introspect(gateway, token)["internal_token"]).kid
        before = set(kids(http))
        rotate(server, overlap_seconds=0)
        eventually(lambda: old not in kids(http))
        assert before - {old} < set(kids(http))


def test_rotation_refuses_no_request(make_server: Callable[..., Server]) -> None:
    with make_server() as server, server.outside() as http, server.gateway() as gateway:
        token = token_for(http, server.client("c"))
        deadline = time.monotonic() + 5
        for _ in range(3):
            rotate(server)
            for _ in range(50):
                assert introspect(gateway, token)["active"] is True
        while time.monotonic() < deadline and len(kids(http)) < 5:
            assert introspect(gateway, token)["active"] is True


def test_keys_rotate_by_age(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.start().outside() as http:
        current, following = kids(http)
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql("UPDATE signing_keys SET activated_at = activated_at - 40*86400")
        eventually(lambda: len(kids(http)) == 3)
        assert {current, following} < set(kids(http))


def test_keys_that_vanish_give_503_and_an_operator_error(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.start().outside() as http, server.gateway() as gateway:
        token = token_for(http, server.client("c"))
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql("CREATE TABLE kept AS SELECT * FROM signing_keys")
            connection.exec_driver_sql("DELETE FROM signing_keys")
        form = {"token": token, "resource": AUDIENCE}
        eventually(lambda: gateway.post("/internal/introspect", data=form).status_code == 503)
        assert gateway.get("/internal/health").status_code == 503
        assert http.get("/oauth2/jwks").status_code == 503
        assert any(line["event"] == "signing_keys_unusable" for line in server.log_lines())
        with server.storage() as storage, storage.write() as connection:
            connection.exec_driver_sql("INSERT INTO signing_keys SELECT * FROM kept")
        eventually(lambda: gateway.post("/internal/introspect", data=form).status_code == 200)


def _refusal(server: Server) -> tuple[int, str]:
    process = server.spawn()
    status = process.wait(20)
    assert process.stdout is not None
    assert process.stdout.read() == ""
    server.stop()
    return status, server.log_lines()[-1]["reason"]


def test_without_its_keys_the_server_does_not_start(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.start().stop()
    with server.storage() as storage, storage.write() as connection:
        connection.exec_driver_sql("DELETE FROM signing_keys")
    status, reason = _refusal(server)
    assert (status, "gone" in reason) == (4, True)


def test_with_another_key_encryption_key_the_server_does_not_start(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.start().stop()
    (server.folder / "kek").write_text("ab" * 32)
    status, reason = _refusal(server)
    assert (status, "does not open" in reason) == (4, True)


def test_without_key_encryption_key_the_server_does_not_start(make_server: Callable[..., Server]) -> None:
    server = make_server()
    (server.folder / "kek").unlink()
    status, reason = _refusal(server)
    assert (status, "kek" in reason) == (4, True)


def test_a_key_encryption_key_that_others_can_read_is_refused(make_server: Callable[..., Server]) -> None:
    server = make_server()
    (server.folder / "kek").chmod(0o644)
    status, reason = _refusal(server)
    assert (status, "read by others" in reason) == (4, True)
