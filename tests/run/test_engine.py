"""Runs under DBOS on SQLite: apply, go on, stop, undo, work, hand over, upgrade."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from run.fake import CALLER, NOW, FakeAws, RunningClock, plan_for, small_company
from run.virtual import FakeProbes
from sparekey.aws.errors import DeniedError
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger import Entry, StateError, StateFullError
from sparekey.plan import Plan
from sparekey.policy import Policy
from sparekey.probes import Reading
from sparekey.run.entries import Options
from sparekey.run.reverse import reverse_commands
from sparekey.run.runs import Runs
from sparekey.run.state import State
from sparekey.run.turn import Patience, Prober

QUICK = Patience(pause=0.02, give_up=2.0, backoff=(0.02, 0.02, 0.02))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "home")
    yield state
    state.close()


class World:
    """One fake AWS, its plan, and as many processes' views on one state as a test needs."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.aws: FakeAws = small_company(RunningClock())
        self.plan: Plan = plan_for(self.aws)

    def runs(self, probes: Prober | None = None) -> Runs:
        return Runs(
            self.state, self.aws.clock, self.aws.gateway, CALLER, probes=probes, patience=QUICK
        )  # fmt: skip


@pytest.fixture
def world(state: State) -> World:
    return World(state)


def test_apply_then_undo_one_key_then_all(world: World) -> None:
    runs, told = world.runs(), list[Entry]()
    record = runs.apply(world.plan, Policy(), on_event=told.append, reverse=reverse_commands(world.plan))
    assert record.state == "unwatched"
    assert [entry.seq for entry in told] == list(range(1, record.entries + 1))
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
    with pytest.raises(RefusedError, match="was carried out as run"):
        runs.apply(world.plan, Policy())

    undone = runs.undo(record.id, "AKIAAPIOLD", on_event=told.append)
    assert world.aws.status("api", "AKIAAPIOLD") == "Active"
    assert [step.state for step in undone.steps] == ["undone", "unwatched", "unwatched", "unwatched"]
    undone = runs.undo(record.id)
    assert undone.state == "undone"
    assert all("Inactive" not in world.aws.statuses(user).values() for user in ("api", "batch", "idle"))
    assert len(world.aws.writes) == 8
    with pytest.raises(RefusedError, match="which is undone"):
        runs.apply(world.plan, Policy())
    with pytest.raises(RefusedError, match="it has ended"):
        runs.stop(record.id)


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
    def interrupt(entry: Entry) -> None:
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
    def stop(entry: Entry) -> None:
        if entry.kind == "opened":
            world.runs().stop(entry.run)

    record = world.runs().apply(world.plan, Policy(), on_event=stop)
    assert (record.state, world.aws.writes) == ("stopped", [])
    assert "stopped by" in record.notes[0]
    assert world.runs().resume(record.id).state == "unwatched"
    with pytest.raises(BadInputError, match="no run match"):
        world.runs().resume("r-none")


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
    options = Options(watch=1.0)
    with pytest.raises(RefusedError, match="no worker is alive"):
        world.runs(probes).apply(world.plan, Policy(), options=options)
    assert world.runs(probes).list() == ()
    record = world.runs(probes).apply(world.plan, Policy(), options=options, wait=True)
    states = {step.key: step.state for step in record.steps}
    assert states["AKIAAPIOLD"] == "settled"
    told = world.runs(probes).warnings(world.plan, Policy(), options)
    assert told[0] == "nothing will notice a breakage for 2 of 3 users: no probe"
    assert "48 h" in told[1]


def test_a_worker_watches_and_rolls_back_after_the_command_has_ended(world: World) -> None:
    probes = FakeProbes({"web": ("api",)})
    probes.every = NOW.resolution * 200_000  # 0.2 s
    ended = threading.Event()
    runs = world.runs(probes)
    worker = threading.Thread(
        target=runs.work, args=(ended.is_set,), kwargs={"every": 0.05, "credentials_until": NOW}
    )  # fmt: skip
    worker.start()
    try:
        _until(lambda: bool(runs.live_workers()))
        assert "end before the watch does" in runs.warnings(world.plan, Policy(), Options(watch=5.0))[-1]
        record = runs.apply(world.plan, Policy(), options=Options(watch=60.0), detach=True)
        _until(lambda: runs.show(record.id).state == "watching")
        broken = time.monotonic()
        probes.says = lambda _name: Reading(green=False, output="HTTP 500")
        _until(lambda: world.aws.status("api", "AKIAAPIOLD") == "Active")
        assert time.monotonic() - broken < 5.2
        seen: list[Entry] = []
        final = runs.follow(record.id, seen.append, lambda found: found.state == "rolled_back")
        assert final.steps[0].state == "rolled_back"
        assert "HTTP 500" in final.steps[0].why
        assert seen
    finally:
        ended.set()
        worker.join()
    assert runs.live_workers() == ()


def _until(what: object) -> None:
    for _ in range(300):
        if what():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")


def test_ids_are_unique_and_may_be_cut_short(world: World) -> None:
    runs = world.runs()
    assert runs.run_id(world.plan) == f"r-{world.plan.digest[:8]}"
    with pytest.raises(BadInputError, match="no run match"):
        runs.show("r-")
    record = runs.apply(world.plan, Policy())
    with pytest.raises(BadInputError, match="has no key AKIANONE"):
        runs.undo(record.id, "AKIANONE")


def test_two_engines_in_one_process_are_refused(world: World, tmp_path: Path) -> None:
    other = State(tmp_path / "other")
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
