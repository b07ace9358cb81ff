"""Killed at every point, one point a run, started again, and compared with a run that was left alone."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from run.stage import Stage, prepare
from run.zygote import Zygote


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    started = [Zygote(), Zygote()]
    yield started
    for zygote in started:
        zygote.close()


def test_killed_at_every_point_of_a_run_on_sqlite(zygotes: list[Zygote], tmp_path: Path) -> None:
    template = prepare(tmp_path / "template")
    alone = Stage(tmp_path / "alone")
    counted = tmp_path / "points"
    assert zygotes[0].run(alone.job(points=str(counted))) == 0
    alone.check()
    names = counted.read_text().splitlines()
    assert {f"{when} set Inactive" for when in ("before", "after")} <= set(names)
    assert len(alone.aws.writes) == 3

    def kill_at(point: int) -> None:
        zygote = zygotes[point % len(zygotes)]
        stage = Stage(tmp_path / f"point{point}", template=template)
        status = zygote.run(stage.job(kill_at=point))
        # Two ticks may be merged or not, so the last points are not passed in every run.
        assert status == -signal.SIGKILL or (status == 0 and point > len(names) - 4), names[point - 1]
        assert zygote.run(stage.job()) == 0
        stage.check()

    with ThreadPoolExecutor(len(zygotes)) as pool:
        list(pool.map(kill_at, range(1, len(names) + 1)))
