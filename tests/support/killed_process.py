"""A process that applies a plan and is killed at one point of its choosing; started by `fork_server.py`'s fork.

It speaks to the sandbox with our own client, as to AWS.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from dbos import DBOS

from sparekey.aws.access_keys import AccessKeys
from sparekey.aws.gateway import AccountGateway, AwsGateway
from sparekey.clock import SystemClock
from sparekey.errors import RefusedError
from sparekey.handover import Handovers, HandoverTools
from sparekey.ledger.store import Ledger
from sparekey.plan import decode
from sparekey.policy import parse_policy
from sparekey.runs import queue, run_loop, worker_leases
from sparekey.runs.context import RetryPolicy
from sparekey.runs.queue import Queue
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from support.virtual_engine import FakeProbes

POLL = 0.02  # seconds
TTL = 1.0  # seconds until a process that was killed counts as dead where no file lock tells
QUICK = RetryPolicy(
    pause=0.01,
    give_up_after=0.1,
    backoff=(0.05, 0.1, 0.2, 0.4),
    usable_for=0.04,
    usable_pause=0.02,
    visible_after=0.1,
)


class KillJob(msgspec.Struct):
    """What the process is to do: be killed at point number `kill_at` (0: never), counted into `points`.

    `policy` is the policy's text, with the handovers of a rotation.
    With `kind`, at the first point of that name; with `once`, only the first process that creates this file.
    """

    home: str
    plan: str
    url: str = ""
    kill_at: int = 0
    kind: str = ""
    points: str = ""
    work: bool = False
    once: str = ""
    policy: str = ""


class KillPoints:
    """The points at which a process may be killed, numbered as it passes them."""

    def __init__(self, job: KillJob) -> None:
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


def connected() -> AwsGateway:
    """The way to what AWS_ENDPOINT_URL names, nothing asked yet; made once, and used by every fork."""
    gateway = AwsGateway.connect()
    for service in ("iam", "sts"):
        gateway.client.service(service)
    return gateway


def run(job: KillJob, gateway: AwsGateway) -> None:
    """Do the job, in this process."""
    points = KillPoints(job)
    original = Ledger.append
    Ledger.append = points.around(lambda _ledger, _run, kind, *_rest: f"entry {kind}", original)  # type: ignore[method-assign]
    DBOS.run_step = points.around(lambda options, *_rest: f"step {options['name']}", DBOS.run_step)  # type: ignore[method-assign]
    written = points.around(lambda *args: f"set {args[-1]}", AccessKeys.set_status)
    AccessKeys.set_status = written  # type: ignore[method-assign]
    created = points.around(lambda *_args: "create", AccessKeys.create_key)
    AccessKeys.create_key = created  # type: ignore[method-assign]
    stored = points.around(lambda _gateway, _service, action, *_rest: str(action), AccountGateway.write)
    AccountGateway.write = stored  # type: ignore[method-assign]
    queue._POLL = run_loop._POLL = POLL
    worker_leases.TTL = TTL
    queue._SWEEP = 0.2
    setattr(Queue, "stop", lambda _engine: None)  # noqa: B010  # the process ends anyway
    own, caller = gateway.own_account(), gateway.caller()
    state = StateDirectory(Path(job.home), job.url)
    probes = FakeProbes({})
    runs = RunService(
        state,
        SystemClock(),
        lambda _account: own,
        caller,
        probes=probes,
        retry_policy=QUICK,
        handover=Handovers(lambda _account: HandoverTools(own, lambda _role: own)),
    )
    plan = decode(Path(job.plan).read_bytes())
    try:
        if job.work:
            runs.run_worker(lambda: Path(job.home, "enough").exists(), every=0.1)
        else:
            runs.apply(plan, parse_policy(job.policy))
    except RefusedError as error:
        if "was executed" not in error.message:
            raise
    if job.points:
        Path(job.points).write_text("\n".join(points.names))
