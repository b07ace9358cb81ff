"""Runs by the command line itself: keys a second, processor time a key, memory; as tables for the docs.

`sparekey plan`, `apply` and `worker` run as processes of their own against `bench/server.py`, which answers each
call after a constant time; runs are kept in SQLite, or in a PostgreSQL that is started for it. `--write` puts the
tables into docs/explanation/benchmarks.md.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import sqlalchemy as sa
from read import counts, environment, server

from sparekey.aws.gateway import AwsGateway
from sparekey.ledger.store import Ledger
from support import postgres_server  # the tests' own server

ACCOUNTS = 32
SPAREKEY = [sys.executable, "-m", "sparekey"]
ROLE = ("--role", "SparekeyApply")
CALLS = 7  # a key costs one listing, two last uses, one write, three listings
_VERDICTS = sa.text("SELECT count(*) FROM sparekey_entries WHERE run = :run AND kind = 'verdict'")
DOCS = Path(__file__).parents[1] / "docs" / "explanation" / "benchmarks.md"
INTRODUCTION = """
`sparekey plan`, `apply` and `worker` run as processes of their own against `bench/server.py`, which answers every
call after a constant time and checks no signature; every user has a spare key to retire. A key costs seven calls:
a listing, two last uses, the write, three listings to confirm it, two seconds apart. Keys a second are by the wall
clock from the start of `apply` to the last verdict, the confirming pauses and the start of the processes included.
The processor time of a key is that of all processes of sparekey, less what a run of a tenth of the keys takes, so
that starting them does not count. What is left out: PostgreSQL's own processor time, and everything that a real network
does. No limit of IAM's applies here; a real account allows fewer writes a second than any of these.
"""


class Measured(NamedTuple):
    """One run: seconds by the wall clock, seconds of processor time, peak megabytes of the largest process."""

    keys: int
    seconds: float
    cpu: float
    megabytes: float


class Ended(NamedTuple):
    """What a process took."""

    cpu: float
    megabytes: float


class World:
    """A server, a home and a plan for so many keys."""

    def __init__(self, url: str, home: Path, keys: int, accounts: int) -> None:
        self.url, self.home, self.keys, self.accounts = url, home, keys, accounts
        self.plan = home / "plan.json"
        home.mkdir(parents=True)
        self.limits = ["--max-keys", str(keys), "--max-account-keys", str(keys)]

    def environment(self, database: str) -> dict[str, str]:
        """What a command of sparekey finds."""
        state = {"SPAREKEY_HOME": str(self.home / "state"), "PYTHONPATH": "src", **environment(self.url)}
        return {**os.environ, **state, **({"SPAREKEY_DATABASE_URL": database} if database else {})}

    def start(self, *words: str, database: str = "") -> "subprocess.Popen[bytes]":
        """Start a command of sparekey; what it says goes to a file."""
        with (self.home / "result").open("ab") as result:
            command = [*SPAREKEY, *words]
            return subprocess.Popen(command, env=self.environment(database), stdout=result, stderr=result)

    def run(self, *words: str, database: str = "") -> Ended:
        """Run a command to its end."""
        return self.end(self.start(*words, database=database))

    def end(self, process: "subprocess.Popen[bytes]") -> Ended:
        """Wait for a process; raises AssertionError where it failed."""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 130, -signal.SIGTERM):
            raise AssertionError(
                f"{process.args}: {process.returncode}\n{(self.home / 'said').read_text()[-2000:]}"
            )
        return Ended(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def make_plan(self) -> None:
        """Plan for all of them."""
        where = ("--org", *ROLE) if self.accounts > 1 else ()
        self.run("plan", "-o", str(self.plan), *where, "--format", "json")
        found = json.loads(self.plan.read_bytes())["steps"]
        assert len(found) == self.keys, f"{len(found)} steps for {self.keys} keys"
        counts(self.url)

    def apply(self, *words: str, database: str = "") -> Ended:
        """Apply the plan."""
        where = ROLE if self.accounts > 1 else ()
        return self.run("apply", str(self.plan), "--yes", *self.limits, *where, *words, database=database)

    def check(self, url: str) -> None:
        """Every key must have been written once, and its outcome be on record."""
        ledger = Ledger.open(url)
        run = only_run(ledger)
        kinds = [entry.kind for entry in ledger.entries(run)]
        ledger.close()
        assert kinds.count("verdict") == kinds.count("intent") == self.keys, "not every key is through"
        assert counts(self.url)["requests"] >= CALLS * self.keys, "too few calls"


@contextmanager
def world(keys: int, accounts: int, latency: float) -> Iterator[World]:
    """Everything for one run, removed afterwards."""
    users = keys // accounts
    received = ("--users", str(users), "--accounts", str(accounts), "--spare", "1", "--latency", str(latency))
    with tempfile.TemporaryDirectory() as name, server(*received) as url:
        made = World(url, Path(name, "home"), users * accounts, accounts)
        made.make_plan()
        yield made


def in_one_process(keys: int, accounts: int, latency: float, database: str = "") -> Measured:
    """One run, as `sparekey apply` does it by itself."""
    with world(keys, accounts, latency) as made:
        began = time.perf_counter()
        used = made.apply(database=database)
        took = time.perf_counter() - began
        made.check(database or f"sqlite:///{made.home}/state/sparekey.db")
        return Measured(made.keys, took, used.cpu, used.megabytes)


def by_workers(keys: int, latency: float, workers: int, database: str) -> Measured:
    """One run of several accounts, handed over to worker processes that were there before."""
    with world(keys, ACCOUNTS, latency) as made:
        started = [made.start("worker", *ROLE, database=database) for _ in range(workers)]
        ledger = Ledger.open(database)
        while len(ledger.workers()) < workers:
            time.sleep(0.1)
        began = time.perf_counter()
        used = [made.apply("--detach", database=database)]
        run = only_run(ledger)
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while connection.execute(_VERDICTS, {"run": run}).scalar() < made.keys:
                time.sleep(0.1)
        took = time.perf_counter() - began
        ledger.close()
        for process in started:
            process.send_signal(signal.SIGTERM)
        used += [made.end(process) for process in started]
        made.check(database)
        return Measured(made.keys, took, sum(one.cpu for one in used), max(one.megabytes for one in used))


def call_cost(calls: int = 3000) -> float:
    """Milliseconds of processor time that one listing by our own client takes."""
    with server("--users", "100") as url:
        os.environ.update(environment(url))
        account = AwsGateway.connect().own_account()
        account.list_keys("user00001")
        began = time.process_time()
        for number in range(calls):
            account.list_keys(f"user{number % 100:05d}")
        return 1000 * (time.process_time() - began) / calls


def only_run(ledger: Ledger) -> str:
    """The one run that is on record; the ledger has a chain of plans, too."""
    (run,) = (name for name in ledger.runs() if name.startswith("r-"))
    return run


def spread(values: list[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    received = (statistics.median(values), min(values), max(values))
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*received, d=digits)


def speeds(keys: int, latency: float, rounds: int, directory: Path) -> list[str]:
    """The table of keys a second, and what a key costs."""
    names = ("SQLite, `apply` alone", "PostgreSQL, `apply` alone")
    found: dict[str, list[Measured]] = {name: [] for name in names}
    small: dict[str, list[Measured]] = {name: [] for name in names}
    costs = [call_cost() for _ in range(rounds)]
    with postgres_server.server(directory) as url:
        for turn in range(rounds):
            for number, name in enumerate(names):
                for into, size in ((small, keys // 10), (found, keys)):
                    database = postgres_server.database(url, f"alone{turn}of{size}") if number else ""
                    into[name].append(in_one_process(size, ACCOUNTS, latency, database))
            for workers in (1, 2, 4):
                name = f"PostgreSQL, {workers} worker{'s' if workers > 1 else ''}"
                for into, size in ((small, keys // 10), (found, keys)):
                    database = postgres_server.database(url, f"by{workers}turn{turn}of{size}")
                    into.setdefault(name, []).append(by_workers(size, latency, workers, database))
                    print(name, into[name][-1], file=sys.stderr, flush=True)
    one = statistics.median(run.keys / run.seconds for run in found["PostgreSQL, 1 worker"])
    lines = [
        f"{keys} keys in {ACCOUNTS} accounts, {latency:g} ms a call, {rounds} rounds.",
        f"A call of our client costs {spread(costs, 2)} ms of processor time.",
        "",
        "| | keys a second (min to max) | to one worker | ms of processor time a key | of the calls' |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, runs in found.items():
        rate = [run.keys / run.seconds for run in runs]
        marginal = [
            1000 * (run.cpu - less.cpu) / (run.keys - less.keys)
            for run, less in zip(runs, small[name], strict=True)
        ]
        times = statistics.median(marginal) / (CALLS * statistics.median(costs))
        lines.append(
            f"| {name} | {spread(rate)} | {statistics.median(rate) / one:.2f} | {spread(marginal)} | {times:.1f} times |"
        )
    return [*lines, ""]


class Sampled(threading.Thread):
    """The memory that a process holds, in megabytes, every half second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.statm, self.held = Path(f"/proc/{pid}/statm"), list[float]()

    def run(self) -> None:
        """Sample until the process is gone."""
        with suppress(FileNotFoundError):
            while pages := int(self.statm.read_text().split()[1]):
                self.held.append(pages * resource.getpagesize() / 2**20)
                time.sleep(0.5)

    def at(self, share: float) -> float:
        """What was held once so much of the time was over."""
        return self.held[int(share * (len(self.held) - 1))]


def memory(keys: int) -> tuple[Measured, Sampled]:
    """One run of one account on SQLite, and what it held meanwhile."""
    with world(keys, 1, 0) as made:
        began = time.perf_counter()
        process = made.start("apply", str(made.plan), "--yes", *made.limits)
        sampled = Sampled(process.pid)
        sampled.start()
        used = made.end(process)
        took = time.perf_counter() - began
        made.check(f"sqlite:///{made.home}/state/sparekey.db")
        return Measured(made.keys, took, used.cpu, used.megabytes), sampled


def memories(sizes: list[int]) -> list[str]:
    """The table of peak memory."""
    lines = [
        "| keys in one account | seconds | peak MB | KB a key beyond the smallest | held at a fifth of the time | at the end |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    first: Measured | None = None
    for size in sizes:
        run, sampled = memory(size)
        first = first or run
        more = 1024 * (run.megabytes - first.megabytes) / max(run.keys - first.keys, 1)
        print(run, file=sys.stderr, flush=True)
        held = f"{sampled.at(0.2):.0f} MB | {sampled.at(0.98):.0f} MB"
        lines.append(f"| {run.keys} | {run.seconds:.0f} | {run.megabytes:.0f} | {more:.0f} | {held} |")
    return [*lines, ""]


def write(lines: list[str]) -> None:
    """Put the section into the docs."""
    begin, end = "<!-- bench-run begins -->", "<!-- bench-run ends -->"
    text = DOCS.read_text()
    if begin not in text:
        text = f"{text.rstrip()}\n{begin}\n{end}\n"
    head, rest = text.split(begin, 1)
    DOCS.write_text(head + "\n".join([begin, *lines, end]) + rest.split(end, 1)[1])


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=960)
    parser.add_argument("--latency", type=float, default=100, help="milliseconds that each call of AWS takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 10_000], help="for memory")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/explanation/benchmarks.md"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = speeds(options.keys, options.latency, options.rounds, Path(name)) if options.rounds else []
    lines += memories(options.sizes) if options.sizes else []
    print("\n".join(lines))
    if options.write:
        write(["\n## Runs (`make bench-run`)", INTRODUCTION, *lines])


if __name__ == "__main__":
    main()
