"""The commands against one running installation: what they say is what it is."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from stack import Stack, Upstream, until

pytestmark = pytest.mark.usefixtures("upstream")


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


def get_orders(stack: Stack, token: str) -> int:
    with stack.http() as client:
        return client.get("/orders", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_is_asked_for_shown_and_revoked(stack: Stack) -> None:
    made = stack.client("orders:read")
    asked = stack.cli("token", "request", "--client-id", made["client_id"], stdin=made["client_secret"] + "\n")
    assert asked.returncode == 0, asked.stderr
    token = asked.stdout.strip()
    assert get_orders(stack, token) != 401
    shown = stack.cli_json("token", "show", "--json", stdin=token)
    assert (shown["client_id"], shown["scopes"], shown["standing"]) == (made["client_id"], ["orders:read"], "active")
    assert token not in json.dumps(shown)
    assert stack.cli("token", "revoke", stdin=token).returncode == 0
    until(lambda: get_orders(stack, token) == 401, 2, "the revocation")
    again = stack.cli("token", "revoke", stdin=token)
    assert (again.returncode, "nothing to revoke" in again.stderr) == (1, True)


def test_a_refused_token_request_says_what_to_look_at(stack: Stack) -> None:
    made = stack.client("orders:read")
    secret = made["client_secret"]
    wrong = stack.cli("token", "request", "--client-id", made["client_id"], stdin="wrong\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "invalid_client" in wrong.stderr
    scope = stack.cli("token", "request", "--client-id", made["client_id"], "--scope", "nope", stdin=secret)
    assert "invalid_scope" in scope.stderr
    assert secret not in scope.stderr + scope.stdout
    silent = stack.cli("token", "request", "--client-id", made["client_id"], stdin="")
    assert "no client secret on standard input" in silent.stderr


def test_a_disabled_client_is_out_within_a_second_and_stays_out_with_old_tokens(stack: Stack) -> None:
    made = stack.cli_json("client", "create", "to-disable", "--scope", "orders:read", "--json")
    token = stack.cli("token", "request", "--client-id", made["client_id"], stdin=made["client_secret"]).stdout.strip()
    assert get_orders(stack, token) != 401
    assert stack.cli("client", "disable", "to-disable").returncode == 0
    until(lambda: get_orders(stack, token) == 401, 2, "the end of its tokens")
    states = {one["name"]: one["disabled_at"] for one in stack.cli_json("client", "list", "--json")}
    assert states["to-disable"] is not None
    assert stack.cli("client", "enable", "to-disable").returncode == 0
    assert get_orders(stack, token) == 401


def test_a_rotated_secret_replaces_the_old_one(stack: Stack) -> None:
    made = stack.cli_json("client", "create", "to-rotate", "--scope", "orders:read", "--json")
    fresh = stack.cli_json("client", "rotate", "to-rotate", "--json")["client_secret"]
    for secret, status in ((made["client_secret"], 2), (fresh, 0)):
        done = stack.cli("token", "request", "--client-id", made["client_id"], stdin=secret)
        assert done.returncode == status, done.stderr


def test_a_rotated_key_signs_what_the_api_gets(stack: Stack, upstream: Upstream) -> None:
    def signer() -> str:
        upstream.seen.clear()
        get_orders(stack, stack.token("orders:read"))
        header = upstream.seen[-1].header("Authorization") or ""
        padded = header.removeprefix("Bearer ").split(".")[0] + "=="
        return str(json.loads(base64.urlsafe_b64decode(padded))["kid"])

    before = {key["state"]: key["kid"] for key in stack.cli_json("keys", "list", "--json")}
    assert signer() == before["current"]
    assert stack.cli("keys", "rotate").returncode == 0
    after = {key["state"]: key["kid"] for key in stack.cli_json("keys", "list", "--json")}
    assert (after["current"], after["previous"]) == (before["next"], before["current"])
    until(lambda: signer() == after["current"], 15, "the new key")
    jwks = httpx.get(f"{stack.ready['issuer_url']}/.well-known/oauth-authorization-server", verify=stack.tls)
    published = httpx.get(jwks.json()["jwks_uri"], verify=stack.tls).json()["keys"]
    assert {key["kid"] for key in published} == set(after.values())


def test_every_filter_of_events_holds_for_every_event(stack: Stack) -> None:
    made, token = stack.client("orders:read"), stack.token("orders:read")
    with stack.http() as client:
        client.get("/orders?nope=1", headers={"Authorization": f"Bearer {token}"})
        client.get("/nowhere")
    until(lambda: len(stack.cli("events", "--reason", "operation_unknown").stdout) > 0, 5, "the event")
    cases = [
        (("--layer", "validate_request"), lambda event: event["layer"] == "validate_request"),
        (("--outcome", "deny"), lambda event: event["outcome"] == "deny"),
        (("--operation", "listOrders"), lambda event: event["operation"] == "listOrders"),
        (("--reason", "parameter_unknown"), lambda event: event["reason"] == "parameter_unknown"),
        (("--client-id", made["client_id"]), lambda event: event["client"]["client_id"] == made["client_id"]),
        (("--since", "1h"), lambda event: "time" in event),
    ]
    everything = stack.cli("events", "--json").stdout.splitlines()
    for arguments, holds in cases:
        lines = stack.cli("events", *arguments, "--json").stdout.splitlines()
        assert lines, arguments
        assert all(holds(json.loads(line)) for line in lines), arguments
        assert set(lines) <= set(everything)
    assert stack.cli("events", "--last", "1").stdout.count("\n") == 1
    assert token not in "\n".join(everything)


def test_follow_shows_what_comes_and_ends_with_ctrl_c(stack: Stack) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "stockade", "events", "--follow", "--last", "1", "--json"],
        cwd=stack.folder, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert following.stdout is not None
    following.stdout.readline()
    with stack.http() as client:
        instance = client.get("/follow-me").json()["instance"].removeprefix("urn:uuid:")
    killer = threading.Timer(15, following.kill)
    killer.start()
    assert any(json.loads(line)["id"] == instance for line in iter(following.stdout.readline, ""))
    killer.cancel()
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=10)
    assert (following.returncode, errors) == (0, "")


def test_status_and_explain_speak_to_people_and_programs(stack: Stack) -> None:
    status = stack.cli("status")
    assert "ready: yes" in status.stdout
    assert stack.cli_json("status", "--json")["urls"]["api_url"] == stack.url
    with stack.http() as client:
        problem = client.get("/orders")
    event = stack.event(problem)
    told = stack.cli("explain", problem.json()["instance"]).stdout
    assert event["reason"] == "credentials_missing"
    assert "authentication (credentials_missing)" in told
    assert "To do:" in told


def test_a_second_start_on_the_same_folder_is_refused(stack: Stack) -> None:
    done = stack.cli("up")
    assert done.returncode == 4
    assert "already runs" in done.stderr
    assert "stockade reload" in done.stderr


def test_a_taken_port_is_named(stack: Stack, tmp_path: Path) -> None:
    address = stack.url.removeprefix("https://").replace("localhost", "127.0.0.1")
    api = {"description": str(stack.description), "upstream": "http://127.0.0.1:1"}
    policy = {"version": 1, "api": api, "listen": {"address": address}}
    (tmp_path / "stockade.yaml").write_text(json.dumps(policy))
    done = stack.cli("up", "-c", str(tmp_path / "stockade.yaml"))
    assert done.returncode == 5
    assert address in done.stderr
    assert "Traceback" not in done.stderr


def test_reload_is_taken_up(stack: Stack) -> None:
    before = stack.gateway_pid()
    assert stack.cli("reload").returncode == 0
    until(lambda: stack.gateway_pid() != before, 15, "the new gateway")
    deadline = time.monotonic() + 5
    with stack.http() as client:
        while time.monotonic() < deadline and client.get("/status").status_code != 200:
            time.sleep(0.1)
        assert client.get("/status").status_code == 200
