"""What is known of runs when the state cannot be used: read from where it still can be, never made up."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from sparekey.errors import BadInputError
from sparekey.ledger.database import StateAwayError, StateError
from sparekey.ledger.events import RunOpened, RunOptions, event_body, kind_of
from sparekey.plan import encode
from sparekey.policy import Policy
from sparekey.runs import salvage
from sparekey.runs.run_header import policy_of
from sparekey.runs.salvage import scratch_state, unknown_run
from sparekey.runs.storage import StateDirectory
from support.clocks import NOW, VirtualClock
from support.fake_aws import CALLER, plan_for, small_company

LEDGER = "the ledger, which can still be read"
PLAN = plan_for(small_company(VirtualClock()))
FIRST, SECOND = "r-00000001", "r-00000002"
_OPENED = RunOpened(encode(PLAN).decode(), PLAN.digest, CALLER, policy_of(Policy()), RunOptions(), ())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state with two runs of two entries; without copies, so that only the database can tell of them."""
    home = tmp_path / "home"
    with closing(StateDirectory(home)) as state:
        for run in (FIRST, SECOND):
            state.ledger.append(run, kind_of(_OPENED), event_body(_OPENED), at=NOW, must_be_first=True)
            state.ledger.append(run, "written", {"account": "1", "user": "api"}, at=NOW)
    for copy in (home / "reverse").iterdir():
        copy.unlink()
    return home


def change(home: Path, statement: str) -> None:
    with closing(sqlite3.connect(home / "sparekey.db", isolation_level=None)) as connection:
        connection.execute(statement)


def found(home: Path, url: str = "") -> tuple[dict[str, int], tuple[str, ...]]:
    """How many entries of each run are known, and from where."""
    with scratch_state(home, url) as (state, sources):
        return {run: len(state.ledger.entries(run)) for run in state.ledger.runs()}, sources


def test_a_database_by_url_is_read(home: Path, tmp_path: Path) -> None:
    assert found(tmp_path / "other", f"sqlite:///{home / 'sparekey.db'}") == (
        {FIRST: 2, SECOND: 2},
        (LEDGER,),
    )


@pytest.mark.parametrize(
    "damage",
    [
        "at = 'yesterday'",
        "body = 'no json'",
        "body = x'00ff'",
        "body = '{}'",
        "hash = 'x' || hash",
        "seq = 7",
    ],
)
def test_a_damaged_chain_is_left_out_and_the_others_are_read(home: Path, damage: str) -> None:
    change(home, f"UPDATE sparekey_entries SET {damage} WHERE run = '{FIRST}' AND seq = 2")
    assert found(home) == ({SECOND: 2}, (LEDGER,))


def test_where_no_chain_is_whole_nothing_was_read(home: Path) -> None:
    change(home, "UPDATE sparekey_entries SET body = '{}'")
    assert found(home) == ({}, ())


def test_a_file_beside_which_sqlite_may_not_write_is_read(home: Path) -> None:
    (home / "sparekey.db-shm").symlink_to(home / "none" / "none")  # so SQLite cannot make it
    with pytest.raises(sqlite3.Error), closing(sqlite3.connect(home / "sparekey.db")) as connection:
        connection.execute("SELECT count(*) FROM sparekey_entries")
    assert found(home) == ({FIRST: 2, SECOND: 2}, (LEDGER,))


def test_the_journal_of_such_a_file_is_read_with_it(home: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home / "sparekey.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute(f"DELETE FROM sparekey_entries WHERE run = '{SECOND}'")
        stopped = tmp_path / "stopped"  # as a process leaves it that ends here
        stopped.mkdir()
        for name in ("sparekey.db", "sparekey.db-wal"):
            (stopped / name).write_bytes((home / name).read_bytes())
    (stopped / "sparekey.db-shm").symlink_to(home / "none" / "none")
    assert found(stopped) == ({FIRST: 2}, (LEDGER,))
    assert (stopped / "sparekey.db-wal").stat().st_size > 0


def test_without_room_in_memory_the_disk_is_used_and_without_any_it_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "_MEMORY", tmp_path / "none")
    assert found(home) == ({FIRST: 2, SECOND: 2}, (LEDGER,))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StateError, match=r"there is no room to work without the state: .*none"):
        found(home)


def test_a_run_that_is_unknown_without_the_state_names_both_and_the_way_of_the_state() -> None:
    cause = StateAwayError("the state file is away", "Put it back.")
    received = unknown_run(BadInputError("no run matches 'r-1234'", "`sparekey runs` lists them."), cause)
    assert type(received) is StateAwayError
    assert received.message == "the state file is away; without it, no run matches 'r-1234'"
    assert received.hint == "Put it back."
