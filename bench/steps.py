"""Steps a second on SQLite, and on PostgreSQL with 1, 2 and 4 workers, against an AWS of constant time.

`engine_ms` is the processor time that everything but AWS costs for each key: engine, ledger, ourselves.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from run import postgres  # the tests' own stage
from run.fake import CALLER, FakeAws, RunningClock, key, plan_for, used
from run.killed import Job, serve
from run.zygote import Zygote
from sparekey.plan import encode
from sparekey.policy import Policy
from sparekey.run.runs import Runs
from sparekey.run.state import State
from sparekey.run.turn import Patience

ACCOUNTS = 8
CALLS = 7  # a key costs one listing, two last uses, one write, three listings


class Bare(FakeAws):
    """Remembers no history, so that only what is measured grows."""

    def set(self, user: str, key: str, status: str, account: str = "") -> None:
        """Change a key."""
        for found in self.users[account, user]:
            if found.id == key:
                found.status = status


def world(keys: int, accounts: int) -> FakeAws:
    """So many users with two keys each, in so many accounts."""
    aws = Bare(RunningClock())
    for number in range(keys):
        pair = key(f"AKIAOLD{number:06}", 400, used(80)), key(f"AKIANEW{number:06}", 30, used(1))
        aws.add(f"user{number:06}", *pair, account=f"{100000000000 + number % accounts}")
    return aws


def in_this_process(state: State, keys: int, latency: float, pause: float) -> dict[str, float]:
    """One run of one account, as `sparekey apply` does it."""
    aws = world(keys, 1)
    plan = plan_for(aws)
    aws.before = lambda _call: time.sleep(latency)
    runs = Runs(state, aws.clock, aws.gateway, CALLER, patience=Patience(pause=pause))
    began, cpu = time.perf_counter(), time.process_time()
    record = runs.apply(plan, Policy())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    if {step.state for step in record.steps} != {"unwatched"}:
        raise AssertionError(record.state)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return told(keys, took, latency) | {"engine_ms": round(1000 * cpu / keys, 1), "megabytes": round(peak)}


def told(keys: int, took: float, latency: float) -> dict[str, float]:
    """The figures of one run."""
    aws_ms = 1000 * CALLS * latency
    return {"keys": keys, "seconds": round(took, 2), "per_second": round(keys / took, 1), "aws_ms": aws_ms}


def by_workers(directory: Path, url: str, workers: int, keys: int, latency: float) -> dict[str, float]:
    """One run of several accounts, shared by worker processes."""
    directory.mkdir()
    aws = world(keys, ACCOUNTS)
    plan = plan_for(aws)
    (directory / "plan.json").write_bytes(encode(plan))
    listener = serve(aws, str(directory / "aws"), latency)
    zygote = Zygote()
    job = Job(
        str(directory / "home"), str(directory / "plan.json"), str(directory / "aws"), url, work=True
    )  # fmt: skip
    state = State(directory / "home", url)
    runs = Runs(state, aws.clock, aws.gateway, CALLER)
    pids = [zygote.start(job) for _ in range(workers)]
    while len(runs.live_workers()) < workers:
        time.sleep(0.05)
    began = time.perf_counter()
    run = runs.apply(plan, Policy(), detach=True).id
    while runs.show(run).state != "unwatched":
        time.sleep(0.2)
    took = time.perf_counter() - began
    (directory / "home" / "enough").touch()
    for pid in pids:
        zygote.wait(pid)
    zygote.close()
    listener.close()
    state.close()
    return {"workers": workers, **told(keys, took, latency)}


def main() -> None:
    """Measure and tell, a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=500)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that each call of AWS takes")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between confirming listings")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], default="")
    options = parser.parse_args()
    measured = (options.keys, options.latency, options.pause)
    with tempfile.TemporaryDirectory() as name:
        if options.only != "postgresql":
            print("sqlite", json.dumps(in_this_process(State(Path(name, "home")), *measured)), flush=True)
        if options.only != "sqlite":
            directory = Path(name, "postgresql")
            directory.mkdir()
            with postgres.server(directory) as url:
                state = State(directory / "home", url)
                print("postgresql", json.dumps(in_this_process(state, *measured)), flush=True)
                state.close()
                for workers in (1, 2, 4):
                    of = postgres.database(url, f"workers{workers}")
                    figures = by_workers(directory / str(workers), of, workers, options.keys, options.latency)
                    print("postgresql", json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
