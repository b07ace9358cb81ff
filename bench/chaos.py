"""Runs over a bad line, seed by seed; each must end as a run that is left alone. A failing seed replays."""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.chaos import ChaosLab  # the tests' own players


def main() -> int:
    """Play the seeds; 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    began, failed, faults = time.perf_counter(), [], Counter[str]()
    with tempfile.TemporaryDirectory() as name, ChaosLab(Path(name)) as lab:
        for number, seed in enumerate(range(options.first, options.first + options.seeds), 1):
            try:
                faults.update(fate.kind for _, fate in lab.play(seed).faults)
            except Exception:  # noqa: BLE001  # whatever it is, the seed is what counts
                traceback.print_exc()
                failed.append(seed)
            if number % 100 == 0:
                took = time.perf_counter() - began
                print(f"{number} of {options.seeds} seeds, {took:.0f} s, {len(failed)} failed", flush=True)
    took = time.perf_counter() - began
    print(f"{options.seeds} seeds in {took:.0f} s, {len(failed)} failed: {failed}")
    print("requests: " + ", ".join(f"{count} {kind}" for kind, count in faults.most_common()))
    for seed in failed:
        print(f"replay: {Path(__file__).name} --first {seed} --seeds 1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
