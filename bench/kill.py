"""A run is killed at every point, on SQLite and on PostgreSQL, started again, and must end the same."""

import argparse
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from run import postgres  # the tests' own stage
from run.stage import Stage
from run.zygote import Zygote


def kill_everywhere(directory: Path, server: str, keys: int, every: int) -> tuple[int, float]:
    """Every point (or every so many); returns how many there were and the seconds it took."""
    zygotes = [Zygote(), Zygote()]
    began = time.perf_counter()

    def stage(name: str) -> Stage:
        return Stage(directory / name, postgres.database(server, name) if server else "", keys)

    alone = stage("alone")
    counted = directory / "points"
    if zygotes[0].run(alone.job(points=str(counted))) != 0:
        raise AssertionError("a run that is left alone failed")
    alone.check()
    points = len(counted.read_text().splitlines())

    def kill_at(point: int) -> None:
        zygote, there = zygotes[point % 2], stage(f"point{point}")
        status = zygote.run(there.job(kill_at=point))
        if status not in (-signal.SIGKILL, 0) or zygote.run(there.job()) != 0:
            raise AssertionError(f"point {point} of {points}: status {status}")
        there.check()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_at, range(1, points + 1, every)))
    for zygote in zygotes:
        zygote.close()
    return len(range(1, points + 1, every)), time.perf_counter() - began


def main() -> None:
    """Kill and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--every", type=int, default=1, help="only each so manyth point")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.only != "postgresql":
            directory = Path(name, "sqlite")
            directory.mkdir()
            count, took = kill_everywhere(directory, "", options.keys, options.every)
            print(
                f"SQLite: {options.keys} keys, killed at {count} points in {took:.0f} s; all ended the same"
            )
        if options.only != "sqlite":
            directory = Path(name, "postgresql")
            directory.mkdir()
            with postgres.server(directory) as url:
                count, took = kill_everywhere(directory, url, options.keys, options.every)
            print(
                f"PostgreSQL: {options.keys} keys, killed at {count} points in {took:.0f} s; all ended the same"
            )


if __name__ == "__main__":
    main()
