"""One worker under load: thousands of keys, hundreds of probes, many live runs and console streams, over minutes.

The practice AWS and the probes' endpoint are in this process; `sparekey` runs as it would be run. Prints what the worker
costs (CPU, memory at the start and at the end of the watch), how late probes are checked, and how long after an endpoint
breaks its keys are active again. Fails where that takes longer than the probe's interval and a minute, where a probe is
checked later than twice its interval and a minute (its key would end as not watched), or where memory grows by more than
a quarter over the second half of the watch. Left out: real AWS and its throttling, probes that are slow, more than one
machine.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from sparekey.sandbox import Sandbox
from sparekey.sandbox.scenario import parse_scenario

_PAIR = '[{ age = "400d", used = { ago = "80d" } }, { age = "30d", used = { ago = "1h" } }]'
_CALLER, _ROLE = "ops", "SparekeyApply"
_SLACK = 60.0


class Endpoint:
    """The health endpoint of every probe: `/NAME` answers 200 until NAME is broken; each request's time is kept."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.asked: dict[str, list[float]] = defaultdict(list)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                outer.asked[name].append(time.monotonic())
                self.send_response(500 if name in outer.broken else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Lab:
    """The practice AWS, the endpoint, a state directory, and the processes that work on it."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.accounts = [f"{100000000000 + number}" for number in range(options.accounts)]
        self.endpoint = Endpoint()
        self.sandbox = Sandbox(parse_scenario(self._scenario())).start()
        home = folder / "home"
        home.mkdir(mode=0o700)
        (home / "sparekey.toml").write_text(self._policy())
        (home / "sparekey.toml").chmod(0o600)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))
        }
        self.env = {**kept, **self.sandbox.env(), "SPAREKEY_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.processes: list[subprocess.Popen[str]] = []

    def _scenario(self) -> str:
        per_account = max(1, self.options.keys // len(self.accounts))
        lines = ['seed = "load"', f'[caller]\naccount = "{self.accounts[0]}"\nuser = "{_CALLER}"']
        lines.append(f'[organization]\nmanagement = "{self.accounts[0]}"')
        for account in self.accounts:
            lines.append(f'[[account]]\nid = "{account}"')
            if account == self.accounts[0]:
                lines.append(f'[[account.user]]\nname = "{_CALLER}"\nkey = [{{ age = "20d" }}]')
            lines.append(f'[[account.role]]\nname = "{_ROLE}"')
            lines.append(f'[[account.many]]\nprefix = "u"\ncount = {per_account}\nkey = {_PAIR}')
        return "\n".join(lines) + "\n"

    def _policy(self) -> str:
        return "".join(
            f'[[probes]]\nkind = "http"\nname = "probe{number}"\nuser = "*"\n'
            f'account = "{self.accounts[number % len(self.accounts)]}"\nevery = "{self.options.interval}s"\n'
            f'url = "{self.endpoint.address}/probe{number}"\n'
            for number in range(self.options.probes)
        )

    def run(self, *arguments: str, fine: tuple[int, ...] = (0,)) -> str:
        command = [sys.executable, "-m", "sparekey", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode not in fine:
            raise SystemExit(
                f"sparekey {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}"
            )
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        log = (self.folder / f"{arguments[0]}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "sparekey", *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=log,
            stderr=log,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()
                process.wait()
        self.sandbox.stop()
        self.endpoint.close()


def streams(address: str, runs: list[str], count: int) -> Iterator[http.client.HTTPResponse]:
    """So many open event streams of the console, spread over the runs."""
    parts = urlsplit(address)
    opened = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    opened.request("GET", f"{parts.path}?{parts.query}")
    answer = opened.getresponse()
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    answer.read()
    if not cookie:
        raise SystemExit(f"the console gave no cookie: HTTP {answer.status}")
    for number in range(count):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.request("GET", f"/runs/{runs[number % len(runs)]}/events", headers={"Cookie": cookie})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"event stream {number}: HTTP {answer.status}")
        yield answer


def wait_for(what: str, seconds: float, done: Callable[[], bool]) -> float:
    """Seconds until it holds; ends the program where it does not."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - began


def memory_of(pid: int) -> int:
    """Bytes of a process that are in memory (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(lab: Lab, worker: int, minutes: float) -> tuple[list[int], float, list[float]]:
    """The worker's memory every ten seconds, its share of a CPU, and each probe's longest wait between two checks."""
    for times in lab.endpoint.asked.values():
        times.clear()
    memory, began = [], time.monotonic()
    cpu = cpu_of(worker)
    while time.monotonic() - began < 60 * minutes:
        memory.append(memory_of(worker))
        time.sleep(min(10.0, 6 * minutes))
    share = (cpu_of(worker) - cpu) / (time.monotonic() - began)
    now = time.monotonic()
    waits = []
    for number in range(lab.options.probes):
        times = [began, *lab.endpoint.asked[f"probe{number}"], now]
        waits.append(max(later - sooner for sooner, later in itertools.pairwise(times)))
    return memory, share, waits


def main() -> int:
    """Play it; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--accounts", type=int, default=200)
    parser.add_argument("--probes", type=int, default=300)
    parser.add_argument("--interval", type=int, default=10, help="seconds between two checks of a probe")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sparekey-load-") as name:
        lab = Lab(options, Path(name))
        try:
            return play(lab)
        finally:
            lab.close()


def play(lab: Lab) -> int:
    """Apply, watch, break one endpoint; 1 where a promise was broken."""
    options = lab.options
    worker = lab.start("worker", "--role", _ROLE)
    began, runs = time.monotonic(), []
    for number in range(options.runs):
        chosen = [part for account in lab.accounts[number :: options.runs] for part in ("--include", account)]
        lab.run("plan", "--org", "--role", _ROLE, *chosen, "-o", f"plan{number}.json")
        limit = ("--max-keys", str(options.keys), "--yes", "--detach", "--format", "json")
        document = json.loads(lab.run("apply", f"plan{number}.json", "--role", _ROLE, *limit))
        runs.append(document["id"])
    handed = time.monotonic() - began
    per_account = max(1, options.keys // len(lab.accounts))
    wanted = per_account * len(lab.accounts)

    def inactive() -> int:
        return sum(key.status == "Inactive" for key in lab.sandbox.state.keys.values())

    took = wait_for("every key is Inactive", 60 + options.keys, lambda: inactive() == wanted)
    print(
        f"{wanted} keys of {len(lab.accounts)} accounts in {len(runs)} runs: handed over in {handed:.0f} s, then {took:.0f} s"
    )
    wait_for("every run is watched", 300, lambda: all(r["state"] == "watching" for r in _runs(lab)))
    console = lab.start("console", "--no-browser", "--port", "0")
    log = lab.folder / "console.log"
    found: list[str] = []
    wait_for(
        "the console listens",
        120,
        lambda: bool(found.extend(re.findall(r"http://\S+token=\S+", log.read_text())) or found),
    )
    opened = list(streams(found[0], runs, options.streams))
    memory, share, waits = watch(lab, worker.pid, options.minutes)
    half = memory[len(memory) // 2]
    growth = memory[-1] / half - 1
    late = max(waits)
    shown = memory_of(console.pid) / 2**20
    print(
        f"watch of {options.minutes:g} min, {options.probes} probes every {options.interval} s, {len(opened)} streams: "
        f"worker {100 * share:.0f} % of a CPU, {memory[0] / 2**20:.0f} MB at the start, {half / 2**20:.0f} at half, "
        f"{memory[-1] / 2**20:.0f} at the end; console {shown:.0f} MB; longest time between two checks of a probe: median "
        f"{statistics.median(waits):.1f} s, worst {late:.1f} s"
    )
    broken_at = time.monotonic()
    lab.endpoint.broken.add("probe0")
    account = lab.accounts[0]
    allowed = options.interval + _SLACK

    def back() -> bool:
        keys = [key for key in lab.sandbox.state.keys.values() if key.account == account]
        return all(key.status == "Active" for key in keys)

    wait_for("the keys of the broken endpoint are active", allowed + 120, back)
    delay = time.monotonic() - broken_at
    print(
        f"endpoint broken: its {per_account} keys are active again after {delay:.0f} s of {allowed:.0f} s allowed"
    )
    wrong = []
    if delay > allowed:
        wrong.append(f"a rollback took {delay:.0f} s")
    if late > 2 * options.interval + _SLACK:
        wrong.append(f"a probe was not checked for {late:.0f} s")
    if options.minutes >= 5 and growth > 0.25:
        wrong.append(f"memory grew by {100 * growth:.0f} % over the second half")
    print("; ".join(wrong) or "every promise held")
    return 1 if wrong else 0


def _runs(lab: Lab) -> list[dict[str, str]]:
    return [json.loads(line) for line in lab.run("runs", "--format", "jsonl").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
