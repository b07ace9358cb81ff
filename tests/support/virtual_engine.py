"""The engine in virtual time: the same supervision as in a process, its tasks interleaved in a single thread."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol

from sparekey.aws.errors import UnreachableError
from sparekey.clock import Clock
from sparekey.errors import RefusedError
from sparekey.ledger.events import RunOpened, RunOptions, event_body, kind_of
from sparekey.ledger.store import Ledger
from sparekey.model import Caller, RunRecord
from sparekey.plan import Plan, encode
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs.context import KeyGateway, NoProbes, RunContext, StepCoroutine
from sparekey.runs.run_header import policy_of
from sparekey.runs.scheduler import Call, Outcome, advance, performed
from sparekey.runs.supervisor import Supervisor
from sparekey.runs.tasks import Task
from sparekey.runs.worker import RunExecutor, load_projection, load_record
from sparekey.runs.worker_leases import WorkerLeases
from support.fake_aws import CALLER, FakeAws


def one_call_at_a_time(work: StepCoroutine[None]) -> StepCoroutine[None]:
    """The same work, to be advanced with `next`: each call is made where it is asked for."""
    outcome: Outcome | None = None
    while True:
        try:
            asked = advance(work, outcome)
        except StopIteration:
            return
        outcome = performed(asked) if callable(asked) else None
        yield 0 if callable(asked) else asked


class HangsError(Exception):
    """A call does not end for so many seconds; then it is made."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class FakeProbes:
    """Probes by name: whom they speak for, how often, and what they say at a time."""

    def __init__(self, users: Mapping[str, tuple[str, ...]]) -> None:
        self.users = users
        self.every = timedelta(hours=1)
        self.result_of: Callable[[str], ProbeResult] = lambda _name: ProbeResult(healthy=True, output="fine")
        self.checks: list[str] = []

    def probes_for(self, _policy: Policy, _account: str, user: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, users in self.users.items() if user in users))

    def interval(self, _policy: Policy, _name: str) -> timedelta:
        return self.every

    def deadline(self, _policy: Policy, _name: str) -> float:
        return 15.0

    def check(self, _policy: Policy, name: str) -> ProbeResult:
        self.checks.append(name)
        return self.result_of(name)


class MovedClock(Clock, Protocol):
    """A clock that is moved by setting its time."""

    time: datetime


class Aws(Protocol):
    """Accounts, and the time that passes for them."""

    @property
    def clock(self) -> MovedClock: ...

    def gateway(self, account: str) -> KeyGateway: ...


class Schedule:
    """What happens next, in the order of its time; of equal times what was asked for first."""

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.queue: list[tuple[datetime, int, Callable[[], None]]] = []
        self.order = count()

    def at(self, due: datetime, what: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (due, next(self.order), what))

    def soon(self, what: Callable[[], None], seconds: float = 0.0) -> None:
        self.at(self.clock.now() + timedelta(seconds=seconds), what)

    def next(self) -> datetime | None:
        return self.queue[0][0] if self.queue else None

    def step(self) -> None:
        due, _, what = heapq.heappop(self.queue)
        self.clock.time = max(self.clock.time, due)
        what()


class VirtualTasks:
    """The tasks of one process. While `frozen` they stand still, and once `dead` they never go on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.left: dict[Task, int] = {}
        self.failed: dict[Task, Exception] = {}
        self.over: list[tuple[Task, Exception | None]] = []
        self.frozen: list[Callable[[], None]] | None = None
        self.dead = False
        self.held: Callable[[], None] = lambda: None  # called when a task has ended

    def start(self, name: Task, works: Iterable[StepCoroutine[None]], *, deadline: float) -> None:
        given = list(works)
        self.left[name] = len(given)
        for work in given:
            self.later(lambda work=work: self._go_on(name, work, None, deadline))  # type: ignore[misc]
        if not given:
            self._end(name)

    def later(self, what: Callable[[], None], seconds: float = 0.0) -> None:
        def go() -> None:
            if self.frozen is not None:
                self.frozen.append(what)
            elif not self.dead:
                what()

        self.schedule.soon(go, seconds)

    def thaw(self) -> None:
        waiting, self.frozen = self.frozen or [], None
        for what in waiting:
            self.later(what)

    def _go_on(self, name: Task, work: StepCoroutine[None], outcome: Outcome | None, deadline: float) -> None:
        try:
            asked = advance(work, outcome)
        except StopIteration:
            asked = None
        except Exception as error:  # noqa: BLE001  # the supervision is given it
            self.failed.setdefault(name, error)
            asked = None
        if asked is None:
            self.left[name] -= 1
            if self.left[name] == 0:
                self._end(name)
        elif callable(asked):
            self._call(name, work, asked, deadline)
        else:
            self.later(lambda: self._go_on(name, work, None, deadline), asked)

    def _call(self, name: Task, work: StepCoroutine[None], call: Call, deadline: float) -> None:
        outcome = performed(call)
        error = outcome.exception()
        wait = 0.0
        if isinstance(error, HangsError):
            wait = min(error.seconds, deadline)
            if error.seconds < deadline:
                self.later(lambda: self._call(name, work, call, deadline), wait)
                return
            outcome = Outcome()
            outcome.set_exception(UnreachableError(f"no answer within {deadline:g} s"))
        self.later(lambda: self._go_on(name, work, outcome, deadline), wait)

    def _end(self, name: Task) -> None:
        del self.left[name]
        self.over.append((name, self.failed.pop(name, None)))
        self.held()

    def busy(self, name: Task) -> bool:
        return any(task[: len(name)] == name for task in self.left)

    def ended(self) -> list[tuple[Task, Exception | None]]:
        over, self.over = self.over, []
        return over


class VirtualQueue:
    """One process: its supervision, and the queue's work beside it."""

    def __init__(
        self,
        aws: Aws,
        probes: FakeProbes | None = None,
        url: str = "sqlite://",
        caller: Caller = CALLER,
        *,
        ledger: Ledger | None = None,
        schedule: Schedule | None = None,
        clock: Clock | None = None,
        leases: WorkerLeases | None = None,
    ) -> None:
        self.caller = caller
        self.ledger = ledger or Ledger.open(url)
        self.schedule = schedule or Schedule(aws.clock)
        self.clock = aws.clock
        self.leases = leases
        self.tasks = VirtualTasks(self.schedule)
        self.context = RunContext(
            self.ledger, clock or self.clock, aws.gateway, caller, probes=probes or NoProbes()
        )
        self.start()

    def start(self) -> None:
        """Begin as a process does, with nothing in memory."""
        self.work = RunExecutor(self.context)
        self.supervisor = Supervisor(self.context, self, self.tasks, self.leases)
        self.may_be_refused = False  # to carry an account: then it is tried again, as the engine does
        self.queued: set[tuple[str, str]] = set()
        self.rounds = True
        self.tasks.held = self._schedule_round

    def _schedule_round(self) -> None:
        self.rounds = True

    # The queue

    def enqueue(self, run: str, account: str) -> None:
        self.queued.add((run, account))
        self.tasks.later(lambda: self._execute(run, account))

    def _execute(self, run: str, account: str) -> None:
        try:
            for chunk in range(self.work.chunk_count(run, account)):
                self.work.execute(run, account, chunk)
        except RefusedError as error:
            if not self.may_be_refused:
                raise
            self.work.record_failure(run, account, error)
        self.queued.discard((run, account))
        self.rounds = True

    def active(self, run: str) -> set[str]:
        return {account for found, account in self.queued if found == run}

    # The run

    def open(self, plan: Plan, options: RunOptions | None = None, policy: Policy | None = None) -> str:
        run = f"r-{plan.digest[:8]}"
        opened = RunOpened(
            encode(plan).decode(),
            plan.digest,
            self.caller,
            policy_of(policy or Policy()),
            options or RunOptions(),
            (),
        )
        self.ledger.append(run, kind_of(opened), event_body(opened), at=self.clock.now(), must_be_first=True)
        self.rounds = True
        return run

    def supervise(self, _run: str, _name: str = "") -> None:
        """Something was said of the run."""
        self.rounds = True

    def run(self, until: datetime | None = None) -> None:
        """Work until nothing is left, or nothing before `until`."""
        while True:
            due = self.supervisor.run_round()
            self.rounds = False
            while True:
                coming = self.schedule.next()
                if coming is None or self.rounds or (due is not None and due < coming):
                    break
                if until is not None and coming > until:
                    break
                self.schedule.step()
            if self.rounds:
                continue
            if due is None or (until is not None and due > until):
                break
            self.clock.time = max(self.clock.time, due)
        if until is not None:
            self.clock.time = max(self.clock.time, until)

    def record(self, run: str) -> RunRecord:
        return load_record(self.context, run)

    def states(self, run: str) -> dict[str, str]:
        return {step.key: step.state for step in self.record(run).steps}

    def kinds(self, run: str) -> list[str]:
        return [entry.kind for entry in self.ledger.entries(run)]

    def resumed(self, run: str) -> int:
        return load_projection(self.context, run).attempt


class VirtualEngine(VirtualQueue):
    """The same at the AWS in memory."""

    def __init__(self, aws: FakeAws, probes: FakeProbes | None = None, url: str = "sqlite://") -> None:
        super().__init__(aws, probes, url)
        self.aws = aws
