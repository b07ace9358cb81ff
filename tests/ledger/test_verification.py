"""Verifying a ledger accounts for every row, and an export passes every row on."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparekey.errors import BadInputError
from sparekey.formatting import escaped
from sparekey.ledger import plan_registry
from sparekey.ledger.database import StateDamagedError
from sparekey.ledger.events import (
    DeletionIntended,
    RunEvent,
    RunOpened,
    RunOptions,
    StatusConfirmed,
    StepHeld,
    WriteAccepted,
    WriteIntended,
    event_body,
    kind_of,
    read_event,
)
from sparekey.ledger.records import GENESIS, ProbeObservation, canonical, entry_hash
from sparekey.ledger.store import Ledger
from sparekey.ledger.verification import exported_entry, parse_head, raw_rows, verify_all, verify_run
from sparekey.plan import encode
from sparekey.policy import Policy
from sparekey.runs.run_header import policy_of
from support.clocks import NOW, VirtualClock
from support.fake_aws import CALLER, plan_for, small_company

_PLAN = plan_for(small_company(VirtualClock()))
RUN = f"r-{_PLAN.digest[:8]}"
_KEY = ("1", "api", "AKIAAPIOLD")


def fill(ledger: Ledger) -> None:
    """A run of one key, and what stands beside it."""
    opened = RunOpened(encode(_PLAN).decode(), _PLAN.digest, CALLER, policy_of(Policy()), RunOptions(), ())
    _append(ledger, opened)
    intent = WriteIntended(*_KEY, "Inactive", "apply", 1, "here", {})
    claim = ledger.claim("1", "api")
    ledger.append(RUN, kind_of(intent), event_body(intent), at=NOW, claim=claim, bump_epoch=True)
    _append(ledger, WriteAccepted(*_KEY, "Inactive", "request-1"))
    _append(ledger, StatusConfirmed(*_KEY, "Inactive", 3, {"AKIAAPIOLD": "Inactive"}))
    ledger.observe(RUN, "web", ProbeObservation(NOW, NOW, healthy=True))


def _append(ledger: Ledger, result: RunEvent, run: str = RUN) -> None:
    ledger.append(run, kind_of(result), event_body(result), at=NOW)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    fill(ledger)
    ledger.close()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(template.read_bytes())
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{path}")
    yield opened
    opened.close()


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def loosen(path: Path) -> None:
    """Let the table take any row, as somebody who makes it anew can."""
    tamper(
        path,
        "CREATE TABLE loose AS SELECT * FROM sparekey_entries",
        "DROP TABLE sparekey_entries",
        "ALTER TABLE loose RENAME TO sparekey_entries",
    )


def faults(ledger: Ledger) -> list[str]:
    found = verify_all(ledger)
    return [what for chain in found.chains for what in chain.broken] + list(found.faults)


def add(path: Path, **row: Any) -> None:
    """Add a row whose hash is right, unless told otherwise."""
    body = row.pop("body", "{}")
    full: dict[str, Any] = {
        "run": RUN,
        "seq": 5,
        "at": NOW.isoformat(),
        "kind": "written",
        "account": "",
        "user_name": "",
    }
    full |= {"body": body, "prev": GENESIS} | row
    if all(isinstance(full[name], str) for name in ("run", "at", "kind", "body", "prev")):
        hashed = [full[name] for name in ("run", "seq", "at", "kind", "body", "prev")]
        full.setdefault("hash", entry_hash(*hashed))
    full.setdefault("hash", "0" * 64)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        marks = ", ".join(f":{name}" for name in full)
        connection.execute(f"INSERT INTO sparekey_entries ({', '.join(full)}) VALUES ({marks})", full)


def test_a_ledger_that_nobody_touched_is_whole(ledger: Ledger) -> None:
    found = verify_all(ledger)
    assert found.intact
    assert [(chain.run, chain.entries, chain.head) for chain in found.chains] == [(RUN, 4, ledger.head(RUN))]
    assert verify_run(ledger, RUN, ledger.head(RUN)).intact


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("DELETE FROM sparekey_entries WHERE seq = 1", ["entry 1 was removed"]),
        ("DELETE FROM sparekey_entries WHERE seq < 4", ["entries 1 to 3 were removed", "is at epoch"][:1]),
        (
            "UPDATE sparekey_entries SET run = 'r-other'",
            ["'r-other' is not the name of a run", *[f"entry {n} was edited" for n in (1, 2, 3, 4)]],
        ),
        ("UPDATE sparekey_entries SET seq = seq + 10", ["entries 1 to 10 were removed"]),
        ("UPDATE sparekey_entries SET seq = -1 WHERE seq = 1", ["entry -1 has a number that no entry can"]),
        ("DELETE FROM sparekey_claims", ["the claim on user api in account 1 is at epoch 0, an entry has 1"]),
        ("UPDATE sparekey_claims SET epoch = 0", ["is at epoch 0, an entry has 1: it was set back"]),
        ("UPDATE sparekey_claims SET epoch = 3", ["was taken 3 times; by the entries, at most 1"]),
        ("UPDATE sparekey_claims SET run = 'r-00000000'", ["is of run 'r-00000000', which has no entries"]),
        ("UPDATE sparekey_claims SET epoch = 'x'", ["has no usable epoch", "is at epoch 0"]),
        ("UPDATE sparekey_observations SET run = 'r-0'", ["probe 'web' is of run 'r-0', which has no"]),
        ("UPDATE sparekey_observations SET seen = '9'", ["probe 'web' in run '" + RUN + "' has a time"]),
        (
            "CREATE TRIGGER t AFTER INSERT ON sparekey_entries BEGIN DELETE FROM sparekey_claims; END",
            ["table sparekey_entries has a trigger 't', which sparekey did not make"],
        ),
        ("UPDATE sparekey_entries SET body = x'00ff' WHERE seq = 3", ["entry 3 has no usable body"]),
        ("UPDATE sparekey_entries SET seq = 'two' WHERE seq = 2", ["entry 2 was removed", "'two' has no"]),
        (
            "INSERT INTO sparekey_claims VALUES ('1', 'new', 1, '" + RUN + "')",
            ["was taken 1 times; by the entries, at most 0: entries were cut off"],
        ),
    ],
)
def test_each_fault_is_named(ledger: Ledger, path: Path, change: str, named: list[str]) -> None:
    tamper(path, change)
    received = faults(ledger)
    for what in named:
        assert any(what in one for one in received), received


def test_a_cut_tail_with_a_write_in_it_shows_in_the_claims(ledger: Ledger, path: Path) -> None:
    tamper(path, "DELETE FROM sparekey_entries WHERE seq > 1")
    assert faults(ledger) == [
        "the claim on user api in account 1 was taken 1 times; by the entries, at most 0: entries were cut off"
    ]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"run": None}, "its entries have no run"),
        ({"run": b"r-12345678"}, "its entries have a run that is not text"),
        ({"run": "r-1%' \x9b31m", "seq": 1}, "is not the name of a run"),
        ({"run": "", "seq": 1}, "'' is not the name of a run"),
        ({"run": "root-111122223333", "seq": 1, "kind": "opened"}, "not the opening of a run"),
        ({"run": "r-00000000", "seq": 1}, "entry 1 is not the opening of a run: its kind is 'written'"),
        ({"run": "r-00000000", "seq": 2}, "entry 1 was removed"),
        ({"seq": None}, "entry None has no usable seq"),
        ({"seq": 4}, "entry 4 is there twice"),
        ({"at": None}, "entry 5 has no usable at"),
        ({"at": "yesterday"}, "has a time that is none"),
        ({"at": "2026-03-02T09:00:00"}, "has a time that is none"),
        ({"kind": "invented"}, "is of a kind that this version does not know, 'invented'"),
        ({"kind": None}, "entry 5 has no usable kind"),
        ({"body": "no json"}, "has a body that is not JSON"),
        ({"body": "[1]"}, "has a body that is not a JSON object"),
        ({"body": "{}"}, "or has a wrong body"),
        ({"body": '{"account":"1","user":"x"}'}, "is filed under another user"),
        ({"hash": None}, "entry 5 has no usable hash"),
        ({"hash": "0" * 64}, "entry 5 was edited"),
    ],
)
def test_a_row_that_no_run_wrote_is_named(path: Path, row: dict[str, Any], named: str) -> None:
    loosen(path)
    add(path, **row)
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        received = faults(ledger)
        assert any(named in one for one in received), received
        lines = [json.loads(escaped(exported_entry(one))) for one in raw_rows(ledger)]
        assert len(lines) == 5


def test_an_opening_of_another_runs_plan_and_an_epoch_used_twice_are_named(ledger: Ledger) -> None:
    opened = RunOpened(encode(_PLAN).decode(), _PLAN.digest, CALLER, policy_of(Policy()), RunOptions(), ())
    _append(ledger, opened, "r-00000000")
    _append(ledger, WriteIntended(*_KEY, "Inactive", "apply", 1, "here", {}))
    assert faults(ledger) == [
        f"entry 1 opens the run with plan {_PLAN.digest[:12]}, which is another run's",
        "entry 5 has epoch 1 of user api, which another intent has",
    ]


@pytest.mark.parametrize(
    ("kind", "body", "named"),
    [
        ("planned", {"plan_digest": _PLAN.digest}, "entry 2 puts no plan on record: Object missing"),
        (
            "planned",
            {"plan_digest": _PLAN.digest, "caller": "x"},
            "entry 2 is of kind 'planned' in the chain of",
        ),
        (
            "opened",
            {"plan_digest": _PLAN.digest, "caller": "x"},
            "entry 2 is of kind 'opened' in the chain of",
        ),
        ("planned", {"plan_digest": "0" * 64, "caller": "x"}, "entry 2 puts plan 000000000000 on record"),
    ],
)
def test_what_does_not_belong_in_the_chain_of_a_plan_is_named(
    ledger: Ledger, kind: str, body: dict[str, str], named: str
) -> None:
    plan_registry.register_plan(ledger, _PLAN, NOW)
    assert faults(ledger) == []
    ledger.append(f"p-{_PLAN.digest}", kind, body, at=NOW)
    received = faults(ledger)
    assert any(one.startswith(named) for one in received), received


def test_a_plan_under_another_plans_name_is_named(ledger: Ledger) -> None:
    ledger.append(f"p-{'0' * 64}", "planned", {"plan_digest": _PLAN.digest, "caller": "x"}, at=NOW)
    assert faults(ledger) == [f"entry 1 puts plan {_PLAN.digest[:12]} on record, which is another one"]


def test_whatever_takes_a_user_counts_against_the_claim(ledger: Ledger) -> None:
    """A deletion and a hold move the epoch as an intent does, and name none."""
    for result in (DeletionIntended(*_KEY, "here", {}), StepHeld(*_KEY, "used", "why", "")):
        claim = ledger.claim("1", "api")
        ledger.append(RUN, kind_of(result), event_body(result), at=NOW, claim=claim, bump_epoch=True)
    assert ledger.claim("1", "api").epoch == 3
    assert faults(ledger) == []


def test_what_sqlite_finds_wrong_with_the_file_is_named(path: Path) -> None:
    """An index that lacks what the table has: some readings would pass rows over."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sparekey_entries_kind'"
        root = connection.execute(query).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    at = (root - 1) * size
    content[at + 3 : at + 5] = b"\0\0"  # no cells
    path.write_bytes(content)
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        received = faults(ledger)
    assert any("the state file is damaged: wrong # of entries in index" in one for one in received), received


def test_an_entry_of_a_kind_that_nobody_knows_is_never_read_as_another(ledger: Ledger) -> None:
    ledger.append(RUN, "invented", {"account": "1", "user": "api"}, at=NOW)
    with pytest.raises(
        StateDamagedError, match=f"entry 5 of run {RUN} in the ledger is none that"
    ) as received:
        read_event(ledger.entries(RUN)[-1])
    assert "`sparekey ledger verify`" in received.value.hint


def test_against_a_head_that_was_kept(ledger: Ledger, path: Path) -> None:
    head = ledger.head(RUN)
    tamper(path, "DELETE FROM sparekey_entries WHERE seq > 2")
    assert verify_run(ledger, RUN).intact
    assert verify_run(ledger, RUN, head).chains[0].broken == (
        f"the head {head} is not in the chain: entries after 2 were cut off or replaced",
    )
    assert verify_run(ledger, "r-00000000").chains[0].broken == ("run r-00000000 has no entries",)


@pytest.mark.parametrize("head", ["", " ", "abc", "g" * 64, "0" * 63, "0" * 65, "é" * 64])
def test_a_head_that_is_none_is_refused(head: str) -> None:
    with pytest.raises(BadInputError, match="64 hexadecimal digits"):
        parse_head(head)


def test_a_head_may_be_in_capitals() -> None:
    assert parse_head(" " + "AB" * 32) == "ab" * 32


def test_many_faults_are_counted(ledger: Ledger, path: Path) -> None:
    for _ in range(150):
        _append(ledger, WriteAccepted(*_KEY, "Inactive", "request-1"))
    tamper(path, "UPDATE sparekey_entries SET hash = 'x' || hash")
    broken = verify_all(ledger).chains[0].broken
    assert (len(broken), broken[-1]) == (101, "and 207 more faults")


def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        for number in range(300):
            _append(ledger, WriteAccepted(*_KEY, "Inactive", f"request-{number}"))
    content = bytearray(path.read_bytes())
    for at in range(4096 * 4, len(content), 4096):
        content[at : at + 100] = b"\xa5" * 100
    path.write_bytes(content)
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        with pytest.raises(StateDamagedError, match=f"state file {path} is damaged") as received:
            verify_all(ledger)
        assert "undo" in received.value.hint


def test_an_entry_that_cannot_be_read_is_damage(ledger: Ledger, path: Path) -> None:
    tamper(path, "UPDATE sparekey_entries SET body = '{' WHERE seq = 3")
    with pytest.raises(StateDamagedError, match=f"entry 3 of run {RUN} in the ledger cannot be read"):
        ledger.entries(RUN)


HOSTILE = "\x9b31m\u202e\u200b\u2066\u00ad\x7f\u2028\U000e0041é\n\x1b"


def test_an_export_holds_nothing_that_could_move_a_cursor(ledger: Ledger) -> None:
    _append(ledger, WriteAccepted("1", HOSTILE, "AKIA", "Inactive", HOSTILE))
    lines = [escaped(exported_entry(row)) for row in raw_rows(ledger)]
    assert all(char.isprintable() for line in lines for char in line)
    body = json.loads(lines[-1])["body"]
    assert (body["user"], body["request_id"]) == (HOSTILE, HOSTILE)
    assert r"\u009b" in lines[-1]
    assert r"\udb40\udc41" in lines[-1]
    assert "é" in lines[-1]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_escaping_changes_no_value(text: str) -> None:
    assert json.loads(escaped(canonical({"text": text}))) == {"text": text}


_CHANGES: tuple[Callable[[int, str], str], ...] = (
    lambda seq, _: f"DELETE FROM sparekey_entries WHERE seq = {seq}",
    lambda seq, text: f"UPDATE sparekey_entries SET kind = kind || '{text}' WHERE seq = {seq}",
    lambda seq, text: f"UPDATE sparekey_entries SET run = run || '{text}' WHERE seq = {seq}",
    lambda seq, _: f"UPDATE sparekey_entries SET body = substr(body, 2) WHERE seq = {seq}",
    lambda seq, text: f"UPDATE sparekey_entries SET user_name = user_name || '{text}' WHERE seq = {seq}",
    lambda seq, _: f"UPDATE sparekey_entries SET prev = hash WHERE seq = {seq}",
    lambda seq, _: f"UPDATE sparekey_entries SET at = substr(at, 3) WHERE seq = {seq}",
    lambda seq, _: f"UPDATE sparekey_entries SET seq = seq + 100 WHERE seq = {seq}",
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(_CHANGES), seq=st.integers(1, 3), text=st.text("abc-%1", min_size=1))
def test_no_single_change_before_the_last_entry_is_passed_over(
    template: Path, tmp_path: Path, change: Callable[[int, str], str], seq: int, text: str
) -> None:
    path = tmp_path / "changed.db"
    path.write_bytes(template.read_bytes())
    tamper(path, change(seq, text))
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        assert not verify_all(ledger).intact
