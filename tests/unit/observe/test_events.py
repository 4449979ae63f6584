"""Reading the event log through rotation, torn lines and filters."""

from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from stockade.errors import InputError
from stockade.observe import events as log
from stockade.observe.explain import explain

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.observe.events import Event


def event(number: int, **more: object) -> Event:
    return {"id": f"id-{number}", "time": f"2026-01-01T00:00:{number:02d}.000Z", "outcome": "deny", **more}


def write(path: Path, *entries: Event) -> None:
    with path.open("a") as handle:
        handle.writelines(json.dumps(entry) + "\n" for entry in entries)


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(tmp_path / "events.jsonl.10", event(1))
    write(tmp_path / "events.jsonl.2", event(2))
    write(path, event(3))
    assert [entry["id"] for entry in log.read(path, log.Filter())] == ["id-1", "id-2", "id-3"]


def test_torn_and_foreign_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": "to\n[1]\nnull\n')
    write(path, event(1))
    assert [entry["id"] for entry in log.read(path, log.Filter())] == ["id-1"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (log.Filter(layer="lookup"), ["id-1"]),
        (log.Filter(client_id="c_1"), ["id-2"]),
        (log.Filter(since="2026-01-01T00:00:02.000Z"), ["id-2", "id-3"]),
        (log.Filter(outcome="allow"), ["id-3"]),
        (log.Filter(layer="lookup", outcome="allow"), []),
    ],
)
def test_a_filter_admits_what_has_all_it_asks_for(tmp_path: Path, keep: log.Filter, expected: list[str]) -> None:
    path = tmp_path / "events.jsonl"
    write(path, event(1, layer="lookup"), event(2, client={"client_id": "c_1"}), event(3, outcome="allow"))
    assert [entry["id"] for entry in log.read(path, keep)] == expected


def test_following_goes_on_through_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, event(0))

    def writer() -> None:
        time.sleep(0.2)
        write(path, event(1))
        time.sleep(0.2)
        path.rename(tmp_path / "events.jsonl.1")
        write(path, event(2))

    thread = threading.Thread(target=writer)
    thread.start()
    seen = [entry["id"] for entry in itertools.islice(log.follow(path, log.Filter(), poll_seconds=0.02), 2)]
    thread.join()
    assert seen == ["id-1", "id-2"]


def test_an_event_is_found_by_the_instance_of_its_problem_document(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, event(1), event(2, detail="mentions id-1"))
    assert log.find(path, "urn:uuid:id-1") == event(1)
    assert log.find(path, "id-9") is None


def test_a_span_is_taken_from_now() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert log.parse_since("90m", now) == "2026-01-01T10:30:00.000Z"
    assert log.parse_since("2026-01-01T12:00:00+02:00") == "2026-01-01T10:00:00.000Z"
    with pytest.raises(InputError):
        log.parse_since("yesterday")


def test_a_story_names_layer_reason_pointer_and_what_to_do() -> None:
    told = explain(
        event(1, layer="validate_request", reason="body_invalid", status=400, method="POST", path="/orders",
              pointer="/paths/~1orders", evidence="/qty: minimum is 1", client={"address": "127.0.0.1"})
    )  # fmt: skip
    for part in ("POST /orders from 127.0.0.1 was refused with status 400", "request validation (body_invalid)",
                 "/paths/~1orders", "/qty: minimum is 1", "To do:"):  # fmt: skip
        assert part in told
