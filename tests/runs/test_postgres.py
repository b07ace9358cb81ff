"""The same on a real PostgreSQL: kinds of points, workers that share runs, one of them killed."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from sparekey.clock import SystemClock
from sparekey.ledger.copies import differences
from sparekey.ledger.database import StateError
from sparekey.ledger.events import RunOpened, RunOptions, event_body, kind_of
from sparekey.ledger.store import Ledger
from sparekey.ledger.verification import verify_all
from sparekey.plan import encode
from sparekey.policy import Policy
from sparekey.runs.context import RetryPolicy
from sparekey.runs.run_header import policy_of
from sparekey.runs.salvage import scratch_state
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from support import postgres_server
from support.clocks import NOW, RunningClock, VirtualClock
from support.fake_aws import CALLER, plan_for, small_company
from support.killed_process import TTL
from support.run_lab import RunLab, SandboxLane, prepare

pytestmark = pytest.mark.slow

KINDS = (
    "before entry opened",
    "after entry opened",
    "before entry intent",
    "after entry intent",
    "before set Inactive",
    "after set Inactive",
    "before entry written",
    "after entry confirmed",
    "before entry verdict",
    "before step carry",
    "after step carry",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_server.server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def lanes() -> Iterator[list[SandboxLane]]:
    started = [SandboxLane(), SandboxLane()]
    yield started
    for lane in started:
        lane.close()


def test_apply_undo_and_ledger_by_url(url: str, tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home", postgres_server.database(url, "plain"))
    aws = small_company(RunningClock())
    runs = RunService(state, aws.clock, aws.gateway, CALLER, retry_policy=RetryPolicy(pause=0.02))
    record = runs.apply(plan_for(aws), Policy())
    assert record.state == "unwatched"
    assert runs.undo(record.id).state == "undone"
    assert state.ledger.verify(record.id, record.head).broken == ()
    assert len(list(state.ledger.export())) == runs.show(record.id).entries
    state.close()
    assert not (tmp_path / "home" / "sparekey.db").exists()


def test_locks_by_url_exclude_each_other_and_end_with_their_holder(url: str, tmp_path: Path) -> None:
    shared = postgres_server.database(url, "locks")
    here, there = (StateDirectory(tmp_path / name, shared) for name in ("here", "there"))
    with here.held("setup"):
        assert there.try_lock("setup") is None
        assert there.is_held("setup")
        assert not there.is_held("queue")
        with pytest.raises(StateError, match="setup is in use by another process"), there.held("setup"):
            pass
    assert not there.is_held("setup")
    here.check()  # no disk and no file of its own: only the server has to answer
    here.close()


def test_a_ledger_by_url_is_verified_against_its_copies_and_undone_from_without(
    url: str, tmp_path: Path
) -> None:
    state = StateDirectory(tmp_path / "home", postgres_server.database(url, "verified"))
    plan = plan_for(small_company(VirtualClock()))
    run = f"r-{plan.digest[:8]}"
    opened = RunOpened(encode(plan).decode(), plan.digest, CALLER, policy_of(Policy()), RunOptions(), ())
    state.ledger.append(run, kind_of(opened), event_body(opened), at=NOW, must_be_first=True)
    elsewhere = state.copies.path("r-00000000")
    elsewhere.write_bytes(state.copies.path(run).read_bytes())  # of a run of another database
    assert verify_all(state.ledger).intact
    assert list(differences(state.ledger, state.copies)) == []
    with scratch_state(tmp_path / "nothing", state.url) as (scratch, sources):
        assert sources == ("the ledger, which can still be read",)
        assert scratch.ledger.entries(run) == state.ledger.entries(run)
    with state.ledger.engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER spy BEFORE INSERT ON sparekey_entries FOR EACH ROW "
                "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            )
        )
    assert verify_all(state.ledger).faults == (
        "table sparekey_entries has a trigger 'spy', which sparekey did not make",
    )
    state.close()


def test_killed_at_each_kind_of_point(url: str, lanes: list[SandboxLane], tmp_path: Path) -> None:
    prepare(tmp_path / "template", postgres_server.database(url, "template"))
    alone = RunLab(lanes[0], tmp_path / "alone", postgres_server.database(url, "alone", "template"))
    assert alone.run() == 0
    assert set(alone.end.steps.values()) == {"unwatched"}

    def kill(first: int) -> None:
        for number in range(first, len(KINDS), len(lanes)):
            name = f"kind{number}"
            stage = RunLab(lanes[first], tmp_path / name, postgres_server.database(url, name, "template"))
            assert stage.run(kind=KINDS[number]) == -signal.SIGKILL, KINDS[number]
            assert stage.run() == 0
            assert stage.end == alone.end, KINDS[number]

    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(kill, range(len(lanes))))


def test_of_three_workers_one_is_killed(
    url: str, lanes: list[SandboxLane], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparekey.runs.worker_leases.TTL", TTL)
    lane = lanes[0]
    stage = RunLab(lane, tmp_path / "three", postgres_server.database(url, "three"))
    Ledger.open(stage.url).close()
    state = StateDirectory(tmp_path / "three" / "home", stage.url)
    own, caller = lane.here.gateway.own_account(), lane.here.gateway.caller()
    runs = RunService(state, SystemClock(), lambda _account: own, caller)
    # Whoever makes the first write dies right after it.
    killed = tmp_path / "killed"
    job = stage.job(work=True, kind="after set Inactive", once=str(killed))
    workers = [lane.zygote.start(job) for _ in range(3)]
    try:
        _until(lambda: len(runs.live_workers()) == 3)
        runs.apply(lane.plan, Policy(), detach=True)
        _until(killed.exists)
        _until(lambda: runs.list()[0].state == "unwatched")
        _until(lambda: len(runs.live_workers()) == 2)
        (tmp_path / "three" / "home" / "enough").touch()
        assert sorted(lane.zygote.wait(worker) for worker in workers) == [-signal.SIGKILL, 0, 0]
    finally:
        (tmp_path / "three" / "home" / "enough").touch()  # a worker waits for it for ever
    state.close()
    assert set(stage.end.steps.values()) == {"unwatched"}
    assert list(stage.end.keys.values()).count("Inactive") == 3


def _until(what: object) -> None:
    for _ in range(400):
        if what():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")
