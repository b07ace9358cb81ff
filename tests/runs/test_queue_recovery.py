"""Runs under DBOS on SQLite: apply, go on, stop, undo, work, hand over, upgrade."""

import base64
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from dbos import DBOS
from dbos._serialization import DefaultSerializer

from sparekey.aws.accounts import Target
from sparekey.aws.errors import DeniedError
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.database import StateError, StateFullError
from sparekey.ledger.events import KeyDeleted, RunEvent, RunOptions, RunStopped, StepFailed, WriteIntended
from sparekey.ledger.records import LedgerEntry, WorkerRecord
from sparekey.model import NEVER_USED, AccessKey, RunRecord
from sparekey.plan import Plan
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs import queue as engine_module
from sparekey.runs import rollout, supervisor
from sparekey.runs.context import ProbeRunner, RetryPolicy
from sparekey.runs.deactivate import execute_user
from sparekey.runs.reverse_script import reverse_commands
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker import load_header
from sparekey.runs.worker_leases import WorkerLeases
from support.clocks import NOW, RunningClock
from support.fake_aws import ACCOUNT, CALLER, FakeAws, FakeGateway, plan_for, small_company
from support.virtual_engine import FakeProbes, one_call_at_a_time


class ParserError(Exception):
    """As botocore's ResponseParserError: an error that is nobody's of ours."""


QUICK = RetryPolicy(pause=0.02, give_up_after=2.0, backoff=(0.02, 0.02, 0.02))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    state = StateDirectory(tmp_path / "home")
    yield state
    state.close()


class World:
    """One fake AWS, its plan, and as many processes' views on one state as a test needs."""

    def __init__(self, state: StateDirectory) -> None:
        self.state = state
        self.aws: FakeAws = small_company(RunningClock())
        self.plan: Plan = plan_for(self.aws)

    def runs(self, probes: ProbeRunner | None = None) -> RunService:
        return RunService(
            self.state, self.aws.clock, self.aws.gateway, CALLER, probes=probes, retry_policy=QUICK
        )  # fmt: skip


@pytest.fixture
def world(state: StateDirectory) -> World:
    return World(state)


def test_the_lines_to_revert_name_the_role_or_the_profile_of_each_member_account(world: World) -> None:
    def lines(target: Target | None) -> tuple[str, ...]:
        return reverse_commands(world.plan, profile="hub", target_of=lambda _account: target)

    account = world.plan.deactivations[0].account
    role = f"arn:aws:iam::{account}:role/SparekeyApply"
    heading, command = lines(Target(account, roles=(role,)))[:2]
    assert heading == f"# account {account}, with credentials of {role}"
    assert "--profile" not in command
    heading, command = lines(Target(account, profile="member"))[:2]
    assert (heading, command.endswith("--profile member")) == (f"# account {account}", True)
    assert lines(None)[1].endswith("--profile hub")


def test_apply_then_undo_one_key_then_all(world: World) -> None:
    runs, received = world.runs(), list[LedgerEntry]()
    record = runs.apply(world.plan, Policy(), on_event=received.append, reverse=reverse_commands(world.plan))
    assert record.state == "unwatched"
    assert [entry.seq for entry in received] == list(range(1, record.entries + 1))
    assert world.aws.statuses("batch") == {
        "AKIABATCH1": "Inactive",
        "AKIABATCH2": "Inactive",
        "AKIABATCH3": "Active",
    }
    step = record.steps[0]
    assert (step.key, step.state, step.request_ids) == ("AKIAAPIOLD", "unwatched", ("request-1",))
    assert (step.before["AKIAAPIOLD"], step.after["AKIAAPIOLD"]) == ("Active", "Inactive")
    assert runs.list() == (record,)
    assert runs.show(record.id[:6]) == record
    assert world.state.ledger.verify(record.id, record.head).broken == ()
    with pytest.raises(RefusedError, match="was executed as run"):
        runs.apply(world.plan, Policy())

    undone = runs.undo(record.id, "AKIAAPIOLD", on_event=received.append)
    assert world.aws.status("api", "AKIAAPIOLD") == "Active"
    assert [step.state for step in undone.steps] == ["undone", "unwatched", "unwatched", "unwatched"]
    undone = runs.undo(record.id)
    assert undone.state == "undone"
    assert all("Inactive" not in world.aws.statuses(user).values() for user in ("api", "batch", "idle"))
    went = [(step.user, step.key) for step in record.steps]
    written = [(user, key, status) for user, key in went for status in ("Active", "Inactive")]
    assert sorted(world.aws.writes) == sorted(written), [
        (entry.seq, entry.kind, entry.body) for entry in world.state.ledger.entries(record.id, after=1)
    ]
    with pytest.raises(RefusedError, match="which is undone"):
        runs.apply(world.plan, Policy())
    with pytest.raises(RefusedError, match="it has ended"):
        runs.stop(record.id)


def test_a_key_undone_before_its_turn_never_goes(world: World) -> None:
    runs = world.runs()
    record = runs.apply(world.plan, Policy(), detach=True)
    undone = runs.undo(record.id, "AKIAAPIOLD")
    assert undone.steps[0].state == "held"
    assert undone.steps[0].why == f"undone by {CALLER.arn} before it was deactivated"
    assert runs.undo(record.id, "AKIAAPIOLD") == undone
    assert runs.resume(record.id).state == "unwatched"
    assert world.aws.status("api", "AKIAAPIOLD") == "Active"
    assert {write[0] for write in world.aws.writes} == {"batch", "idle"}


def test_nothing_is_said_on_stdout_or_stderr_by_the_engine(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.runs().apply(world.plan, Policy())
    assert capfd.readouterr() == ("", "")


def test_the_state_is_private(world: World) -> None:
    world.runs().apply(world.plan, Policy(), reverse=("# by hand",))
    home = world.state.directory
    assert home.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert world.runs().reverse_file(world.runs().run_id(world.plan)).read_text() == "# by hand\n"


def test_interrupted_between_steps_it_says_what_was_done_and_goes_on(world: World) -> None:
    def interrupt(entry: LedgerEntry) -> None:
        if entry.kind == "confirmed":
            raise KeyboardInterrupt

    world.aws.before = lambda call: time.sleep(0.05)
    with pytest.raises(KeyboardInterrupt):
        world.runs().apply(world.plan, Policy(), on_event=interrupt)
    record = world.runs().list()[0]
    assert record.state == "stopped"
    for step in record.steps:
        status = world.aws.status(step.user, step.key)
        assert (step.state, status) in {("unwatched", "Inactive"), ("planned", "Active")}
    assert {step.state for step in record.steps} == {"unwatched", "planned"}
    again = world.runs().apply(world.plan, Policy())
    assert again.state == "unwatched"
    assert len(world.aws.writes) == 4


def test_stop_and_resume(world: World) -> None:
    def stop(entry: LedgerEntry) -> None:
        if entry.kind == "opened":
            world.runs().stop(entry.run)

    record = world.runs().apply(world.plan, Policy(), on_event=stop)
    assert (record.state, world.aws.writes) == ("stopped", [])
    assert "stopped by" in record.notes[0]
    assert world.runs().resume(record.id).state == "unwatched"
    with pytest.raises(BadInputError, match="no run match"):
        world.runs().resume("r-none")


def test_an_undo_reaches_what_is_intended_while_it_begins_and_is_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    halted = (
        RunOptions(windows=("Mon 00:00-00:01",))
        if NOW.weekday()
        else RunOptions(windows=("Tue 00:00-00:01",))
    )
    record = world.runs().apply(world.plan, Policy(), options=halted)
    assert world.aws.writes == []
    append = world.state.ledger.append

    def late(run: str, kind: str, *args: Any, **more: Any) -> LedgerEntry:
        if kind == "undoing":
            hands = world.runs()._context
            carry = one_call_at_a_time(
                execute_user(
                    hands, msgspec.structs.replace(load_header(hands, run), options=RunOptions()), *user
                )
            )
            while world.aws.writes == []:
                next(carry)
        return append(run, kind, *args, **more)

    user = next(iter(load_header(world.runs()._context, record.id).users().items()))
    monkeypatch.setattr(world.state.ledger, "append", late)
    world.runs().undo(record.id)
    assert world.aws.status("api", "AKIAAPIOLD") == "Active"
    assert [write[2] for write in world.aws.writes] == ["Inactive", "Active"]
    world.runs()._context.record(record.id, RunStopped("somebody", "later"))
    with pytest.raises(RefusedError, match=r"undone"):
        world.runs()._record_resumed(record.id)


def test_one_users_failure_stops_no_other_and_is_tried_again(world: World) -> None:
    world.aws.users.pop(("111122223333", "idle"))

    def deny(call: str) -> None:
        if call == "set_status" and len(world.aws.writes) == 1:
            raise DeniedError("access denied: iam:UpdateAccessKey", code="AccessDenied", request_id="no-1")

    world.aws.before = deny
    record = world.runs().apply(world.plan, Policy())
    states = {step.key: step.state for step in record.steps}
    assert record.state == "failed"
    assert states["AKIAIDLE1"] == "gone"
    assert sorted(states.values()) == ["failed", "failed", "gone", "unwatched"]
    failed = next(step for step in record.steps if step.state == "failed")
    assert failed.why.startswith("AccessDenied: ")
    assert failed.request_ids == ("no-1",)
    world.aws.before = lambda _call: None
    assert world.runs().apply(world.plan, Policy()).state == "unwatched"


def test_a_full_disk_is_refused_before_the_first_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=4096)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StateFullError, match="nothing was changed"):
        world.runs().apply(world.plan, Policy())
    assert (world.aws.writes, world.runs().list()) == ([], ())


def test_probes_need_somebody_who_asks_them(world: World) -> None:
    probes = FakeProbes({"web": ("api",)})
    options = RunOptions(watch=1.0)
    with pytest.raises(RefusedError, match="no worker is alive"):
        world.runs(probes).apply(world.plan, Policy(), options=options)
    assert world.runs(probes).list() == ()
    record = world.runs(probes).apply(world.plan, Policy(), options=options, wait=True)
    states = {step.key: step.state for step in record.steps}
    assert states["AKIAAPIOLD"] == "settled"
    received = world.runs(probes).warnings(world.plan, Policy(), options)
    assert received[0] == "no health probe covers 2 of 3 users; a breakage would not be detected"
    assert "48 h" in received[1]


@pytest.mark.slow
def test_a_worker_watches_and_rolls_back_after_the_command_has_ended(world: World) -> None:
    probes = FakeProbes({"web": ("api",)})
    probes.every = NOW.resolution * 200_000  # 0.2 s
    ended = threading.Event()
    runs = world.runs(probes)
    worker = threading.Thread(
        target=runs.run_worker, args=(ended.is_set,), kwargs={"every": 0.05, "credentials_until": NOW}
    )  # fmt: skip
    worker.start()
    try:
        _until(lambda: bool(runs.live_workers()))
        assert (
            "expire before the watch ends" in runs.warnings(world.plan, Policy(), RunOptions(watch=5.0))[-1]
        )
        record = runs.apply(world.plan, Policy(), options=RunOptions(watch=60.0), detach=True)
        _until(lambda: runs.show(record.id).state == "watching")
        broken = time.monotonic()
        probes.result_of = lambda _name: ProbeResult(healthy=False, output="HTTP 500")
        _until(lambda: world.aws.status("api", "AKIAAPIOLD") == "Active")
        assert time.monotonic() - broken < 5.2
        seen: list[LedgerEntry] = []
        final = runs.follow(record.id, seen.append, lambda found: found.state == "rolled_back")
        assert final.steps[0].state == "rolled_back"
        assert "HTTP 500" in final.steps[0].why
        assert seen
    finally:
        ended.set()
        worker.join()
    assert runs.live_workers() == ()


@pytest.mark.parametrize("fault", [ZeroDivisionError(), StateError("the database is away")])
def test_a_fault_of_our_own_does_not_end_the_watch(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(supervisor, "_RETRY_AFTER", timedelta(seconds=0.2))
    monkeypatch.setattr(rollout, "_SOON", timedelta(seconds=0.2))
    probes = FakeProbes({"web": ("api",)})
    probes.every = timedelta(seconds=0.2)
    faults: list[str] = []

    def carry(call: str) -> None:
        api = world.aws.status("api", "AKIAAPIOLD")
        if call == "set_status" and api == "Inactive" and not faults:
            faults.append("carry")
            raise fault

    def ask(_name: str) -> ProbeResult:
        if faults and "ask" not in faults:
            faults.append("ask")
            raise ZeroDivisionError
        return ProbeResult(healthy="ask" not in faults, output="")

    world.aws.before, probes.result_of = carry, ask
    runs = world.runs(probes)
    record = runs.apply(world.plan, Policy(), options=RunOptions(watch=60.0), detach=True, wait=True)
    limit = time.monotonic() + 20
    runs.run_worker(
        lambda: runs.show(record.id).steps[0].state == "rolled_back" or time.monotonic() > limit, every=0.05
    )
    assert runs.show(record.id).steps[0].state == "rolled_back"
    assert world.aws.status("api", "AKIAAPIOLD") == "Active"
    assert faults == ["carry", "ask"]
    received = [entry.body["account"] for entry in world.state.ledger.entries(record.id, kinds=("stumbled",))]
    assert set(received) == {ACCOUNT, ""}


@pytest.mark.slow
def test_a_run_begun_by_one_version_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = FakeProbes({"web": ("api",)})
    probes.every = NOW.resolution * 200_000  # 0.2 s

    def work(until: Callable[[], bool]) -> None:
        world.runs(probes).run_worker(until, every=0.05)

    watching = world.runs(probes)
    record = watching.apply(
        world.plan, Policy(), options=RunOptions(watch=4.0, windows=()), detach=True, wait=True
    )
    work(lambda: watching.show(record.id).state == "watching")
    # The next version: other code, other workflows beside ours, another number. It knows the same revision.
    DBOS.workflow(name="of.the.next.version")(lambda: None)
    monkeypatch.setattr("sparekey.__version__", "99.0.0")
    begun = world.aws.clock.now()
    with monkeypatch.context() as other_revision:
        other_revision.setattr(engine_module, "REVISION", "another")
        work(lambda: (world.aws.clock.now() - begun).total_seconds() > 0.8)
        assert watching.show(record.id).state == "watching"
    work(lambda: watching.show(record.id).state != "watching")
    final = watching.show(record.id)
    assert {step.key: step.state for step in final.steps}["AKIAAPIOLD"] == "settled"


def held_queue(world: World) -> WorkerLeases:
    """Another process that has the queue."""
    other = WorkerLeases(world.state.ledger, world.state)
    other.start()
    assert other.acquire("queue") is not None
    return other


def test_on_sqlite_a_second_process_waits_for_its_turn_and_takes_over(world: World) -> None:
    other = held_queue(world)
    runs = world.runs()
    runs._engine().prepare()
    threading.Timer(0.5, other.stop).start()
    assert runs.apply(world.plan, Policy()).state == "unwatched"


@pytest.mark.slow
def test_what_cut_the_engine_off_is_told_and_its_text_is_kept_nowhere(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the ledger, not in the engine's own tables: the text may be an answer that holds a session."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

    def broken(call: str) -> None:
        if call == "set_status":
            raise ParserError(f"Unable to parse response:\n<SecretAccessKey>{secret}")

    monkeypatch.setattr(rollout, "_SOON", timedelta(seconds=0.2))
    world.aws.before = broken
    with pytest.raises(StateError, match=r"was cut off: unexpected error: ParserError \(runs/") as caught:
        world.runs().apply(world.plan, Policy())
    assert secret not in str(caught.value) + "".join(capfd.readouterr())
    kept = [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(kept) > 1
    assert any(b"ParserError" in content for content in kept)
    assert not any(secret.encode() in content for content in kept)
    world.aws.before = lambda _call: None
    assert world.runs().apply(world.plan, Policy()).state == "unwatched"


@pytest.mark.slow
def test_a_worker_that_cannot_enter_an_account_says_so_once(world: World) -> None:
    def closed(account: str) -> FakeGateway:
        raise RefusedError(f"account {account} cannot be reached")

    world.runs().apply(world.plan, Policy(), detach=True)
    runs = RunService(world.state, world.aws.clock, closed, CALLER, retry_policy=QUICK)
    received: list[tuple[str, str]] = []
    limit, looks = time.monotonic() + 20, iter(range(5))

    def over() -> bool:
        return (bool(received) and next(looks, None) is None) or time.monotonic() > limit

    runs.run_worker(over, every=0.05, on_failure=lambda run, why: received.append((run, why)))
    why = f"account {ACCOUNT} cannot be reached"
    assert received == [(world.runs().run_id(world.plan), why)]
    assert world.aws.writes == []
    record = world.runs().show(received[0][0])
    assert [note for note in record.notes if "could not" in note] == [
        f"worker {runs._context.worker} could not execute account {ACCOUNT}: {why}"
    ]
    assert {step.state for step in record.steps} == {"planned"}
    # From where the account can be reached, the run goes on.
    assert world.runs().resume(record.id).state == "unwatched"


def test_interrupted_in_the_watch_it_goes_on_watching(world: World) -> None:
    def interrupt(entry: LedgerEntry) -> None:
        if entry.kind == "watching":
            raise KeyboardInterrupt

    world.aws.users = {key: keys for key, keys in world.aws.users.items() if key[1] == "api"}
    world.plan = plan_for(world.aws)
    probes = FakeProbes({"web": ("api",)})
    with pytest.raises(KeyboardInterrupt):
        world.runs(probes).apply(
            world.plan, Policy(), options=RunOptions(watch=60.0), wait=True, on_event=interrupt
        )
    record = world.runs(probes).list()[0]
    assert (record.state, record.notes[1:]) == ("watching", ())
    begun = world.runs(probes).is_started(world.plan)
    assert begun is not None
    again = world.runs(probes).apply(
        world.plan, Policy(), options=RunOptions(watch=60.0), wait=False, detach=False
    )
    assert again.state == "watching"


def test_a_reverse_file_that_cannot_be_written_stops_everything(world: World) -> None:
    (world.state.directory / "reverse").touch()
    with pytest.raises(StateError, match="nothing was changed"):
        world.runs().apply(world.plan, Policy(), reverse=("# by hand",))
    assert (world.aws.writes, world.runs().list()) == ([], ())


def test_following_from_anywhere_ends_with_the_run(world: World) -> None:
    record = world.runs().apply(world.plan, Policy())
    seen: list[LedgerEntry] = []
    assert world.runs().follow(record.id, seen.append, lambda _record: False) == record
    assert len(seen) == record.entries


def test_following_ends_with_a_stop_once_the_step_in_hand_is_finished(world: World) -> None:
    world.aws.clock = RunningClock(speed=50)  # it looks once a second
    runs, seen = world.runs(), list[LedgerEntry]()
    record = runs.apply(world.plan, Policy(), detach=True)
    begun = WriteIntended(ACCOUNT, "api", "AKIAAPIOLD", "Inactive", "apply", 1, "w", {})
    done = StepFailed(ACCOUNT, "api", "AKIAAPIOLD", "write", "AccessDenied", "denied")
    result: Iterator[RunEvent] = iter((begun, RunStopped("x", "asked"), done))

    def until(_record: RunRecord) -> bool:
        for entry in islice(result, 1):
            runs._context.record(record.id, entry)
        return False

    assert runs.follow(record.id, seen.append, until).state == "stopped"
    assert [entry.kind for entry in seen] == ["opened", "intent", "stopped", "failed"]


def test_a_worker_that_died_is_not_alive_and_is_forgotten(world: World) -> None:
    runs = world.runs()
    world.state.ledger.register(WorkerRecord("worker-dead", "there", NOW, None))
    assert runs.live_workers() == ()
    WorkerLeases(world.state.ledger, world.state).forget_the_dead()
    assert world.state.ledger.workers() == ()


def test_old_keys_of_ours_are_deleted_through_runs(world: World) -> None:
    runs = world.runs()
    record = runs.apply(world.plan, Policy())
    assert runs.deletable(timedelta(days=1)) == ()
    first = runs.deletable(timedelta(0))[0]
    assert isinstance(runs.delete(first, world.aws.gateway(ACCOUNT)), KeyDeleted)
    assert runs.show(record.id).steps[0].state == "deleted"
    key = AccessKey("AKIAROOT", "Active", NOW - timedelta(days=400), NEVER_USED)
    with pytest.raises(AttributeError):
        runs.delete_root(ACCOUNT, key, object(), timedelta(days=90))  # type: ignore[arg-type]
    assert [run.id for run in runs.list()] == [record.id]


def test_a_worker_waits_for_the_queues_on_sqlite(world: World) -> None:
    other = held_queue(world)
    times = iter(range(5))
    world.runs().run_worker(lambda: next(times, None) is None, every=0.01)
    other.stop()


def test_work_of_the_dead_and_of_other_versions_is_cancelled_and_what_has_ended_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = WorkerLeases(world.state.ledger, world.state)
    engine = world.runs()._engine(leases)
    engine.prepare()
    other = WorkerLeases(world.state.ledger, world.state)
    other.start()
    for account in ("alive", "dead", "old", "ended"):
        engine.enqueue("r-none", account)
    table = "UPDATE workflow_status SET {} WHERE queue_partition_key = '{}'"
    with world.state.ledger.engine.begin() as connection:
        for values, account in (
            (f"status = 'PENDING', executor_id = '{other.id}'", "alive"),
            ("status = 'PENDING', executor_id = 'executor-dead'", "dead"),
            ("application_version = '1'", "old"),
            ("status = 'ERROR', completed_at = 1000, error = 'x'", "ended"),
        ):
            connection.execute(sa.text(table.format(values, account)))
    assert engine.active("r-none") == {"alive", "dead"}
    engine.recover()
    assert engine.active("r-none") == {"alive"}
    other.stop()
    engine.recover()
    assert engine.active("r-none") == set()
    monkeypatch.setattr(engine_module, "_KEPT", timedelta(seconds=-60))
    engine.recover()
    with world.state.ledger.engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM workflow_status")).scalar() == 0
    engine.stop()
    assert not engine_module._ONE_PER_PROCESS.locked()


class Planted:
    """What a stranger who can write to the database would put there: it runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_was_planted_is_never_read(world: World, tmp_path: Path) -> None:
    runs, planted = world.runs(), tmp_path / "planted"
    engine = runs._engine()
    engine.prepare()
    engine.enqueue("r-none", "input")
    pickled = base64.b64encode(pickle.dumps(Planted(planted))).decode()
    with world.state.ledger.engine.begin() as connection:
        values = {"pickled": pickled}
        for table in ("workflow_status", "workflow_input"):
            named = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
            row = [f"{name} = :pickled" for name in ("inputs", "input") if name in named]
            row += [f"{name} = 'py_pickle'" for name in ("serialization",) if name in named]
            if row:
                connection.execute(sa.text(f"UPDATE {table} SET {', '.join(row)}"), values)
    engine.stop()
    assert runs.apply(world.plan, Policy()).state == "unwatched"
    with world.state.ledger.engine.begin() as connection:
        query = "SELECT status FROM workflow_status WHERE queue_partition_key = 'input'"
        limit = time.monotonic() + 10
        while time.monotonic() < limit and connection.execute(sa.text(query)).scalar() == "PENDING":
            time.sleep(0.1)
    with pytest.raises(StateError, match="is not read"):
        DefaultSerializer().deserialize(pickled)
    assert not planted.exists()
    pickle.loads(base64.b64decode(pickled))  # it would have
    assert planted.exists()


def test_two_plans_with_the_same_beginning_have_runs_of_their_own(world: World) -> None:
    runs = world.runs()
    first = runs.apply(world.plan, Policy())
    twin = msgspec.structs.replace(world.plan, digest=world.plan.digest[:8] + "0" * 56)
    assert runs.run_id(twin) == f"r-{twin.digest[:32]}" != first.id
    with pytest.raises(BadInputError, match="is not the id of a run"):
        runs.show("r-zz")
    assert runs.warnings(world.plan, Policy(), RunOptions(watch=8 * 86400.0)) == (
        "no health probe covers 3 of 3 users; a breakage would not be detected",
    )
    everybody = world.runs(FakeProbes({"all": ("api", "batch", "idle")}))
    assert everybody.warnings(world.plan, Policy(), RunOptions(watch=8 * 86400.0)) == ()


def _until(what: object) -> None:
    for _ in range(300):
        if what():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")


def test_ids_are_unique_and_may_be_cut_short(world: World) -> None:
    runs = world.runs()
    assert runs.run_id(world.plan) == f"r-{world.plan.digest[:8]}"
    with pytest.raises(BadInputError, match="is not the id of a run"):
        runs.show("r-")
    record = runs.apply(world.plan, Policy())
    with pytest.raises(BadInputError, match="has no key AKIANONE"):
        runs.undo(record.id, "AKIANONE")


def test_two_engines_in_one_process_are_refused(world: World, tmp_path: Path) -> None:
    other = StateDirectory(tmp_path / "other")
    first, second = world.runs()._engine(), World(other).runs()._engine()
    try:
        assert first.listen()
        assert first.listen()
        with pytest.raises(StateError, match="runs an engine already"):
            second.listen()
    finally:
        first.stop()
        second.stop()
        other.close()


def test_reversing_by_hand_is_quoted_for_a_shell(world: World) -> None:
    lines = reverse_commands(
        world.plan, profile="a b", region="eu-central-1", endpoint_url="http://127.0.0.1:1"
    )
    assert lines[0] == "# account 111122223333"
    assert lines[1] == (
        "aws iam update-access-key --user-name api --access-key-id AKIAAPIOLD --status Active "
        "--profile 'a b' --region eu-central-1 --endpoint-url http://127.0.0.1:1"
    )
    assert len(lines) == 5


def test_reversing_by_hand_leaves_out_a_password(world: World) -> None:
    lines = reverse_commands(world.plan, endpoint_url="https://ann:hunter2@[::1]:1/aws")
    assert lines[1].endswith(" --endpoint-url 'https://[::1]:1/aws'")


def test_reversing_by_hand_runs_nothing_that_a_forged_plan_says(world: World) -> None:
    step = world.plan.steps[0]
    forged = msgspec.structs.replace(step, account="1\ntouch forged\r\u2028touch forged", user="")
    lines = reverse_commands(msgspec.structs.replace(world.plan, steps=(forged,)))
    assert lines[0] == r"# account 1 touch forged\u000d\u2028touch forged"
    assert lines[1].startswith("aws iam update-access-key --user-name '' ")


def test_a_worker_that_waits_for_another_names_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparekey.runs.worker_process._REPORT_SILENCE_AFTER", 0.0)
    other, notices, looks = WorkerLeases(world.state.ledger, world.state), list[str](), iter(range(300))
    other.start()
    assert other.acquire("queue") is not None
    world.runs().run_worker(
        lambda: bool(notices) or next(looks, None) is None, every=0.01, on_notice=notices.append
    )
    other.stop()
    assert [notice.partition(" (last heartbeat")[0] for notice in notices] == [
        f"waiting for {other.id} on {other.name}, which runs the queue"
    ]
