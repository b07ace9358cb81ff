"""What a worker logs: for people, and for a log pipeline."""

import json
from datetime import UTC, datetime

import pytest

from sparekey.cli import verbosity
from sparekey.cli.run_events import print_event
from sparekey.cli.worker_log import WorkerLog
from sparekey.ledger.records import LedgerEntry
from sparekey.states import NO_PROBE

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KEY = {"account": "111122223333", "user": "web", "key": "AKIAOLD"}
EVENTS = (
    LedgerEntry("r-1", 1, AT, "probed", {"probe": "web", "green": False, "output": "HTTP 500"}, "", ""),
    LedgerEntry(
        "r-1",
        2,
        AT,
        "intent",
        {**KEY, "status": "Active", "because": "rollback", "why": "probe web is unhealthy"},
        "",
        "",
    ),
    LedgerEntry("r-1", 3, AT, "written", {**KEY, "status": "Active", "request_id": "q"}, "", ""),
    LedgerEntry("r-1", 4, AT, "confirmed", {**KEY, "status": "Active", "reads": 3}, "", ""),
)


@pytest.fixture(autouse=True)
def _default() -> None:
    verbosity.reset()


def test_a_rollback_is_logged_with_its_reason(capsys: "pytest.CaptureFixture[str]") -> None:
    log = WorkerLog(json_lines=False)
    for entry in EVENTS:
        log.event(entry)
    assert capsys.readouterr().err.splitlines() == [
        "09:00:00Z  probe web: UNHEALTHY",
        "09:00:00Z  run r-1  111122223333  web  AKIAOLD: reactivating … (probe web is unhealthy)",
        "09:00:00Z  run r-1  111122223333  web  AKIAOLD: confirmed Active (3 consistent reads)",
    ]


def test_json_lines_have_time_level_and_fields(capsys: "pytest.CaptureFixture[str]") -> None:
    log = WorkerLog(json_lines=True)
    for entry in EVENTS:
        log.event(entry)
    log.write("the state cannot be used", "error")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "info", "info", "error"]
    assert lines[0] | {"message": ""} == {
        "time": "2026-03-02T09:00:00Z",
        "level": "warning",
        "message": "",
        "event": "probed",
        "run": "r-1",
        "probe": "web",
    }
    assert (lines[1]["key"], lines[1]["because"]) == ("AKIAOLD", "rollback")
    assert "HTTP 500" not in json.dumps(lines)


def test_quiet_keeps_what_needs_attention(capsys: "pytest.CaptureFixture[str]") -> None:
    verbosity.VERBOSITY.level = -1
    log = WorkerLog(json_lines=False)
    for entry in EVENTS:
        log.event(entry)
    verbosity.reset()
    assert capsys.readouterr().err == "09:00:00Z  probe web: UNHEALTHY\n"


def test_a_watch_that_was_lost_is_a_warning_and_one_that_never_was_a_detail(
    capsys: "pytest.CaptureFixture[str]",
) -> None:
    lost = {**KEY, "verdict": "unwatched", "why": "probe web was not asked from 09:00 to 09:10"}
    never = {**KEY, "verdict": "unwatched", "why": NO_PROBE}
    verbosity.VERBOSITY.level = -1
    for body in (lost, never):
        entry = LedgerEntry("r-1", 5, AT, "verdict", body, "", "")
        WorkerLog(json_lines=False).event(entry)
        print_event(entry)
    verbosity.reset()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("not watched (probe web was not asked from 09:00 to 09:10)") for line in lines)


def test_quiet_prints_each_failure_of_a_run(capsys: "pytest.CaptureFixture[str]") -> None:
    verbosity.VERBOSITY.level = -1
    print_event(LedgerEntry("r-1", 5, AT, "failed", {**KEY, "why": "AccessDenied", "final": True}, "", ""))
    print_event(EVENTS[3])
    verbosity.reset()
    assert capsys.readouterr().err == "09:00:00Z  111122223333  web  AKIAOLD: failed (AccessDenied)\n"
