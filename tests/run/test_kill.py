"""Killed at every point, one point a run, started again, and compared with a run that was left alone."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from run.fake import ACCOUNT, FakeAws, RunningClock, key, plan_for, used
from run.killed import Job, serve
from run.promises import kept
from run.zygote import Zygote
from sparekey.plan import encode
from sparekey.run.record import RunFold
from sparekey.run.state import State

AFTER = {
    "api": {"AKIAAPIOLD": "Inactive", "AKIAAPINEW": "Active"},
    "batch": {"AKIABATCH1": "Inactive", "AKIABATCH2": "Inactive", "AKIABATCH3": "Active"},
}


class Stage:
    """A fake AWS, a plan of three keys, and a state directory."""

    def __init__(self, directory: Path, url: str = "") -> None:
        directory.mkdir()
        self.directory, self.url = directory, url
        self.aws = FakeAws(RunningClock())
        self.aws.add("api", key("AKIAAPIOLD", 400, used(80)), key("AKIAAPINEW", 30, used(1)))
        middle = key("AKIABATCH2", 200, used(100))
        self.aws.add("batch", key("AKIABATCH1", 300), middle, key("AKIABATCH3", 20, used(2)))
        self.plan = plan_for(self.aws)
        (directory / "plan.json").write_bytes(encode(self.plan))
        self.listener: Listener = serve(self.aws, str(directory / "aws"), ACCOUNT)

    def job(self, **more: object) -> Job:
        home, plan, address = (str(self.directory / name) for name in ("home", "plan.json", "aws"))
        return Job(home, plan, address, self.url, **more)  # type: ignore[arg-type]

    def check(self) -> None:
        """The same end as that of a run left alone."""
        self.listener.close()
        assert {user: self.aws.statuses(user) for user in AFTER} == AFTER
        state = State(self.directory / "home", self.url)
        try:
            (run,) = (name for name in state.ledger.runs() if name == f"r-{self.plan.digest[:8]}")
            kept(state.ledger, [run], self.aws.writes)
            record = RunFold(state.ledger.entries(run)).record()
            assert {step.state for step in record.steps} == {"unwatched"}
        finally:
            state.close()


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    started = [Zygote(), Zygote()]
    yield started
    for zygote in started:
        zygote.close()


def test_killed_at_every_point_of_a_run_on_sqlite(zygotes: list[Zygote], tmp_path: Path) -> None:
    alone = Stage(tmp_path / "alone")
    counted = tmp_path / "points"
    assert zygotes[0].run(alone.job(points=str(counted))) == 0
    alone.check()
    names = counted.read_text().splitlines()
    assert {f"{when} set Inactive" for when in ("before", "after")} <= set(names)
    assert len(alone.aws.writes) == 3

    def kill_at(point: int) -> None:
        zygote = zygotes[point % len(zygotes)]
        stage = Stage(tmp_path / f"point{point}")
        status = zygote.run(stage.job(kill_at=point))
        # Two ticks may be merged or not, so the last points are not passed in every run.
        assert status == -signal.SIGKILL or (status == 0 and point > len(names) - 4), names[point - 1]
        assert zygote.run(stage.job()) == 0
        stage.check()

    with ThreadPoolExecutor(len(zygotes)) as pool:
        list(pool.map(kill_at, range(1, len(names) + 1)))
