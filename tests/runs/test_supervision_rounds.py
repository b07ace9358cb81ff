"""One look of the supervision after another: what it does not do again, and whom it gives way to."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sparekey.errors import BadInputError
from sparekey.ledger.database import StateAwayError, StateError
from sparekey.ledger.events import RunOptions
from sparekey.ledger.records import FencedError, LedgerEntry
from sparekey.policy import Policy
from sparekey.runs import monitor
from sparekey.runs.context import RetryPolicy
from sparekey.runs.run_ids import check_run_id
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.runs.supervisor import Supervisor
from sparekey.runs.worker_process import FailureReporter
from support.clocks import NOW, RunningClock
from support.fake_aws import ACCOUNT, CALLER, plan_for, small_company
from support.virtual_engine import FakeProbes, VirtualEngine


def watching(hours: float = 1) -> tuple[VirtualEngine, str]:
    """A run under watch."""
    engine = VirtualEngine(small_company(), FakeProbes({"web": ("api",)}))
    run = engine.open(plan_for(engine.aws), RunOptions(watch=10 * 86400.0))
    engine.run(until=NOW + timedelta(hours=hours))
    return engine, run


def test_after_a_fault_a_run_is_left_alone_for_a_while_and_then_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, run = watching()
    looked: list[float] = []

    def faulty(*_: object) -> Any:
        looked.append((engine.clock.now() - NOW).total_seconds())
        raise StateError("odd")

    monkeypatch.setattr(monitor, "probes_due", faulty)
    engine.supervisor._runs.clear()  # as a new process has it
    begun = engine.clock.now()
    due = engine.supervisor.run_round()
    assert due == begun + timedelta(seconds=10)
    engine.clock.sleep(4)
    assert engine.ledger.entries(run)[-1].kind == "stumbled"  # an entry that would else make a look due
    assert engine.supervisor.run_round() == due
    assert len(looked) == 1
    engine.clock.sleep(6)
    engine.supervisor.run_round()
    assert len(looked) == 2
    # A clock that is set back by far holds nothing up.
    engine.clock.sleep(-3600)
    engine.supervisor.run_round()
    assert len(looked) == 3


def test_keys_that_came_back_without_the_state_are_put_on_record() -> None:
    engine, run = watching()
    engine.supervisor.hand_over(run, {(ACCOUNT, "api", "AKIAAPIOLD"): "probe web turned red"})
    engine.run(until=engine.clock.now() + timedelta(minutes=1))
    step = next(step for step in engine.record(run).steps if step.key == "AKIAAPIOLD")
    assert (step.state, engine.aws.status("api", "AKIAAPIOLD")) == ("rolled_back", "Active")
    assert "probe web turned red" in step.why


def test_a_run_that_another_process_took_over_in_mid_look_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, run = watching()

    def fenced(*_: object) -> Any:
        raise FencedError("somebody else has it")

    monkeypatch.setattr(monitor, "probes_due", fenced)
    engine.supervisor._runs.clear()
    before = engine.ledger.head(run)
    assert engine.supervisor.run_round() is None
    assert engine.supervisor._runs == {}
    assert engine.ledger.head(run) == before  # it is no failure, and nothing is put on record
    monkeypatch.undo()
    assert engine.supervisor.run_round() is not None


def test_what_ends_after_its_run_concerns_no_other() -> None:
    engine, run = watching()
    before = engine.ledger.head(run)
    engine.tasks.over.append((("probe", "r-00000000", "web"), ZeroDivisionError()))
    engine.supervisor.run_round()
    assert engine.ledger.head(run) == before
    engine.tasks.over.append((("probe", run, "web"), ZeroDivisionError()))
    engine.supervisor.run_round()
    assert engine.ledger.entries(run)[-1].kind == "stumbled"


def test_an_account_whose_listing_hangs_is_not_listed_twice_at_once() -> None:
    engine, run = watching()
    task, started = ("list", run, ACCOUNT), list[object]()
    right = engine.tasks.start

    def start(name: Any, works: Any, *, deadline: float) -> None:
        started.append(name)
        right(name, works, deadline=deadline)

    engine.tasks.start = start  # type: ignore[method-assign]
    engine.tasks.left[task] = 1  # hangs
    engine.run(until=NOW + timedelta(hours=20))
    assert task not in started
    del engine.tasks.left[task]
    engine.run(until=NOW + timedelta(hours=40))
    assert task in started


def test_work_that_was_lost_without_an_entry_is_handed_out_again_a_minute_later() -> None:
    engine = VirtualEngine(small_company())
    handed: list[float] = []

    def lose(_run: str, _account: str) -> None:
        handed.append((engine.clock.now() - NOW).total_seconds())

    engine.enqueue = lose  # type: ignore[method-assign, assignment]
    engine.open(plan_for(engine.aws))
    for _ in range(3):
        engine.supervisor.run_round()
        engine.clock.sleep(20)
    assert handed == [0.0]
    assert engine.supervisor.run_round() == NOW + timedelta(seconds=65)
    assert handed == [0.0, 60.0]


def test_a_worker_that_tells_nobody_goes_on_in_spite_of_a_fault_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, looks, right = small_company(RunningClock()), iter(range(400)), Supervisor.run_round
    faults = [StateError("odd"), StateAwayError("away")]

    def look(supervisor: Supervisor) -> Any:
        if faults:
            raise faults.pop(0)
        return right(supervisor)

    monkeypatch.setattr(Supervisor, "run_round", look)
    with closing(StateDirectory(tmp_path / "home")) as state:
        runs = RunService(state, aws.clock, aws.gateway, CALLER, retry_policy=RetryPolicy(pause=0.02))
        run = runs.apply(plan_for(aws), Policy(), detach=True).id
        runs.run_worker(lambda: runs.show(run).state == "unwatched" or next(looks, None) is None, every=0.05)
        assert runs.show(run).state == "unwatched"


def test_a_failure_is_told_once_for_each_run_and_cause() -> None:
    received = list[tuple[str, str]]()
    failures = FailureReporter(lambda run, why: received.append((run, why)))
    for run, kind, why in (
        ("r-1", "stumbled", "cut off"),
        ("r-1", "stumbled", "cut off"),
        ("r-1", "failed", "of another kind"),
        ("r-2", "stumbled", "cut off"),
        ("r-1", "stumbled", "refused"),
    ):
        failures.report(LedgerEntry(run, 1, NOW, kind, {"why": why}, "", ""))
    assert received == [("r-1", "cut off"), ("r-2", "cut off"), ("r-1", "refused")]


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_unset_variable_names_no_run(text: str) -> None:
    with pytest.raises(BadInputError, match="the id of the run is empty"):
        check_run_id(text)
