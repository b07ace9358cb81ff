"""Every case of `bench/read.py`, several times each: medians and spread, a table for the docs."""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

READ = Path(__file__).with_name("read.py")
CASES = {
    "one account, 5,000 users, report": "--mode report --users 5000 --latency 30",
    "one account, 5,000 users, list": "--mode list --users 5000 --latency 30",
    "one account, 5,000 users, report, no latency": "--mode report --users 5000",
    "one account, 5,000 users, list, no latency": "--mode list --users 5000",
    "20 requests a second, 1,000 users, report": "--mode report --users 1000 --latency 30 --limit 20",
    "20 requests a second, 1,000 users, list": "--mode list --users 1000 --latency 30 --limit 20",
    "50 accounts of 50 users": "--mode auto --users 50 --accounts 50 --latency 30 --org",
    "1,000 accounts of 50 users": "--mode auto --users 50 --accounts 1000 --latency 30 --org",
    "10,000 accounts of 50 users, no latency": "--mode auto --users 50 --accounts 10000 --org",
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print("| case | seconds (min to max) | CPU s | MB | requests | spare |")
    print("|---|---|---|---|---|---|")
    for name, of in CASES.items():
        if options.only in name:
            print(_line(name, [_run(of.split()) for _ in range(options.times)]), flush=True)


def _run(options: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, str(READ), *options], stdout=subprocess.PIPE, check=True)
    received: dict[str, float] = json.loads(done.stdout)
    return received


def _line(name: str, runs: list[dict[str, float]]) -> str:
    def median(field: str) -> float:
        return statistics.median(run[field] for run in runs)

    times = [run["seconds"] for run in runs]
    cells = [f"{median('seconds'):.2f} ({min(times):.2f} to {max(times):.2f})", f"{median('cpu'):.2f}"]
    cells += [f"{median(field):.0f}" for field in ("megabytes", "requests", "spare")]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
