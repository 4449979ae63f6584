"""What the commands print, held against transcripts that were read by eye (snapshots/)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from terminal import Terminal

from stockade.cli.main import cli

UPSTREAM = "http://127.0.0.1:9000"
EVENT = {
    "time": "2026-11-24T20:53:19.123Z", "id": "019ab1c2-7f00-7abc-8def-0123456789ab", "kind": "decision",
    "outcome": "deny", "layer": "validate_request", "reason": "body_invalid", "status": 400,
    "operation": "createOrder", "method": "POST", "path": "/orders", "evidence": "/qty: minimum is 1",
    "pointer": "/paths/~1orders/post/requestBody", "client": {"address": "192.0.2.7"}, "bundle": "0011", "serial": 3,
}  # fmt: skip
READY = {
    "time": "2026-11-24T20:50:00.000Z", "id": "019ab1c2-0000-7abc-8def-0123456789ab", "kind": "process",
    "outcome": "allow", "detail": "ready",
}  # fmt: skip


def paths(command: click.Command = cli, names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group."""
    found = [names]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += paths(child, (*names, name))
    return found


@pytest.mark.parametrize("names", paths(), ids=" ".join)
def test_help_reads_as_it_was_read(terminal: Terminal, names: tuple[str, ...]) -> None:
    terminal(" ".join(["stockade", *names, "--help"]))
    terminal.compare("-".join(["help", *names]))


def test_misuse_of_the_command_line_is_told_in_one_voice(terminal: Terminal) -> None:
    for line in ("evnts", "--nope", "client", "client create", "compile .", "client rotate me --overlap -1",
                 "events --layer nope", "events -n 0"):  # fmt: skip
        terminal(f"stockade {line}")
        assert terminal.status != 0
    terminal.compare("misuse")


def test_an_empty_folder_says_what_to_do_in_it(terminal: Terminal, folder: Path) -> None:
    for line in ("up", "check", "status", "reload", "events", "client list", "keys list", "token show",
                 "explain 019ab1c2-7f00-7abc-8def-0123456789ab", "events --state nowhere",
                 "check -c nowhere.yaml", "up --description openapi.yaml"):  # fmt: skip
        terminal(f"stockade {line}")
        assert terminal.status != 0
    assert [entry.name for entry in folder.iterdir()] == ["openapi.yaml"]
    terminal.compare("empty-folder")


def test_from_init_to_check(terminal: Terminal, folder: Path) -> None:
    terminal(f"stockade init --description nowhere.yaml --upstream {UPSTREAM}")
    terminal("stockade init --description openapi.yaml --upstream 127.0.0.1:9000")
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    terminal("stockade check")
    terminal("stockade check --strict --json")
    (folder / "other").mkdir()
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM} -o other/stockade.yaml")
    terminal("stockade check -c other/stockade.yaml")
    terminal.compare("init-check")


def test_check_shows_every_mistake_with_its_place(terminal: Terminal, folder: Path) -> None:
    (folder / "stockade.yaml").write_text(
        "version: 1\napi: {description: openapi.yaml, upstrem: http://x}\n"
        "layers: {authentcate: off}\nlisten: {address: 99}\n"
    )
    terminal("stockade check")
    terminal("stockade check --json")
    terminal("stockade up")
    (folder / "stockade.yaml").write_text("version: 1\napi: [")
    terminal("stockade check")
    (folder / "broken.yaml").write_text("openapi: 3.1.0\npaths: [")
    (folder / "stockade.yaml").write_text("version: 1\napi: {description: broken.yaml, upstream: 'http://127.0.0.1:1'}")
    terminal("stockade check")
    terminal("stockade compile")
    terminal.compare("check-mistakes")


def test_compile_tells_what_holds(terminal: Terminal) -> None:
    terminal("stockade compile openapi.yaml")
    terminal("stockade compile openapi.yaml -o bundle.stkb")
    terminal("stockade compile nowhere.yaml")
    terminal("stockade compile openapi.yaml -o nowhere/bundle.stkb")
    terminal.compare("compile")


def test_the_life_of_a_client(terminal: Terminal) -> None:
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    for line in ("client create billing --scope orders:read --api-key", "client create billing", "client list",
                 "client create ci --scope 'orders:read orders:write' --json", "client create x --jwks nowhere.json",
                 "client create x --scope 'a\"b'", "client rotate billing", "client api-key billing --scope other",
                 "client api-key billing --expires-in 60 --json", "client disable billing", "client list",
                 "client enable billing", "client disable nobody", "keys list", "keys rotate"):  # fmt: skip
        terminal(f"stockade {line}")
    terminal("stockade token show", stdin="")
    terminal("stockade token show", stdin="stk_at_x\n")
    terminal("stockade token revoke", stdin="stk_at_x\n")
    terminal("stockade token request --client-id c_1", stdin="x\n")
    terminal("stockade status")
    terminal("stockade reload")
    terminal.compare("clients")


def test_the_life_of_a_person(terminal: Terminal) -> None:
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    good = "seven-green-kettles\n"
    terminal("stockade user create alice --password-stdin --email alice@example.com --role admin", stdin=good)
    terminal("stockade user create ALICE --password-stdin", stdin=good)
    terminal("stockade user create bob --json")
    for bad in ("", "short\n", "Password123!\n", "i-am-carol-really\n", "12345678\n"):
        terminal("stockade user create carol --password-stdin", stdin=bad)
    terminal("stockade user set-password bob")
    terminal("stockade user set-password bob --password-stdin", stdin="four-brown-kettles\n")
    for line in ("user list", "user show bob", "user update bob --name 'Bob B.' --role support --json",
                 "user update bob --email nowhere", "user disable bob", "user list", "user enable bob",
                 "user reset-factors alice", "user sessions alice", "user sessions alice --json", "user sign-out alice",
                 "user sign-out alice --session s_1", "user show nobody", "user create 'two words'", "audit",
                 "audit --user bob -n 2", "audit --verify", "audit --verify --head 1:00",
                 f"audit --verify --head 1:{'0' * 64}"):  # fmt: skip
        terminal(f"stockade {line}")
    terminal.compare("people")


def test_every_kind_of_client(terminal: Terminal, folder: Path) -> None:
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    make_certificate(folder / "client.pem")
    back = "--redirect-uri https://shop.example.com/callback"
    code = f"--grant authorization_code {back}"
    for line in ("shop --grant authorization_code", f"shop {back}",
                 f"shop {code} --grant refresh_token --scope 'openid profile'",
                 f"page {code} --public --dpop-bound --first-party --json", "tv --native --grant device_code",
                 "app --native --grant authorization_code --redirect-uri com.example.app:/callback",
                 "app --grant authorization_code --redirect-uri com.example.app:/callback",
                 f"bank {code} --profile fapi2", f"bank {code} --profile fapi2 --certificate client.pem --json",
                 "node --san-dns node.example.com --certificate-bound", "node2 --auth-method tls_client_auth",
                 "broker --grant token_exchange --exchange https://a.example --introspect https://a.example",
                 "x --exchange https://a.example", "x --grant refresh_token", "x --public --grant client_credentials",
                 "x --certificate client.pem --san-dns a.example", "x --certificate openapi.yaml", "x --grant password",
                 "x --grant authorization_code --redirect-uri http://shop.example.com/cb"):  # fmt: skip
        terminal(f"stockade client create {line}")
    for line in ("show bank", "show nobody", "update shop --scope openid --name store --require-par",
                 "update store --certificate client.pem --certificate-bound",
                 "update store --auth-method client_secret_basic",
                 "update store --grant client_credentials", "show tv --json", "list"):  # fmt: skip
        terminal(f"stockade client {line}")
    terminal("stockade check --all")
    terminal.compare("client-kinds")


def make_certificate(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=9000))
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_events_are_told_in_lines_and_in_words(terminal: Terminal, folder: Path) -> None:
    terminal(f"stockade init --description openapi.yaml --upstream {UPSTREAM}")
    log = folder / ".stockade" / "events" / "events.jsonl"
    log.parent.mkdir(parents=True)
    for line in ("events", "events --layer lookup"):
        terminal(f"stockade {line}")
    log.write_text("".join(json.dumps(event) + "\n" for event in (READY, EVENT)) + '{"torn": ')
    for line in ("events", "events --json", "events --last 1", "events --outcome allow", "events --reason body_invalid",
                 "events --operation createOrder --layer validate_request", "events --client-id c_1",
                 "events --since yesterday", "events --reason body_invald", "events --reason nonsense",
                 "events --since 2026-11-24T20:52:00Z", f"explain {EVENT['id']}", f"explain urn:uuid:{EVENT['id']}",
                 f"explain {EVENT['id']} --json", f"explain {READY['id']}", "explain nope"):  # fmt: skip
        terminal(f"stockade {line}")
    terminal.compare("events")
