"""Runs are watched, and keys come back, while the state cannot be used."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sparekey.ledger.copies import LedgerCopies
from sparekey.ledger.events import RunOptions
from sparekey.ledger.records import LedgerEntry, ProbeObservation
from sparekey.model import RunRecord
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs import emergency, supervisor, worker_leases
from sparekey.runs.context import RetryPolicy, RunContext
from sparekey.runs.emergency import EmergencyMonitor, OutageMessage
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from support.clocks import RunningClock
from support.fake_aws import CALLER, plan_for, small_company
from support.virtual_engine import FakeProbes

QUICK = RetryPolicy(pause=0.02, give_up_after=2.0, backoff=(0.02, 0.02, 0.02))
KEY = "AKIAAPIOLD"


class Watch:
    """A run whose key is watched by a probe that a test turns red, and a worker on it."""

    def __init__(self, state: StateDirectory) -> None:
        self.state = state
        self.aws = small_company(RunningClock())
        self.probes = FakeProbes({"web": ("api",)})
        self.probes.every = timedelta(seconds=0.2)
        self.red = threading.Event()
        self.probes.result_of = lambda _name: ProbeResult(healthy=not self.red.is_set(), output="")
        self.runs = RunService(
            state, self.aws.clock, self.aws.gateway, CALLER, probes=self.probes, retry_policy=QUICK
        )
        self.plan, options = plan_for(self.aws), RunOptions(watch=3600.0)
        self.run = self.runs.apply(self.plan, Policy(), options=options, detach=True, wait=True).id
        self.received: list[OutageMessage] = []
        self.events: list[tuple[LedgerEntry, RunRecord]] = []

    def work(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        self.runs.run_worker(
            lambda: until() or time.monotonic() > end,
            every=0.05,
            on_emergency=self.received.append,
            on_event_without_state=lambda entry, record: self.events.append((entry, record)),
        )

    @property
    def recorded(self) -> str:
        return next(step.state for step in self.runs.show(self.run).steps if step.key == KEY)

    def key_is(self, status: str) -> bool:
        return self.aws.status("api", KEY) == status


@pytest.fixture(name="quick_emergency")
def _quick_emergency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emergency, "AFTER", 3)
    monkeypatch.setattr(emergency, "_EVERY", 0.05)
    monkeypatch.setattr(emergency, "_AGAIN", 2)


@pytest.fixture
def watched(tmp_path: Path, quick_emergency: None) -> Iterator[Watch]:
    state = StateDirectory(tmp_path / "home")
    found = Watch(state)
    found.work(lambda: found.recorded == "watching")
    yield found
    state.close()


def _wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not until() and time.monotonic() < end:
        time.sleep(0.02)
    assert until()


def test_a_key_comes_back_although_the_file_is_locked(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_leases, "TTL", 0.5)

    def hold() -> None:
        _wait(lambda: len(watched.probes.checks) > 3)
        other = sqlite3.connect(watched.state.directory / "sparekey.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        watched.red.set()
        _wait(lambda: watched.key_is("Active"))
        watched.red.clear()  # healthy again before the state can be used: what came back is put on record all the same
        other.execute("ROLLBACK")
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    watched.work(lambda: watched.recorded == "rolled_back" and len(watched.received) > 1)
    holder.join()
    assert watched.recorded == "rolled_back"
    assert watched.key_is("Active")
    begun, over = watched.received[0], watched.received[-1]
    assert (begun.watched, begun.unwatched) == ((watched.run,), ())
    assert "none is deactivated" in begun.text
    assert "can be used again" in over.text
    states = [step.state for _, record in watched.events for step in record.steps if step.key == KEY]
    assert "rolled_back" in states
    assert watched.state.ledger.verify(watched.run).broken == ()


def test_apply_that_waits_watches_on_although_the_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_emergency: None
) -> None:
    monkeypatch.setattr(worker_leases, "TTL", 0.5)
    alone, notices = Watch(StateDirectory(tmp_path / "alone")), list[str]()

    def hold() -> None:
        _wait(lambda: len(alone.probes.checks) > 3)
        other = sqlite3.connect(alone.state.directory / "sparekey.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        alone.red.set()
        _wait(lambda: alone.key_is("Active"))
        other.execute("ROLLBACK")
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    record = alone.runs.apply(
        alone.plan,
        Policy(),
        options=RunOptions(watch=3600.0),
        wait=True,
        on_notice=notices.append,
        on_emergency=alone.received.append,
    )
    holder.join()
    assert [step.state for step in record.steps if step.key == KEY] == ["rolled_back"]
    assert alone.received[0].watched == (alone.run,)
    assert alone.state.ledger.verify(alone.run).broken == ()
    alone.state.close()


class Beside:
    """An emergency watch whose supervision never comes round."""

    def __init__(self, watched: Watch, directory: Path, url: str = "") -> None:
        self.received: list[OutageMessage] = []
        self.seen: dict[str, dict[str, ProbeObservation]] = {}
        hands = RunContext(
            watched.state.ledger, watched.aws.clock, watched.aws.gateway, CALLER, probes=watched.probes
        )
        self.watch = EmergencyMonitor(
            hands,
            directory,
            url,
            watched=lambda: self.seen,
            owe=lambda _owed: None,
            tell=self.received.append,
            on_event=lambda _entry, _record: None,
        )


def test_who_has_no_copy_says_that_nobody_watches(watched: Watch, tmp_path: Path) -> None:
    beside = Beside(watched, tmp_path / "empty")
    watched.red.set()
    beside.watch.sound()
    beside.watch.start()
    time.sleep(0.3)
    assert beside.received == []  # nothing is watched, so nobody misses it
    beside.seen[watched.run] = {}
    _wait(lambda: beside.received)
    beside.watch.stop()
    assert beside.received[0].unwatched == (watched.run,)
    assert f"NOT MONITORED: {watched.run}" in beside.received[0].text
    assert watched.key_is("Inactive")


def test_a_fault_of_the_watch_itself_is_reported_once_and_it_is_tried_again(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fail(*_: object) -> None:
        tries.append("once more")
        raise OSError("a text that may hold anything")

    monkeypatch.setattr(emergency, "scratch_state", fail)
    beside = Beside(watched, watched.state.directory)
    beside.seen[watched.run] = {}
    beside.watch.sound()
    beside.watch.start()
    _wait(lambda: len(tries) > 1)
    beside.watch.stop()
    assert [received.unwatched for received in beside.received] == [(watched.run,)]
    assert "OSError" in beside.received[0].text
    assert f"NOT MONITORED: {watched.run}" in beside.received[0].text
    assert "may hold anything" not in beside.received[0].text


def test_runs_of_which_no_key_is_watched_any_more_are_no_emergency(watched: Watch) -> None:
    watched.runs.undo(watched.run)
    beside = Beside(watched, watched.state.directory)
    beside.watch.start()
    _wait(lambda: beside.watch._silent_after > 12)  # it has looked, and waits to look again
    beside.watch.stop()
    assert beside.received == []


def test_a_run_that_is_missed_later_is_taken_up_too(watched: Watch) -> None:
    beside = Beside(watched, watched.state.directory)
    beside.seen[watched.run] = {}
    beside.watch.sound()
    beside.watch.start()
    _wait(lambda: beside.received)
    beside.seen["r-ffffffff"] = {}  # nothing is known of it without the state
    _wait(lambda: len(beside.received) > 1)
    beside.watch.stop()
    assert beside.received[0].unwatched == ()
    assert (beside.received[1].watched, beside.received[1].unwatched) == ((watched.run,), ("r-ffffffff",))
    assert "NOT MONITORED: r-ffffffff" in beside.received[1].text


@pytest.mark.slow
def test_a_worker_that_begins_beside_a_bad_state_watches_by_the_copies(watched: Watch) -> None:
    beside = Beside(watched, watched.state.directory)
    watched.red.set()
    beside.watch.start()
    _wait(lambda: watched.key_is("Active"))
    beside.watch.stop()
    assert beside.received[0].watched == (watched.run,)


def test_on_a_shared_state_the_copies_of_one_machine_do_not_say_which_runs_are_watched(
    watched: Watch,
) -> None:
    beside = Beside(watched, watched.state.directory, "postgresql://sparekey@127.0.0.1:1/none")
    watched.red.set()
    beside.watch.start()
    _wait(lambda: beside.received)
    beside.watch.stop()
    assert "which runs would have to be watched is not known" in beside.received[0].text
    assert watched.key_is("Inactive")


def test_one_run_that_fails_is_watched_beside_the_others(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, broken = supervisor._SupervisedRun.run_round, threading.Event()  # a fault of our own

    def fail(one: supervisor._SupervisedRun, seq: int) -> object:
        if broken.is_set() and one.lease is not None:
            raise ZeroDivisionError
        return look(one, seq)

    monkeypatch.setattr(supervisor._SupervisedRun, "run_round", fail)  # see above
    monkeypatch.setattr(supervisor, "_AFTER_FAULT", timedelta(seconds=0.1))

    def begin() -> None:
        _wait(lambda: len(watched.probes.checks) > 3)
        broken.set()
        watched.red.set()

    beginner = threading.Thread(target=begin)
    beginner.start()
    watched.work(lambda: watched.key_is("Active"))
    beginner.join()
    assert watched.key_is("Active")
    assert watched.received[0].watched == (watched.run,)


def test_a_worker_copies_what_others_have_written(watched: Watch) -> None:
    copies = LedgerCopies(watched.state.copies.path(watched.run).parent)
    whole = copies.read(watched.run)
    so_far = len(whole)  # the watch goes on beside this test, and copies what it records
    assert whole == watched.state.ledger.entries(watched.run)[:so_far]
    copies.path(watched.run).unlink()
    copies.catch_up(watched.state.ledger, watched.run)
    assert copies.read(watched.run)[:so_far] == whole
    copies.add(watched.state.ledger, whole[0])  # it is there already
    again = copies.read(watched.run)
    assert [entry.seq for entry in again] == list(range(1, len(again) + 1))
    assert again[:so_far] == whole


def test_a_run_that_ended_is_listed_without_its_entries(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.red.set()
    watched.work(lambda: watched.recorded == "rolled_back" and not watched.state.ledger.unfinished())
    listed = watched.runs.list()
    assert listed[0].steps == watched.runs.show(watched.run).steps
    file = watched.state.directory / "summaries" / f"{watched.run}.json"
    assert file.stat().st_mode & 0o777 == 0o600
    asked: list[str] = []
    entries = watched.state.ledger.entries

    def read(run: str, **more: Any) -> tuple[LedgerEntry, ...]:
        asked.append(run)
        return entries(run, **more)

    monkeypatch.setattr(watched.state.ledger, "entries", read)
    assert watched.runs.list() == listed
    assert asked == []
    for spoilt in (b"{", file.read_bytes().replace(b'"head":"', b'"head":"0')):
        file.write_bytes(spoilt)
        assert watched.runs.list() == listed
