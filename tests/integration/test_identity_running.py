"""The authorization server as part of a running installation: changes, refusals, and the gate before its API."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from shop import shop
from stack import Stack, Upstream, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.close()


def processes(stack: Stack, needle: str) -> list[int]:
    """Children of the supervisor whose command line holds `needle`, in no order."""
    with open(f"/proc/{stack.pid}/task/{stack.pid}/children") as handle:  # noqa: PTH123
        children = [int(word) for word in handle.read().split()]
    return [pid for pid in children if needle in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as handle:  # noqa: PTH123
            return handle.read()
    except FileNotFoundError:
        return ""


def scopes_supported(stack: Stack) -> list[str]:
    url = f"{stack.ready['issuer_url']}/.well-known/oauth-authorization-server"
    found: list[str] = httpx.get(url, verify=stack.tls, trust_env=False).json()["scopes_supported"]
    return found


def with_scope(scope: str) -> dict[str, Any]:
    """The shop, with an operation that asks for one more scope."""
    described = shop()
    described["paths"]["/fresh"] = {
        "get": {
            "operationId": "fresh",
            "security": [{"oauth": [scope]}],
            "responses": {"200": {"description": "ok"}},
        }
    }
    return described


def test_changes_reach_the_authorization_server_without_its_end(tmp_path: Path, upstream: Upstream) -> None:
    with Stack(tmp_path, shop(), upstream.url) as stack:
        (before,) = processes(stack, "stockade.identity")
        assert {"openid", "profile", "email", "offline_access"} <= set(scopes_supported(stack))
        stack.write_description(with_scope("fresh:read"))
        until(lambda: "fresh:read" in scopes_supported(stack), 10, "the new scope")
        assert stack.token("fresh:read")
        assert "takes up its new configuration" in stack.errors
        stack.cli("reload")
        until(lambda: stack.errors.count("reloaded") > 1, 10, "certificates read anew")
        assert processes(stack, "stockade.identity") == [before]


def test_a_configuration_that_does_not_start_is_taken_back(tmp_path: Path, upstream: Upstream) -> None:
    """The database that it should use cannot be had."""
    policy = {"listen": "127.0.0.1:0"}
    with Stack(tmp_path, shop(), upstream.url, identity=policy) as stack:
        token_endpoint = stack.ready["token_endpoint"]
        broken = {**policy, "database_url": "sqlite:////nowhere/identity.db"}
        stack.write_policy(identity=broken)
        until(lambda: "the change is not in force" in stack.errors, 60, "the report")
        assert "identity database" in stack.errors

        def answers() -> bool:
            try:
                return httpx.post(token_endpoint, verify=stack.tls, trust_env=False).status_code == 400
            except httpx.TransportError:
                return False

        until(answers, 30, "the old configuration")
        stack.write_policy(identity=policy)
        assert stack.token("orders:read")


def test_a_gateway_that_did_not_take_over_is_tried_again(tmp_path: Path, upstream: Upstream) -> None:
    """A configuration is in force when a gateway runs with it, not when it was written."""
    with Stack(tmp_path, shop(), upstream.url) as stack:
        before = stack.gateway_pid()
        ca = tmp_path / "upstream-ca.pem"
        secure = {"endpoints": ["https://127.0.0.1:1"], "tls": {"ca": str(ca)}}
        stack.write_policy(api={"description": "openapi.yaml", "upstream": secure})
        until(lambda: "the change is not in force" in stack.errors, 60, "the report")
        assert stack.gateway_pid() == before
        os.kill(before, signal.SIGKILL)
        until(lambda: running_gateway(stack) not in (None, before), 20, "the restart with what was in force")
        shutil.copy(stack.ca, ca)
        os.utime(stack.policy)
        until(lambda: "a new gateway has taken over" in stack.errors, 20, "the second try")


def running_gateway(stack: Stack) -> int | None:
    done = stack.cli("status", "--json")
    return stack.gateway_pid() if done.returncode == 0 else None


def test_a_database_of_version_1_is_told_of_once(tmp_path: Path, upstream: Upstream) -> None:
    from identity.schema_version_1 import meta, metadata, revocation_head
    from sqlalchemy import create_engine, insert

    folder = tmp_path / ".stockade" / "identity"
    folder.mkdir(parents=True)
    engine = create_engine(f"sqlite:///{folder / 'identity.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(insert(meta).values(name="schema_version", value="1"))
        connection.execute(insert(revocation_head).values(id=1, epoch="e", sequence=0, floor=0))
    engine.dispose()
    with Stack(tmp_path, shop(), upstream.url) as stack:
        assert stack.errors.count("is brought from schema 0001 to 0002") == 1
        assert stack.token("orders:read")
    with sqlite3.connect(folder / "identity.db.before-0002") as copy:
        assert copy.execute("SELECT value FROM meta").fetchall() == [("1",)]
    copy.close()


def test_the_administration_api_stands_behind_a_gate_of_its_own(tmp_path: Path, upstream: Upstream) -> None:
    policy = {"listen": "127.0.0.1:0", "admin_api": {"listen": "127.0.0.1:0"}}
    with Stack(tmp_path, shop(), upstream.url, identity=policy) as stack:
        admin_url = stack.ready["admin_api_url"]
        made = stack.cli_json("client", "create", "operator", "--scope", "stockade:admin orders:read", "--json")

        def token(scope: str, resource: str) -> str:
            form = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
            auth = (made["client_id"], made["client_secret"])
            answer = httpx.post(stack.ready["token_endpoint"], data=form, auth=auth, verify=stack.tls, trust_env=False)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["access_token"])

        good, other = token("stockade:admin", admin_url), token("stockade:admin", stack.url)
        weak = token("orders:read", admin_url)
        with httpx.Client(base_url=admin_url, verify=context(stack), trust_env=False, timeout=20) as admin:

            def ask(path: str, bearer: str | None) -> int:
                headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
                return admin.get(path, headers=headers).status_code

            assert ask("/admin/v1/users", good) == 200
            assert [ask("/admin/v1/users", bearer) for bearer in (None, other, weak)] == [401, 401, 403]
            assert ask("/admin/v1/nothing", good) == 404
        with stack.http() as api:
            assert api.get("/limited", headers={"Authorization": f"Bearer {good}"}).status_code == 401
        assert not upstream_saw(upstream, "/admin")
        victim = admin_gateway(stack)
        os.kill(victim, signal.SIGKILL)
        until(lambda: "admin gateway: ended" in stack.errors, 10, "the report")

        def again() -> bool:
            try:
                headers = {"Authorization": f"Bearer {good}"}
                found = httpx.get(f"{admin_url}/admin/v1/users", headers=headers, verify=stack.tls, trust_env=False)
            except httpx.TransportError:
                return False
            return found.status_code == 200

        until(again, 20, "the restart")
        assert stack.cli("reload").returncode == 0
        time.sleep(1)
        assert again()


def test_without_being_asked_for_there_is_no_administration_api(tmp_path: Path, upstream: Upstream) -> None:
    with Stack(tmp_path, shop(), upstream.url) as stack:
        assert "admin_api_url" not in stack.ready
        assert len(processes(stack, "gateway_process")) == 1
        assert "stockade:admin" not in scopes_supported(stack)


def context(stack: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=stack.ca)


def upstream_saw(upstream: Upstream, prefix: str) -> list[str]:
    return [seen.target for seen in upstream.seen if seen.target.startswith(prefix)]


def admin_gateway(stack: Stack) -> int:
    return next(pid for pid in processes(stack, "gateway_process") if "/admin/run/" in command_line(pid))
