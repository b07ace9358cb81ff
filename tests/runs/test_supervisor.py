"""The parts of the supervision: deadlines, tasks, heartbeats, who is waited for, what is told."""

import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sparekey.app.run_service import _RollbackNotices
from sparekey.aws.errors import DeniedError, UnreachableError
from sparekey.errors import RefusedError
from sparekey.ledger.database import StateAwayError, StateError
from sparekey.ledger.events import RunOptions, WorkerFailed
from sparekey.probes import ProbeResult
from sparekey.runs.context import StepCoroutine, perform
from sparekey.runs.event_feed import LedgerFeed
from sparekey.runs.scheduler import run_all
from sparekey.runs.storage import StateDirectory
from sparekey.runs.tasks import ThreadTasks
from sparekey.runs.worker_leases import WorkerLeases
from sparekey.runs.worker_process import RecurringFaults, WaitNotice
from support.clocks import NOW, RunningClock
from support.fake_aws import ACCOUNT, plan_for, small_company
from support.virtual_engine import FakeProbes, HangsError, VirtualEngine

RED = ProbeResult(healthy=False, output="HTTP 500")
GREEN = ProbeResult(healthy=True, output="fine")


def test_a_call_that_hangs_is_given_up_and_the_others_go_on() -> None:
    hangs, result = threading.Event(), list[str]()

    def work(name: str) -> StepCoroutine[None]:
        try:
            yield from perform(hangs.wait if name == "hangs" else lambda: None)
            result.append(f"{name} ended")
        except UnreachableError as error:
            result.append(error.message)

    run_all((work(name) for name in ("hangs", "goes")), RunningClock(), at_once=2, deadline=0.2)
    hangs.set()
    assert result == ["goes ended", "AWS did not answer within 0.2 s"]


def test_tasks_are_apart_and_tell_how_they_ended() -> None:
    woken, block = threading.Event(), threading.Event()
    tasks = ThreadTasks(RunningClock(), 1, woken.set)

    def fails() -> StepCoroutine[None]:
        yield 0
        raise ZeroDivisionError

    def waits() -> StepCoroutine[None]:
        yield from perform(block.wait)

    tasks.start(("probe", "r-1", "slow"), (waits(),), deadline=60)
    tasks.start(("probe", "r-1", "web"), (fails(),), deadline=60)
    assert woken.wait(20)
    ((name, error),) = tasks.ended()
    assert (name, type(error)) == (("probe", "r-1", "web"), ZeroDivisionError)
    assert tasks.busy(("probe", "r-1"))
    assert not tasks.busy(("probe", "r-1", "web"))
    woken.clear()
    block.set()
    assert woken.wait(20)
    assert tasks.ended() == [(("probe", "r-1", "slow"), None)]


@pytest.mark.slow
def test_a_heartbeat_goes_on_by_itself_until_its_loop_stands_still(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    mine, other = WorkerLeases(state.ledger, state, ttl=2.0), WorkerLeases(state.ledger, state, ttl=2.0)
    mine.start()
    mine.start()
    assert mine.acquire("queue") is not None
    assert set(other.alive()) == {mine.id}
    assert other.acquire("queue") is None
    mine._renew_round -= 1000.0  # its loop has not come round: frozen, as far as anybody can tell
    for _ in range(100):
        if not other.alive():
            break
        threading.Event().wait(0.05)
    assert other.acquire("queue") is not None
    mine.stop()
    state.close()


def test_a_process_that_has_ended_is_dead_at_once_on_its_own_machine(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    gone, other = WorkerLeases(state.ledger, state), WorkerLeases(state.ledger, state)
    gone.start()
    assert gone._lock is not None
    gone._lock.release()  # as the kernel does
    gone._lock = None
    assert gone.id not in other.alive()
    gone.stop()
    state.close()


def test_who_is_waited_for_is_told_once(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    other, mine = WorkerLeases(state.ledger, state), WorkerLeases(state.ledger, state)
    other.start()
    assert other.acquire("run/r-1") is not None
    received = list[str]()

    class Process:
        leases = mine

    waiting = WaitNotice(Process(), "r-1", received.append)  # type: ignore[arg-type]
    waiting.update()
    assert received == []
    for _ in range(2):
        waiting._since -= 10
        waiting.update()
    assert len(received) == 1
    assert received[0].startswith(
        f"waiting for {other.id} on {other.name}, which supervises run r-1 (last heartbeat"
    )
    waiting.progressed()
    other.stop()
    state.close()


@pytest.mark.parametrize(("lasting", "times"), [(0.0, 2), (60.0, 1)])
def test_a_fault_of_the_state_is_reported_once_and_a_state_that_is_away_by_others(
    lasting: float, times: int
) -> None:
    reported = list[str]()
    faults = RecurringFaults(reported.append, lasting)
    odd = (StateError("odd"), StateError("odd"))
    for error in (None, *odd, StateAwayError("away"), None, odd[0], ZeroDivisionError()):
        with faults.reporting():
            if error is not None:
                raise error
    assert reported[:-1] == ["odd; it is tried again"] * times
    assert "ZeroDivisionError" in reported[-1]


def broken() -> tuple[VirtualEngine, FakeProbes, str, list[Exception]]:
    """A run under watch, whose application misses its key; what each try to reactivate it meets."""
    engine = VirtualEngine(small_company(), probes := FakeProbes({"web": ("api",)}))
    run = engine.open(plan_for(engine.aws), RunOptions(watch=10 * 86400.0))
    engine.run(until=NOW + timedelta(hours=1))
    meets: list[Exception] = []

    def strike(_call: str) -> None:
        if meets:
            raise meets[0]

    engine.aws.before = strike
    probes.result_of = lambda _name: RED if engine.aws.status("api", "AKIAAPIOLD") == "Inactive" else GREEN
    return engine, probes, run, meets


@pytest.mark.parametrize(
    ("error", "minutes", "times"),
    [
        (HangsError(36000), 10, 1),
        (RefusedError("account 1 cannot be entered"), 10, 1),
        (DeniedError("no", code="AccessDenied"), 70, 2),
    ],
)
def test_a_rollback_that_fails_is_told_each_hour_and_ends_told(
    error: Exception, minutes: int, times: int
) -> None:
    engine, _, run, meets = broken()
    feed, received = LedgerFeed(engine.ledger), list[tuple[str, str]]()
    assert list(feed.new_events()) == []

    class Runs:
        @staticmethod
        def show(name: str) -> object:
            return engine.record(name)

    heard = _RollbackNotices(
        Runs(),  # type: ignore[arg-type]  # only `show` is called
        engine.clock,
        lambda _record, step: received.append((step.key, step.state)),
    )

    def hear() -> None:
        for entry in feed.new_events():
            heard.handle(entry)

    meets.append(error)
    for minute in range(0, minutes + 1, 5):
        engine.run(until=NOW + timedelta(hours=2, minutes=minute))
        hear()
    assert received == [("AKIAAPIOLD", "rollback_failed")] * times
    assert engine.record(run).state == "rollback_failed"
    meets.clear()
    engine.run(until=NOW + timedelta(hours=2, minutes=minutes + 6))
    hear()
    assert received[-1] == ("AKIAAPIOLD", "rolled_back")


def test_of_an_account_that_refuses_many_keys_one_is_tried() -> None:
    aws = small_company()
    engine = VirtualEngine(aws, probes := FakeProbes({"web": ("api", "batch", "idle")}))
    run = engine.open(plan_for(aws), RunOptions(watch=10 * 86400.0))
    engine.run(until=NOW + timedelta(hours=1))
    refuses = [True]

    def strike(call: str) -> None:
        if call == "set_status" and refuses:
            raise DeniedError("no", code="AccessDenied")

    aws.before = strike
    probes.result_of = lambda _name: RED if "Inactive" in aws.statuses("api").values() else GREEN
    engine.run(until=NOW + timedelta(hours=2, minutes=20))
    failed = engine.ledger.entries(run, kinds=("failed",))
    assert len({entry.body["key"] for entry in failed}) == 4
    assert len(failed) < 40  # four keys each on their own would be refused a hundred times
    refuses.clear()
    engine.run(until=NOW + timedelta(hours=2, minutes=22))
    assert set(engine.states(run).values()) == {"rolled_back"}


def test_a_probe_that_hangs_is_unknown_and_keeps_no_other_from_being_asked() -> None:
    engine, probes, run, _ = broken()
    probes.users = {"web": ("api",)}

    def says(_name: str) -> ProbeResult:
        raise HangsError(3600)

    probes.result_of = says
    engine.run(until=NOW + timedelta(hours=4))
    assert engine.ledger.observations(run)["web"].healthy is None
    assert engine.states(run)["AKIAAPIOLD"] == "watching"


def test_a_fault_in_one_look_is_on_record_and_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, run, _ = broken()
    faults = [ZeroDivisionError()]

    def look_due(_run: object, _seen: object, now: datetime) -> datetime:
        if faults:
            raise faults.pop()
        return now + timedelta(hours=6)

    monkeypatch.setattr("sparekey.runs.monitor.check_due", look_due)
    engine.supervisor._runs.clear()  # as a new process has it
    engine.run(until=NOW + timedelta(hours=3))
    result = [entry.body for entry in engine.ledger.entries(run, kinds=("stumbled",))]
    assert [body["why"].partition(" (")[0] for body in result] == ["unexpected error: ZeroDivisionError"]
    assert WorkerFailed(**result[0]).account == ""
    assert engine.states(run)["AKIAAPIOLD"] == "rolled_back"


def test_observations_of_a_time_that_has_not_come_count_as_a_gap() -> None:
    engine = VirtualEngine(small_company(), FakeProbes({"web": ("api",)}))
    run = engine.open(plan_for(engine.aws), RunOptions(watch=2 * 86400.0))
    engine.run(until=NOW + timedelta(hours=5))
    engine.clock.sleep(86400)  # a clock that is a day ahead …
    engine.run(until=engine.clock.now())
    engine.clock.time -= timedelta(days=1)  # … and is right again
    asked = len(engine.context.probes.checks)  # type: ignore[attr-defined]
    engine.run(until=NOW + timedelta(hours=5, minutes=1))
    assert len(engine.context.probes.checks) == asked + 1  # type: ignore[attr-defined]
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"
    assert ACCOUNT in {step.account for step in engine.record(run).steps}
