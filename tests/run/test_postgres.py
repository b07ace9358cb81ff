"""The same on a real PostgreSQL: kinds of points, workers that share runs, one of them killed."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from run import postgres
from run.fake import CALLER, RunningClock, plan_for, small_company
from run.stage import Stage, prepare
from run.zygote import Zygote
from sparekey.ledger import Ledger
from sparekey.policy import Policy
from sparekey.run.runs import Runs
from sparekey.run.state import State
from sparekey.run.turn import Patience

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
    "after step supervise",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    started = [Zygote(), Zygote()]
    yield started
    for zygote in started:
        zygote.close()


def test_apply_undo_and_ledger_by_url(url: str, tmp_path: Path) -> None:
    state = State(tmp_path / "home", postgres.database(url, "plain"))
    aws = small_company(RunningClock())
    runs = Runs(state, aws.clock, aws.gateway, CALLER, patience=Patience(pause=0.02))
    record = runs.apply(plan_for(aws), Policy())
    assert record.state == "unwatched"
    assert runs.undo(record.id).state == "undone"
    assert state.ledger.verify(record.id, record.head).broken == ()
    assert len(list(state.ledger.export())) == runs.show(record.id).entries
    state.close()
    assert not (tmp_path / "home" / "sparekey.db").exists()


def test_killed_at_each_kind_of_point(url: str, zygotes: list[Zygote], tmp_path: Path) -> None:
    prepare(tmp_path / "template", postgres.database(url, "template"))

    def kill_at(number: int) -> None:
        zygote = zygotes[number % len(zygotes)]
        stage = Stage(tmp_path / f"kind{number}", postgres.database(url, f"kind{number}", "template"))
        assert zygote.run(stage.job(kind=KINDS[number])) == -signal.SIGKILL, KINDS[number]
        assert zygote.run(stage.job()) == 0
        stage.check()

    with ThreadPoolExecutor(len(zygotes)) as pool:
        list(pool.map(kill_at, range(len(KINDS))))


def test_of_three_workers_one_is_killed(url: str, zygotes: list[Zygote], tmp_path: Path) -> None:
    stage = Stage(tmp_path / "three", postgres.database(url, "three"))
    Ledger.open(stage.url).close()
    state = State(tmp_path / "three" / "home", stage.url)
    runs = Runs(state, stage.aws.clock, stage.aws.gateway, CALLER)
    # Whoever makes the first write dies right after it.
    killed = tmp_path / "killed"
    job = stage.job(work=True, kind="after set Inactive", once=str(killed))
    workers = [zygotes[0].start(job) for _ in range(3)]
    _until(lambda: len(runs.live_workers()) == 3)
    runs.apply(stage.plan, Policy(), detach=True)
    _until(killed.exists)
    _until(lambda: runs.list()[0].state == "unwatched")
    assert len(runs.live_workers()) == 2
    (tmp_path / "three" / "home" / "enough").touch()
    assert sorted(zygotes[0].wait(worker) for worker in workers) == [-signal.SIGKILL, 0, 0]
    state.close()
    stage.check()


def _until(what: object) -> None:
    for _ in range(400):
        if what():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")
