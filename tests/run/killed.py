"""A process that applies a plan and is killed at one point of its choosing; started by `zygote.py`'s fork.

It speaks to the sandbox with our own client, as to AWS; or, where only the engine is measured, to a fake AWS of
constant time over a socket.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import msgspec
from dbos import DBOS

from run.fake import CALLER, FakeAws, RunningClock
from run.virtual import FakeProbes
from sparekey.aws.gateway import Gateway
from sparekey.aws.keys import Keys
from sparekey.clock import Clock, SystemClock
from sparekey.errors import RefusedError
from sparekey.ledger import Ledger
from sparekey.model import AccessKey, Caller, LastUsed
from sparekey.plan import decode
from sparekey.policy import Policy
from sparekey.run import engine
from sparekey.run import runs as runs_module
from sparekey.run.engine import Engine
from sparekey.run.runs import Runs
from sparekey.run.state import State
from sparekey.run.turn import Gateway as Account
from sparekey.run.turn import Patience

QUICK = Patience(pause=0.01, give_up=0.1, backoff=(0.05, 0.1, 0.2, 0.4))


class Job(msgspec.Struct):
    """What the process is to do: be killed at point number `kill_at` (0: never), counted into `points`.

    With `kind`, at the first point of that name; with `once`, only the first process that creates this file.
    Without an `address` of a fake AWS it speaks to what AWS_ENDPOINT_URL names.
    """

    home: str
    plan: str
    address: str = ""
    url: str = ""
    kill_at: int = 0
    kind: str = ""
    points: str = ""
    work: bool = False
    once: str = ""


class Points:
    """The points at which a process may be killed, numbered as it passes them."""

    def __init__(self, job: Job) -> None:
        self.job, self.passed, self.names = job, 0, list[str]()
        self.lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self.lock:
            self.passed += 1
            self.names.append(name)
            if (self.passed == self.job.kill_at or name == self.job.kind) and self._is_mine():
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_mine(self) -> bool:
        try:
            if self.job.once:
                Path(self.job.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def around(self, name: Callable[..., str], call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            self(f"before {name(*args)}")
            result = call(*args, **named)
            self(f"after {name(*args)}")
            return result

        return wrapped


class RemoteAws:
    """The fake AWS of the test's process."""

    def __init__(self, address: str, account: str) -> None:
        self.account = account
        self.connection: Connection[Any, Any] = Client(address, "AF_UNIX")
        self.lock = threading.Lock()

    def _ask(self, *question: str) -> Any:
        with self.lock:
            self.connection.send((self.account, *question))
            answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def list_users(self) -> Any:
        return iter(())

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        return tuple(self._ask("list_keys", user))

    def last_used(self, key_id: str) -> LastUsed:
        found: LastUsed = self._ask("last_used", key_id)
        return found

    def set_status(self, user: str, key_id: str, status: str) -> str:
        return str(self._ask("set_status", user, key_id, status))


def serve(aws: FakeAws, address: str, latency: float = 0.0) -> Listener:
    """Answer for a fake AWS until the listener is closed, each call after so many seconds."""
    listener = Listener(address, "AF_UNIX", backlog=16)
    lock = threading.Lock()

    def answer(connection: "Connection[Any, Any]") -> None:
        with connection:
            while True:
                try:
                    account, name, *args = connection.recv()
                except (EOFError, OSError):
                    return
                time.sleep(latency)
                with lock:
                    try:
                        result = getattr(aws.gateway(account), name)(*args)
                    except Exception as error:  # noqa: BLE001  # it is the answer
                        result = error
                try:
                    connection.send(result)
                except OSError:
                    return

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def connected() -> Gateway:
    """The way to AWS, nothing asked yet; made once, and used by every fork."""
    gateway = Gateway.connect()
    for service in ("iam", "sts"):
        gateway.client.service(service)
    return gateway


def run(job: Job, gateway: Gateway | None) -> None:
    """Do the job, in this process."""
    points = Points(job)
    original = Ledger.append
    Ledger.append = points.around(lambda _ledger, _run, kind, *_rest: f"entry {kind}", original)  # type: ignore[method-assign]
    DBOS.run_step = points.around(lambda options, *_rest: f"step {options['name']}", DBOS.run_step)  # type: ignore[method-assign]
    for kind in (Keys, RemoteAws):
        setattr(kind, "set_status", points.around(lambda *args: f"set {args[-1]}", kind.set_status))  # noqa: B010
    engine._POLL = runs_module._POLL = 0.02
    setattr(Engine, "stop", lambda _engine: None)  # noqa: B010  # the process ends anyway
    clock, accounts, caller = _aws(job, gateway)
    state = State(Path(job.home), job.url)
    runs = Runs(state, clock, accounts, caller, probes=FakeProbes({}), patience=QUICK)
    plan = decode(Path(job.plan).read_bytes())
    try:
        if job.work:
            runs.work(lambda: Path(job.home, "enough").exists(), every=0.1)
        else:
            runs.apply(plan, Policy())
    except RefusedError as error:
        if "was carried out" not in error.message:
            raise
    if job.points:
        Path(job.points).write_text("\n".join(points.names))


def _aws(job: Job, gateway: Gateway | None) -> tuple[Clock, Callable[[str], Account], Caller]:
    if gateway is None:
        return RunningClock(), cache(lambda account: RemoteAws(job.address, account)), CALLER
    own = gateway.own_account()
    return SystemClock(), lambda _account: own, gateway.caller()
