"""The table of `stockade demo`, at most 120 columns wide, and the commands to go on with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from stockade.demo.attacks import LAYERS_TO_COME, OWASP, SQL_DUMP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stockade.demo.run import Row

WIDTHS = (45, 31, 5, 36)  # and a space between the columns: 120
GREEN, YELLOW, RED, BOLD = "32", "33", "31", "1"
COLOURS = {"stopped": GREEN, "passed": GREEN, "to come": YELLOW, "not run": YELLOW}


def render_table(rows: Sequence[Row], *, colour: bool) -> str:
    """Return the table as text that ends in a line feed. `colour` adds ANSI sequences and changes nothing else."""
    lines = [*_attack_lines(rows), ("", ""), *_legitimate_lines(rows), ("", ""), *_summary(rows)]
    return "".join(f"{_painted(text, shade) if colour and shade else text}\n" for text, shade in lines)


def _attack_lines(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    yield _columns("attack", "the API alone", "gate", "behind Stockade, decided by"), BOLD
    owasp = ""
    for row in rows:
        if row.kind != "attack":
            continue
        if row.owasp != owasp:
            owasp = row.owasp
            yield OWASP[owasp], BOLD
        yield _columns("  " + row.title, _alone(row), _status(row.gate.status), _decided(row)), _shade(row)


def _legitimate_lines(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    yield _columns("legitimate call", "the API alone", "gate", "behind Stockade"), BOLD
    for row in rows:
        if row.kind == "legitimate":
            said = "passed" if row.verdict == "passed" else f"BROKEN {_layer_and_reason(row)}"
            yield _columns("  " + row.title, _status(row.direct.status), _status(row.gate.status), said), _shade(row)


def _alone(row: Row) -> str:
    return "" if row.verdict == "not run" else f"{_status(row.direct.status)} {row.direct.got or row.direct.error}"


def _decided(row: Row) -> str:
    match row.verdict:
        case "to come":
            return f"not stopped yet (layer: {row.layer})"
        case "missed":
            return f"NOT STOPPED ({row.layer}) {row.note}"
        case "unproven" | "not run":
            return f"{row.verdict}: {row.note}"
        case _:
            return _layer_and_reason(row) or row.note or "answered, and nothing gained"


def _layer_and_reason(row: Row) -> str:
    return f"{row.decided_by} {row.reason}".strip()


def _status(status: int) -> str:
    return str(status) if status else "-"


def _columns(*cells: str) -> str:
    """Lay out one line; what does not fit its column is cut, with a mark."""
    fitted = (
        cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(cells, WIDTHS, strict=True)
    )
    return " ".join(f"{cell:<{width}}" for cell, width in zip(fitted, WIDTHS, strict=True)).rstrip()


def _shade(row: Row) -> str:
    return COLOURS.get(row.verdict, RED)


def _painted(text: str, shade: str) -> str:
    return f"\x1b[{shade}m{text}\x1b[0m"


def _summary(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    attacks = [row for row in rows if row.kind == "attack"]
    present = [row for row in attacks if row.layer not in LAYERS_TO_COME]
    stopped = sum(row.verdict == "stopped" for row in present)
    legitimate = [row for row in rows if row.kind == "legitimate"]
    passed = sum(row.verdict == "passed" for row in legitimate)
    yield f"{stopped} of {len(present)} attacks stopped by the layers there are", BOLD
    if not_run := sum(row.verdict == "not run" for row in attacks):
        yield f"{not_run} not run", YELLOW
    if to_come := [row.layer for row in attacks if row.verdict == "to come"]:
        counts = ", ".join(f"{layer} {to_come.count(layer)}" for layer in dict.fromkeys(to_come))
        yield f"{len(to_come)} wait for layers to come: {counts}", YELLOW
    yield f"{passed} of {len(legitimate)} legitimate calls passed", BOLD


def curl_commands(
    *, gate_url: str, token_endpoint: str, ca_file: str, client_id: str, client_secret: str, direct_url: str
) -> str:
    """Return shell commands that work when pasted, with a comment line before each; needs curl and sed only.

    `client_secret` is printed: hand in a client of the demo, made for this run.
    """
    ca, user = shlex.quote(ca_file), shlex.quote(f"{client_id}:{client_secret}")
    curl = f"curl -sS --cacert {ca}"
    order = shlex.quote('{"items": [{"product_id": 1, "quantity": 2}], "shipping": "express"}')
    cheat = shlex.quote('{"items": [{"product_id": 1, "quantity": -5}], "shipping": "express"}')
    bearer = '-H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    gate, direct = gate_url.rstrip("/"), direct_url.rstrip("/")
    extract = 'sed -E \'s/.*"access_token": *"([^"]+)".*/\\1/\''
    form = "-d grant_type=client_credentials -d scope='orders:read orders:write catalogue:read'"
    return "\n".join([
        "# get a token",
        f"TOKEN=$({curl} -u {user} {form} {shlex.quote(token_endpoint)} | {extract})",
        "# place an order, and see it",
        f"{curl} -i {bearer} -d {order} {shlex.quote(gate + '/orders')}",
        f"{curl} -i {bearer} {shlex.quote(gate + '/orders')}",
        "# attack: an order of -5 kettles, to the API alone, then through the gate",
        f"curl -sS -i -H 'X-User-Id: 3' -H 'Content-Type: application/json' -d {cheat} "
        + shlex.quote(direct + "/orders"),
        f"{curl} -i {bearer} -d {cheat} {shlex.quote(gate + '/orders')}",
        "# attack: no token",
        f"{curl} -i {shlex.quote(gate + '/orders')}",
        "# attack: SQL injection, which waits for the layer `detect`",
        f"{curl} -i {shlex.quote(gate + SQL_DUMP)}",
        "",
    ])  # fmt: skip
