"""The engine in virtual time: the same supervision as in a process, its tasks interleaved in a single thread."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol

from sparekey.aws.errors import UnreachableError
from sparekey.clock import Clock
from sparekey.errors import RefusedError
from sparekey.ledger.events import Opened, Options, kind_of, write
from sparekey.ledger.store import Ledger
from sparekey.model import Caller, RunRecord
from sparekey.plan import Plan, encode
from sparekey.policy import Policy
from sparekey.probes import Reading
from sparekey.runs.context import Gateway, Hands, NoProbes, Work
from sparekey.runs.projection import as_policy
from sparekey.runs.scheduler import Call, Outcome, made, resume
from sparekey.runs.supervisor import Supervisor
from sparekey.runs.tasks import Task
from sparekey.runs.worker import RunWork, load_fold, load_record
from sparekey.runs.worker_leases import Leases
from support.fake_aws import CALLER, FakeAws


def stepped(work: Work[None]) -> Work[None]:
    """The same work, to be advanced with `next`: each call is made where it is asked for."""
    outcome: Outcome | None = None
    while True:
        try:
            asked = resume(work, outcome)
        except StopIteration:
            return
        outcome = made(asked) if callable(asked) else None
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
        self.says: Callable[[str], Reading] = lambda _name: Reading(green=True, output="fine")
        self.asked: list[str] = []

    def speaking_for(self, _policy: Policy, _account: str, user: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, users in self.users.items() if user in users))

    def cadence(self, _policy: Policy, _name: str) -> timedelta:
        return self.every

    def deadline(self, _policy: Policy, _name: str) -> float:
        return 15.0

    def ask(self, _policy: Policy, name: str) -> Reading:
        self.asked.append(name)
        return self.says(name)


class MovedClock(Clock, Protocol):
    """A clock that is moved by setting its time."""

    time: datetime


class Aws(Protocol):
    """Accounts, and the time that passes for them."""

    @property
    def clock(self) -> MovedClock: ...

    def gateway(self, account: str) -> Gateway: ...


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

    def start(self, name: Task, works: Iterable[Work[None]], *, deadline: float) -> None:
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

    def _go_on(self, name: Task, work: Work[None], outcome: Outcome | None, deadline: float) -> None:
        try:
            asked = resume(work, outcome)
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

    def _call(self, name: Task, work: Work[None], call: Call, deadline: float) -> None:
        outcome = made(call)
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


class QueueEngine:
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
        leases: Leases | None = None,
    ) -> None:
        self.caller = caller
        self.ledger = ledger or Ledger.open(url)
        self.schedule = schedule or Schedule(aws.clock)
        self.clock = aws.clock
        self.leases = leases
        self.tasks = VirtualTasks(self.schedule)
        self.hands = Hands(self.ledger, clock or self.clock, aws.gateway, caller, probes=probes or NoProbes())
        self.start()

    def start(self) -> None:
        """Begin as a process does, with nothing in memory."""
        self.work = RunWork(self.hands)
        self.supervisor = Supervisor(self.hands, self, self.tasks, self.leases)
        self.may_be_refused = False  # to carry an account: then it is tried again, as the engine does
        self.queued: set[tuple[str, str]] = set()
        self.looks = True
        self.tasks.held = self._look_again

    def _look_again(self) -> None:
        self.looks = True

    # The queue

    def enqueue(self, run: str, account: str) -> None:
        self.queued.add((run, account))
        self.tasks.later(lambda: self._carry(run, account))

    def _carry(self, run: str, account: str) -> None:
        try:
            for chunk in range(self.work.chunks(run, account)):
                self.work.carry(run, account, chunk)
        except RefusedError as error:
            if not self.may_be_refused:
                raise
            self.work.stumbled(run, account, error)
        self.queued.discard((run, account))
        self.looks = True

    def active(self, run: str) -> set[str]:
        return {account for found, account in self.queued if found == run}

    # The run

    def open(self, plan: Plan, options: Options | None = None, policy: Policy | None = None) -> str:
        run = f"r-{plan.digest[:8]}"
        opened = Opened(
            encode(plan).decode(),
            plan.digest,
            self.caller,
            as_policy(policy or Policy()),
            options or Options(),
            (),
        )
        self.ledger.append(run, kind_of(opened), write(opened), at=self.clock.now(), first=True)
        self.looks = True
        return run

    def look_after(self, _run: str, _name: str = "") -> None:
        """Something was said of the run."""
        self.looks = True

    def run(self, until: datetime | None = None) -> None:
        """Work until nothing is left, or nothing before `until`."""
        while True:
            due = self.supervisor.look()
            self.looks = False
            while True:
                coming = self.schedule.next()
                if coming is None or self.looks or (due is not None and due < coming):
                    break
                if until is not None and coming > until:
                    break
                self.schedule.step()
            if self.looks:
                continue
            if due is None or (until is not None and due > until):
                break
            self.clock.time = max(self.clock.time, due)
        if until is not None:
            self.clock.time = max(self.clock.time, until)

    def record(self, run: str) -> RunRecord:
        return load_record(self.hands, run)

    def states(self, run: str) -> dict[str, str]:
        return {step.key: step.state for step in self.record(run).steps}

    def kinds(self, run: str) -> list[str]:
        return [entry.kind for entry in self.ledger.entries(run)]

    def resumed(self, run: str) -> int:
        return load_fold(self.hands, run).attempt


class VirtualEngine(QueueEngine):
    """The same at the AWS in memory."""

    def __init__(self, aws: FakeAws, probes: FakeProbes | None = None, url: str = "sqlite://") -> None:
        super().__init__(aws, probes, url)
        self.aws = aws
