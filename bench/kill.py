"""A run is killed at every point, on SQLite and on PostgreSQL, started again, and must end the same.

All of it takes hours: --seconds stops in time and tells which point comes next, --first goes on there.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import postgres_server  # the tests' own stage
from support.run_lab import RunEnd, RunLab, SandboxLane, prepare

LANES = 2
_PROGRESS = 60.0  # seconds between lines


class Stages:
    """Where runs begin: copies of one empty state, on SQLite or on a PostgreSQL server."""

    def __init__(self, directory: Path, server: str) -> None:
        self.directory, self.server = directory, server
        url = postgres_server.database(server, "template") if server else ""
        self.template = prepare(directory / "template", url)

    @contextmanager
    def stage(self, lane: SandboxLane, name: str) -> Iterator[RunLab]:
        """A fresh one; afterwards it is removed, or all of them would fill the disk."""
        url = postgres_server.database(self.server, name, "template") if self.server else ""
        stage = RunLab(lane, self.directory / name, url, None if self.server else self.template)
        yield stage
        stage.close()
        if self.server:
            postgres_server.drop(self.server, name)


class Killer:
    """Kills at one point after another, in as many lanes as there are."""

    def __init__(self, lanes: list[SandboxLane], stages: Stages, until: float) -> None:
        self.lanes, self.stages, self.until = lanes, stages, until
        self.done: list[int] = []
        self.errors: list[str] = []
        self.lock = threading.Lock()
        self.total, self.alone = self._left_alone()

    def _left_alone(self) -> tuple[int, RunEnd]:
        with self.stages.stage(self.lanes[0], "alone") as stage:
            counted = stage.directory / "points"
            if stage.run(points=str(counted)) != 0 or set(stage.end.steps.values()) != {"unwatched"}:
                raise AssertionError("a run that is left alone failed")
            return len(counted.read_text().splitlines()), stage.end

    def kill(self, points: list[int]) -> None:
        """Kill at these points, until the time is over."""
        self.left = iter(points)
        threads = [threading.Thread(target=self._work, args=(lane,)) for lane in self.lanes]
        for thread in threads:
            thread.start()
        began, received = time.perf_counter(), 0.0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
            took = time.perf_counter() - began
            if took - received >= _PROGRESS:
                print(f"  {len(self.done)} of {len(points)} points, {took:.0f} s", flush=True)
                received = took

    def _work(self, lane: SandboxLane) -> None:
        while time.monotonic() < self.until and not self.errors:
            with self.lock:
                point = next(self.left, 0)
            if not point:
                return
            try:
                self._kill_at(lane, point)
            except Exception as error:  # noqa: BLE001  # whatever it is, the point is what counts
                self.errors.append(f"point {point} of {self.total}: {type(error).__name__}: {error}")
                return
            self.done.append(point)

    def _kill_at(self, lane: SandboxLane, point: int) -> None:
        with self.stages.stage(lane, f"point{point}") as stage:
            status = stage.run(kill_at=point)
            # Ticks may be merged or not, so the last points are not passed in every run.
            if status != -signal.SIGKILL and not (status == 0 and point > 0.98 * self.total):
                raise AssertionError(f"it was to be killed there, and ended with {status}")
            if (again := stage.run()) != 0:
                raise AssertionError(f"started again it ended with {again}")
            if stage.end != self.alone:
                raise AssertionError(f"it ended otherwise than a run left alone: {stage.end}")


def kill_everywhere(name: str, server: str, directory: Path, options: argparse.Namespace) -> bool:
    """Kill at each point that is asked for, and tell; False where one did not end the same."""
    began = time.perf_counter()
    lanes = [SandboxLane(options.keys) for _ in range(LANES)]
    until = time.monotonic() + options.seconds if options.seconds else float("inf")
    killer = Killer(lanes, Stages(directory, server), until)
    points = list(range(options.first, killer.total + 1, options.every))
    print(f"{name}: {options.keys} keys, {killer.total} points; killing at {len(points)} of them", flush=True)
    killer.kill(points)
    for lane in lanes:
        lane.close()
    took, left = time.perf_counter() - began, sorted(set(points) - set(killer.done))
    print(
        f"{name}: {options.keys} keys, killed at {len(killer.done)} of {killer.total} points in {took:.0f} s"
    )
    for error in killer.errors:
        print(f"{name}: {error}")
    if left:
        print(f"{name}: not all were done; go on with --first {left[0]}")
    elif not killer.errors:
        print(f"{name}: all ended as the run that was left alone")
    return not killer.errors


def main() -> int:
    """Kill and tell; 1 where a run did not end the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--every", type=int, default=1, help="only each so manyth point")
    parser.add_argument("--first", type=int, default=1, help="the point to begin with")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long, for each database")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], default="")
    options = parser.parse_args()
    good = True
    directory = Path(tempfile.mkdtemp())
    try:
        if options.only != "postgresql":
            (directory / "sqlite").mkdir()
            good &= kill_everywhere("SQLite", "", directory / "sqlite", options)
        if options.only != "sqlite":
            (directory / "postgresql").mkdir()
            with postgres_server.server(directory / "postgresql") as url:
                good &= kill_everywhere("PostgreSQL", url, directory / "postgresql", options)
    finally:
        shutil.rmtree(directory)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
