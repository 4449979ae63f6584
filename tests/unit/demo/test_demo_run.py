"""What the demo concludes from two answers, and what it prints."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from stockade.demo import proofs
from stockade.demo.attacks import ATTACKS, LEGITIMATE, Attack, Layer
from stockade.demo.calls import Answer, Call, parse_answers
from stockade.demo.run import Row, Seen, Verdict, judge_attack, judge_legitimate, run_demo, succeeded
from stockade.demo.table import curl_commands, render_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stockade.demo.calls import Credentials

EVENT_ID = "019ab000-0000-7000-8000-000000000001"
BOOTY = Answer(200, {}, b"booty", (200,))
REFUSED = Answer(401, {}, json.dumps({"instance": f"urn:uuid:{EVENT_ID}"}).encode(), (401,))
EVENTS: dict[str, dict[str, Any]] = {EVENT_ID: {"layer": "authenticate", "reason": "token_invalid"}}


def attack(layer: Layer = "authenticate", harmless: str = "") -> Attack:
    return Attack("a", "an attack", "API2", layer, lambda _: Call(), proofs.contains("the booty", "booty"), harmless)


def judged(gate: Answer, direct: Answer = BOOTY, **changes: Any) -> Row:
    return judge_attack(attack(**changes), direct, gate, EVENTS.get)


def test_refused_attack_is_stopped_and_the_event_names_the_layer() -> None:
    row = judged(REFUSED)
    assert (row.verdict, row.decided_by, row.reason) == (Verdict.STOPPED, "authenticate", "token_invalid")


def test_attack_that_got_its_booty_is_missed_whatever_the_status() -> None:
    assert judged(replace(BOOTY, status=500)).verdict is Verdict.MISSED


def test_attack_of_a_layer_to_come_is_shown_as_such() -> None:
    assert judged(BOOTY, layer="detect").verdict is Verdict.TO_COME


def test_attack_of_a_layer_to_come_counts_as_stopped_when_it_is() -> None:
    assert judged(REFUSED, layer="detect").verdict is Verdict.STOPPED


def test_attack_that_fails_against_the_api_alone_proves_nothing() -> None:
    row = judged(REFUSED, direct=Answer(404))
    assert row.verdict is Verdict.UNPROVEN
    assert not succeeded([row])


def test_served_without_the_booty_is_stopped_with_the_reason() -> None:
    row = judged(Answer(200, {}, b"nothing", (200,)), harmless="header removed by the gate")
    assert (row.verdict, row.note) == (Verdict.STOPPED, "header removed by the gate")


def test_rate_limit_does_not_count_for_another_layer() -> None:
    limited = Answer(429, {}, b"", (429,))
    assert judged(limited).verdict is Verdict.MISSED
    assert judged(limited, layer="limits").verdict is Verdict.STOPPED


@pytest.mark.parametrize("layer", ["internal", "upstream"])
def test_gate_that_fails_has_not_stopped_anything(layer: str) -> None:
    row = judge_attack(attack(), BOOTY, replace(REFUSED, status=502), {EVENT_ID: {"layer": layer}}.get)
    assert row.verdict is Verdict.MISSED


def test_broken_connection_stops_framing_attacks_only() -> None:
    reset = Answer(0, error="ReadError")
    assert judged(reset).verdict is Verdict.MISSED
    assert judged(reset, layer="framing").verdict is Verdict.STOPPED


def test_legitimate_call_must_pass_at_both_ends() -> None:
    legitimate = LEGITIMATE[0]
    assert judge_legitimate(legitimate, BOOTY, BOOTY, EVENTS.get).verdict is Verdict.PASSED
    row = judge_legitimate(legitimate, BOOTY, REFUSED, EVENTS.get)
    assert (row.verdict, row.decided_by) == (Verdict.BROKEN, "authenticate")
    assert not succeeded([row])


def test_event_that_comes_late_is_waited_for() -> None:
    looks = iter([None, None, EVENTS[EVENT_ID]])
    assert judge_attack(attack(), BOOTY, REFUSED, lambda _: next(looks)).reason == "token_invalid"


def test_instance_that_is_no_uuid_is_no_event() -> None:
    for instance in ("urn:uuid:../../x", "x", 5, None):
        assert Answer(403, {}, json.dumps({"instance": instance}).encode()).event_id is None
    assert Answer(403, {}, b"[1]").event_id is None


def test_every_answer_on_a_connection_is_read() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    answer = parse_answers(one + one.replace(b"200 OK", b"404 Not Found") + b"junk")
    assert (answer.status, answer.statuses, answer.bodies) == (200, (200, 404), (b"hi", b"hi"))
    assert parse_answers(b"").status == 0
    assert parse_answers(b"\x00\x01").status == 0


# the whole run, against a gate that refuses everything


class Refuser(BaseHTTPRequestHandler):
    """Answers every request with a problem document, and the token endpoint with a token."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self.rfile.read(int(length) if length.isdigit() else 0)
        token = self.path == "/token"
        body = b'{"access_token": "stk_at_abc", "expires_in": 600}' if token else REFUSED.body
        self.send_response(200 if token else 403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def refuser() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuser)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_run_says_what_a_gate_that_refuses_everything_breaks(
    shop_url: str, refuser: str, credentials: Credentials
) -> None:
    out = io.StringIO()
    result = run_demo(shop_url, refuser, "", credentials=credentials, explain=EVENTS.get, out=out)
    verdicts = {row.id: row.verdict for row in result.rows}
    assert len(verdicts) == len(ATTACKS) + len(LEGITIMATE)
    assert {verdicts[entry.id] for entry in LEGITIMATE} == {Verdict.BROKEN}
    assert verdicts.pop("foreign-token") is Verdict.NOT_RUN
    assert {verdicts[entry.id] for entry in ATTACKS if entry.id in verdicts} == {Verdict.STOPPED}
    assert not result.succeeded
    assert "\x1b" not in out.getvalue()
    assert json.loads(json.dumps(result.as_json()))["counts"]["broken"] == len(LEGITIMATE)


def rows_of_every_verdict() -> list[Row]:
    long = "x" * 200
    seen = Seen(200, long)
    return [
        Row("legitimate" if verdict in {"passed", "broken"} else "attack", verdict, long, "API1", "detect", seen, seen,
            verdict, "validate_request", "parameter_duplicated", None, long)
        for verdict in Verdict
    ]  # fmt: skip


def test_table_fits_120_columns() -> None:
    text = render_table(rows_of_every_verdict(), colour=False)
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n")


def test_colour_changes_nothing_but_the_colour() -> None:
    rows = rows_of_every_verdict()
    coloured = render_table(rows, colour=True)
    assert "\x1b[31m" in coloured
    assert re.sub("\x1b\\[[0-9]+m", "", coloured) == render_table(rows, colour=False)


def test_no_title_is_cut() -> None:
    rows = [
        Row("attack", entry.id, entry.title, entry.owasp, entry.layer, Seen(200, "got"), Seen(401), Verdict.STOPPED)
        for entry in ATTACKS
    ]
    assert "…" not in render_table(rows, colour=False)


def test_layers_to_come_are_named_and_counted() -> None:
    text = render_table([judged(BOOTY, layer="detect"), judged(BOOTY, layer="own")], colour=False)
    assert "not stopped yet (layer: detect)" in text
    assert "2 wait for layers to come: detect 1, own 1" in text


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs curl and bash")
def test_printed_commands_work_when_pasted(refuser: str, shop_url: str, tmp_path: Any) -> None:
    ca_file = tmp_path / "a folder" / "ca.pem"
    text = curl_commands(
        gate_url=refuser,
        token_endpoint=f"{refuser}/token",
        ca_file=str(ca_file),
        client_id="c_demo",
        client_secret="it's secret",
        direct_url=shop_url,
    )
    script = "set -e\n" + text + 'echo "TOKEN=$TOKEN"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "TOKEN=stk_at_abc" in done.stdout
    assert '"total_cents":-19500' in done.stdout
    assert done.stdout.count("403 Forbidden") == 5
