"""Killed at every point, one point a run, started again, and compared with a run that was left alone."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.run_lab import RunLab, SandboxLane, prepare


@pytest.fixture(scope="module")
def lanes() -> Iterator[list[SandboxLane]]:
    started = [SandboxLane(), SandboxLane()]
    yield started
    for lane in started:
        lane.close()


@pytest.mark.slow
def test_killed_at_every_point_of_a_run_on_sqlite(lanes: list[SandboxLane], tmp_path: Path) -> None:
    template = prepare(tmp_path / "template")
    alone = RunLab(lanes[0], tmp_path / "alone")
    counted = tmp_path / "points"
    assert alone.run(points=str(counted)) == 0
    names = counted.read_text().splitlines()
    assert {f"{when} set Inactive" for when in ("before", "after")} <= set(names)
    assert len(lanes[0].writes) == 3
    assert set(alone.end.steps.values()) == {"unwatched"}
    assert list(alone.end.keys.values()).count("Inactive") == 3

    def kill(number: int) -> None:
        lane = lanes[number]
        for point in range(1 + number, len(names) + 1, len(lanes)):
            stage = RunLab(lane, tmp_path / f"point{point}", template=template)
            status = stage.run(kill_at=point)
            # Two ticks may be merged or not, so the last points are not passed in every run.
            assert status == -signal.SIGKILL or (status == 0 and point > len(names) - 4), names[point - 1]
            assert stage.run() == 0
            assert stage.end == alone.end, names[point - 1]

    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(kill, range(len(lanes))))
