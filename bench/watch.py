"""Faults drawn at random against two workers that watch one run, in virtual time: how late does a key come back?

Prints the worst delay; fails where a key stays off beside an unhealthy probe for longer than the probe's interval
and a minute while AWS answers, or where nobody is told that it cannot be brought back. A seed replays.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import postgres_server  # the tests' own world and server
from support.watch_simulation import ALLOWED, WatchSimulation


def main() -> int:
    """Play it on SQLite and on PostgreSQL; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="so many seeds, one after the other")
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of virtual time")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    options = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for seed in range(options.seed, options.seed + options.rounds):
            if options.database in ("sqlite", "both"):
                broken += play("SQLite", seed, f"sqlite:///{directory / f'{seed}.db'}", options)
        if options.database in ("postgresql", "both"):
            with postgres_server.server(directory) as server:
                for seed in range(options.seed, options.seed + options.rounds):
                    broken += play(
                        "PostgreSQL", seed, postgres_server.database(server, f"seed{seed}"), options
                    )
    return 1 if broken else 0


def play(where: str, seed: int, url: str, options: argparse.Namespace) -> int:
    """Play one seed; 1 if a promise was broken."""
    began, cpu = time.perf_counter(), time.process_time()
    world = WatchSimulation(seed, url)
    try:
        worst = world.play(options.seconds, options.faults)
    except AssertionError as error:
        print(f"{where}, seed {seed}: BROKEN: {error}", flush=True)
        return 1
    finally:
        world.ledger.close()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    keys = 3 * options.seconds / 3600
    print(
        f"{where}, seed {seed}: {options.faults} faults in {options.seconds:.0f} s of virtual time, worst delay "
        f"{worst:.0f} s of {ALLOWED:.0f} s; {took:.0f} s, {used / keys:.2f} s of CPU per key and hour\n  "
        + ", ".join(f"{count} {kind}" for kind, count in Counter(world.faults).most_common()),
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
