"""The ledger: what it catches, what it refuses, what it keeps apart."""

import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from sparekey.ledger import schema
from sparekey.ledger import store as ledger_module
from sparekey.ledger.database import (
    SchemaError,
    StateAwayError,
    StateDamagedError,
    StateError,
    StateFullError,
)
from sparekey.ledger.records import (
    GENESIS,
    AccountLease,
    FencedError,
    ProbeObservation,
    StoppedError,
    UserClaim,
    WorkerRecord,
    entry_hash,
)
from sparekey.ledger.store import Ledger
from sparekey.runs.worker_leases import WorkerLeases

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{path}")
    yield opened
    opened.close()


def fill(ledger: Ledger, run: str = "r-1", entries: int = 5) -> None:
    for number in range(entries):
        body = {"account": "1", "user": f"user{number}", "key": f"AKIA{number}"}
        ledger.append(run, "written", body, at=NOW + timedelta(seconds=number))


def tamper(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_whole_chain_verifies_and_its_head_is_the_last_hash(ledger: Ledger) -> None:
    fill(ledger)
    found = ledger.verify("r-1", ledger.head("r-1"))
    assert (found.entries, found.broken) == (5, ())
    assert found.head == ledger.entries("r-1")[-1].hash
    assert ledger.entries("r-1")[0].prev == GENESIS
    assert ledger.head("r-none") == GENESIS


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ("UPDATE sparekey_entries SET body = replace(body, 'AKIA2', 'AKIA9')", ["entry 3 was edited"]),
        ("UPDATE sparekey_entries SET at = replace(at, '09:00:01', '09:00:09')", ["entry 2 was edited"]),
        ("UPDATE sparekey_entries SET kind = 'held' WHERE seq = 5", ["entry 5 was edited"]),
        ("DELETE FROM sparekey_entries WHERE seq = 3", ["entry 3 was removed"]),
        ("DELETE FROM sparekey_entries WHERE seq IN (2, 3)", ["entries 2 to 3 were removed"]),
        (
            "UPDATE sparekey_entries SET user_name = 'x' WHERE seq = 4",
            ["entry 4 is filed under another user"],
        ),
        (
            "UPDATE sparekey_entries SET seq = seq - 5 WHERE seq IN (2, 3); "  # noqa: ISC004  # one change
            "UPDATE sparekey_entries SET seq = -seq WHERE seq < 0",
            [
                "entry 2 does not follow entry 1: one of them was replaced or moved",
                "entry 2 was edited",
                "entry 3 does not follow entry 2: one of them was replaced or moved",
                "entry 3 was edited",
                "entry 4 does not follow entry 3: one of them was replaced or moved",
            ],
        ),
    ],
)
def test_it_says_which_entry_was_tampered_with(
    ledger: Ledger, path: Path, change: str, received: list[str]
) -> None:
    fill(ledger)
    tamper(path, *change.split(";"))
    assert list(ledger.verify("r-1").broken) == received


def test_an_entry_with_a_hash_of_its_own_still_breaks_the_chain(ledger: Ledger, path: Path) -> None:
    fill(ledger)
    row = ledger.entries("r-1")[2]
    forged = entry_hash("r-1", 3, row.at.isoformat(), "held", msgspec.json.encode({}).decode(), row.prev)
    tamper(
        path,
        f"UPDATE sparekey_entries SET kind='held', body='{{}}', user_name='', account='', hash='{forged}' "
        "WHERE seq = 3",
    )
    assert list(ledger.verify("r-1").broken) == [
        "entry 4 does not follow entry 3: one of them was replaced or moved"
    ]


def test_a_cut_tail_shows_only_against_a_head_that_was_kept_elsewhere(ledger: Ledger, path: Path) -> None:
    fill(ledger)
    head = ledger.head("r-1")
    tamper(path, "DELETE FROM sparekey_entries WHERE seq > 3")
    assert ledger.verify("r-1").broken == ()
    assert "cut off" in ledger.verify("r-1", head).broken[0]
    assert ledger.verify("r-none").broken == ("run r-none has no entries",)


def test_runs_are_apart_and_are_exported_whole(ledger: Ledger) -> None:
    fill(ledger, "r-2", 2)
    fill(ledger, "r-1", 3)
    assert ledger.runs() == ("r-1", "r-2")
    lines = [msgspec.json.decode(line) for line in ledger.export()]
    assert [(line["run"], line["seq"]) for line in lines] == [
        ("r-1", 1), ("r-1", 2), ("r-1", 3), ("r-2", 1), ("r-2", 2),
    ]  # fmt: skip
    assert [msgspec.json.decode(line)["run"] for line in ledger.export("r-2")] == ["r-2", "r-2"]
    assert [entry.seq for entry in ledger.entries("r-1", after=1, limit=1)] == [2]
    assert [entry.seq for entry in ledger.entries("r-1", account="1", user="user2")] == [3]
    assert ledger.entries("r-1", kinds=("held",)) == ()
    assert [entry.run for entry in ledger.entries_of_user("1", "user1", ("written",))] == ["r-1", "r-2"]


def test_appenders_at_the_same_time_lose_nothing(path: Path) -> None:
    def append(number: int) -> None:
        mine = Ledger.open(f"sqlite:///{path}")
        for _ in range(20):
            mine.append("r-1", "written", {"by": number}, at=NOW)
        mine.close()

    Ledger.open(f"sqlite:///{path}").close()
    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger.open(f"sqlite:///{path}")
    found = ledger.verify("r-1")
    assert (found.entries, found.broken) == (80, ())
    ledger.close()


def test_a_claim_ends_when_another_is_taken(ledger: Ledger) -> None:
    first = ledger.claim("1", "api")
    second = ledger.claim("1", "api")
    assert (first, ledger.is_current(first)) == (UserClaim("1", "api", 0), True)
    ledger.append("r-1", "intent", {}, at=NOW, claim=first, bump_epoch=True)
    assert not ledger.is_current(second)
    with pytest.raises(FencedError, match="taken over"):
        ledger.append("r-2", "intent", {}, at=NOW, claim=second, bump_epoch=True)
    ledger.append("r-1", "written", {}, at=NOW, claim=UserClaim("1", "api", 1))
    assert [entry.kind for entry in ledger.entries("r-1")] == ["intent", "written"]
    assert ledger.entries("r-2") == ()


def test_an_entry_may_depend_on_what_was_said_last_and_on_being_first(ledger: Ledger) -> None:
    unless = (("stopped",), ("opened", "resumed"))
    ledger.append("r-1", "opened", {}, at=NOW, must_be_first=True)
    ledger.append("r-1", "intent", {}, at=NOW, unless_last=unless)
    ledger.append("r-1", "stopped", {}, at=NOW)
    with pytest.raises(StoppedError):
        ledger.append("r-1", "intent", {}, at=NOW, unless_last=unless)
    ledger.append("r-1", "resumed", {}, at=NOW)
    ledger.append("r-1", "intent", {}, at=NOW, unless_last=unless)
    with pytest.raises(FencedError, match="exists"):
        ledger.append("r-1", "opened", {}, at=NOW, must_be_first=True)
    assert len(ledger.entries("r-1")) == 5


def test_observations_and_workers(ledger: Ledger) -> None:
    ledger.observe("r-1", "web", ProbeObservation(NOW, NOW, healthy=True))
    ledger.observe("r-1", "web", ProbeObservation(NOW, NOW, None))
    assert ledger.observations("r-1") == {"web": ProbeObservation(NOW, NOW, None)}
    workers = (WorkerRecord("a", "host", NOW), WorkerRecord("b", "host", NOW, NOW + timedelta(hours=1)))
    for worker in workers:
        ledger.register(worker)
    assert ledger.workers() == workers
    ledger.unregister("a")
    assert ledger.workers() == workers[1:]


def test_another_versions_schema_is_refused_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(f"sqlite:///{path}").close()
    for version, received in (
        ("3", "A newer sparekey wrote it"),
        ("0", "Open it once"),
        ("x", "Open it once"),
    ):
        tamper(path, f"UPDATE sparekey_meta SET value = '{version}'")
        with pytest.raises(SchemaError) as refused:
            Ledger.open(f"sqlite:///{path}")
        assert received in refused.value.hint
    # With a way from the old schema to this one, it is taken.
    monkeypatch.setitem(schema.MIGRATIONS, 0, ("CREATE TABLE of_the_new_version (x INTEGER)",))
    tamper(path, "UPDATE sparekey_meta SET value = '0'")
    opened = Ledger.open(f"sqlite:///{path}")
    with opened.engine.begin() as connection:
        assert sa.inspect(connection).has_table("of_the_new_version")
        assert connection.execute(sa.text("SELECT value FROM sparekey_meta")).scalar() == "2"
    opened.close()


def test_a_state_of_the_first_schema_is_read_and_its_runs_are_looked_at(path: Path) -> None:
    first = Ledger.open(f"sqlite:///{path}")
    for run in ("r-1", "r-2"):
        first.append(run, "opened", {}, at=NOW)
    first.append("root-1", "root-deleting", {}, at=NOW)
    first.close()
    for table in ("runs", "processes", "leases"):
        tamper(path, f"DROP TABLE sparekey_{table}")
    tamper(path, "UPDATE sparekey_meta SET value = '1'")
    opened = Ledger.open(f"sqlite:///{path}")
    assert opened.unfinished() == (("r-1", 1), ("r-2", 1))
    opened.close()


def test_a_run_is_unfinished_until_it_is_said_of_its_last_entry(ledger: Ledger) -> None:
    ledger.append("r-9", "opened", {}, at=NOW)
    ledger.append("r-9", "stopped", {}, at=NOW)
    ledger.finish("r-9", 1)  # an entry came since
    assert ledger.unfinished() == (("r-9", 2),)
    ledger.finish("r-9", 2)
    assert ledger.unfinished() == ()
    ledger.append("r-9", "resumed", {}, at=NOW)
    assert ledger.unfinished() == (("r-9", 3),)


def test_an_entry_under_a_lease_that_was_taken_over_is_refused(ledger: Ledger) -> None:
    first, second = (
        WorkerLeases(ledger, ttl=60, now=lambda: 0.0),
        WorkerLeases(ledger, ttl=60, now=lambda: 100.0),
    )
    first.renew()
    lease = first.acquire("run/r-9")
    assert lease is not None
    assert first.acquire("run/r-9") == lease
    ledger.append("r-9", "opened", {}, at=NOW, lease=lease)
    assert second.acquire("run/r-9", first.alive()) is None
    taken = second.acquire("run/r-9")  # by its clock, the first is silent for too long
    assert taken == AccountLease("run/r-9", second.id, 2)
    with pytest.raises(FencedError, match="was taken over by another process"):
        ledger.append("r-9", "stopped", {}, at=NOW, lease=lease)
    with pytest.raises(FencedError):
        ledger.check_lease(lease)
    second.release("run/r-9")
    again = first.acquire("run/r-9")
    assert again == AccountLease("run/r-9", first.id, 3)
    # A heartbeat of a time that has not come yet is as old as one long past.
    assert WorkerLeases(ledger, ttl=60, now=lambda: -100.0).alive() == {}


def test_what_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, but it is long enough to look like one" * 20)
    with pytest.raises(StateDamagedError, match=r"/text is damaged: file is not a database; nothing was"):
        Ledger.open(f"sqlite:///{tmp_path / 'text'}")
    with pytest.raises(StateAwayError, match="/there cannot be opened or written"):
        Ledger.open(f"sqlite:///{tmp_path / 'none' / 'there'}")
    with pytest.raises(StateError, match="cannot be used") as refused:
        Ledger.open("nosuch://x")
    assert "sparekey[postgres]" in refused.value.hint
    with pytest.raises(StateAwayError, match=r"PostgreSQL 127.0.0.1:1/none cannot be used") as refused:
        Ledger.open("postgresql://sparekey:word@127.0.0.1:1/none")
    assert "word" not in refused.value.message


def test_a_full_disk_is_told_and_what_was_written_stays_whole(tmp_path: Path) -> None:
    directory = tmp_path / "small"
    directory.mkdir()
    with _little_room(directory):
        ledger = Ledger.open(f"sqlite:///{directory / 'ledger.db'}")
        with pytest.raises(StateFullError) as full:
            _fill_up(ledger)
        assert "Free space" in full.value.hint
        found = ledger.verify("r-1")
        assert found.entries > 0
        assert found.broken == ()
        ledger.close()


def _fill_up(ledger: Ledger) -> None:
    for _ in range(1000):
        ledger.append("r-1", "opened", {"plan": "x" * 20_000}, at=NOW)


@contextmanager
def _little_room(directory: Path) -> Iterator[None]:
    """A file system of half a megabyte where we may mount one, else files of at most that size."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(directory)]
    mounted = shutil.which("mount") and not subprocess.run(mount, check=False, capture_output=True).returncode
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, limits[1]))
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", directory], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_too_many_at_once_give_up_in_words(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_args: object) -> None:
        raise sa.exc.IntegrityError("insert", {}, Exception("UNIQUE"))

    monkeypatch.setattr(ledger_module, "_add", busy)
    with pytest.raises(StateError, match="too many at once"):
        ledger.append("r-1", "opened", {}, at=NOW)


def test_whether_a_run_goes_on_is_answered_without_walking_through_its_chain(ledger: Ledger) -> None:
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        ledger.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, given, *_: asked.append((text, given)),
    )
    ledger.append("r-1", "opened", {}, at=NOW)
    ledger.check_not_stopped("r-1", (("stopped",), ("opened",)))
    with ledger.engine.connect() as connection:
        text, given = asked[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given).fetchall()
    assert ["(run=? AND kind=?)" in row.detail for row in plan] == [True]
