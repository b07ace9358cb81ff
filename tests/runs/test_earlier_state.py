"""The state of an earlier version is read, and a run that it began goes on.

`tests/data/earlier_state` was written by the code before its names changed: one run that ended with a rollback, and
one that was killed between a deactivation that AWS accepted and its record, with a wave still to come. `events.jsonl`
has one entry of each kind. Stored tags and fields are a contract: these files are never written again.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sparekey.ledger.events import RunEvent, event_body, event_from_body
from sparekey.ledger.store import Ledger
from sparekey.model import LastUsed
from support import postgres_server
from support.clocks import VirtualClock
from support.fake_aws import FakeAws, FakeKey
from support.virtual_engine import FakeProbes, VirtualEngine

DATA = Path(__file__).parents[1] / "data" / "earlier_state"
SAVED = json.loads((DATA / "aws.json").read_text())
SAVED_EVENTS = [json.loads(line) for line in (DATA / "events.jsonl").read_text().splitlines()]
ENDED, CUT_OFF = SAVED["runs"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with what the earlier version left."""
    script = (DATA / f"{request.param}.sql").read_text()
    if request.param == "sqlite":
        with sqlite3.connect(tmp_path / "sparekey.db") as database:
            database.executescript(script)
        database.close()
        yield f"sqlite:///{tmp_path / 'sparekey.db'}"
        return
    with postgres_server.server(tmp_path) as server:
        with psycopg.connect(server) as connection:
            connection.execute(script.encode())
        yield server


def aws_as_it_was() -> FakeAws:
    """The keys as AWS had them when the earlier version was killed."""
    aws = FakeAws(VirtualClock(datetime.fromisoformat(SAVED["now"])))
    for name, keys in SAVED["users"].items():
        account, user = name.split("/")
        aws.add(user, *map(_key, keys), account=account)
    return aws


def _key(saved: dict[str, str]) -> FakeKey:
    used = (
        LastUsed("used", datetime.fromisoformat(saved["used"]), saved["service"], saved["region"])
        if saved["used"]
        else LastUsed("never")
    )
    return FakeKey(saved["id"], datetime.fromisoformat(saved["created"]), saved["status"], used)


def test_a_run_begun_by_the_earlier_version_goes_on_to_its_end(url: str) -> None:
    aws = aws_as_it_was()
    engine = VirtualEngine(aws, FakeProbes({"web": ("api", "batch"), "night": ("idle",)}), url)
    assert set(engine.states(ENDED).values()) == {"rolled_back", "settled"}
    assert engine.states(CUT_OFF) == {
        "AKIAAPIOLD": "watching",
        "AKIABATCH1": "watching",
        "AKIABATCH2": "in_doubt",
    }
    before = engine.record(CUT_OFF)
    assert (before.waves, before.wave) == (2, 2)

    engine.rounds = True
    engine.run()

    assert set(engine.states(CUT_OFF).values()) == {"settled"}
    assert aws.writes == []  # what the killed process had set is resolved by reading, not set again
    assert aws.statuses("batch") == {
        "AKIABATCH3": "Active",
        "AKIABATCH1": "Inactive",
        "AKIABATCH2": "Inactive",
    }
    for run in (ENDED, CUT_OFF):
        assert engine.ledger.verify(run).broken == ()
    engine.ledger.close()


def plain(body: dict[str, Any]) -> Any:
    """A body as JSON has it: lists for tuples."""
    return json.loads(json.dumps(body))


def test_every_entry_of_the_earlier_version_reads_as_it_was_written(url: str) -> None:
    ledger = Ledger.open(url)
    entries = [entry for run in ledger.runs() for entry in ledger.entries(run)]
    assert len(entries) > 40
    for entry in entries:
        assert plain(event_body(event_from_body(entry.kind, entry.body))) == entry.body
    ledger.close()


@pytest.mark.parametrize("saved", SAVED_EVENTS, ids=lambda saved: saved["kind"])
def test_each_kind_of_entry_keeps_its_tag_and_fields(saved: dict[str, Any]) -> None:
    event = event_from_body(saved["kind"], saved["body"])
    assert plain(event_body(event)) == saved["body"]


def test_no_kind_of_entry_was_lost() -> None:
    saved = {event["kind"] for event in SAVED_EVENTS}
    known = {event.__struct_config__.tag for event in RunEvent.__args__}
    assert saved <= known
