"""The engine in virtual time: the same work as under DBOS, one piece after another, in a single thread."""

import heapq
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol

from run.fake import CALLER, FakeAws
from sparekey.clock import Clock
from sparekey.errors import RefusedError
from sparekey.ledger import Ledger
from sparekey.model import Caller, RunRecord
from sparekey.plan import Plan, encode
from sparekey.policy import Policy
from sparekey.probes import Reading
from sparekey.run.drive import Outcome, made, resume
from sparekey.run.entries import Opened, Options, kind_of, write
from sparekey.run.record import as_policy
from sparekey.run.turn import Gateway, Hands, NoProbes, Work
from sparekey.run.work import RunWork, load_fold, load_record


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


class QueueEngine:
    """Queues of work in the order of their time; the same name again is the same piece of work."""

    def __init__(
        self, aws: Aws, probes: FakeProbes | None = None, url: str = "sqlite://", caller: Caller = CALLER
    ) -> None:
        self.clock, self.caller = aws.clock, caller
        self.ledger = Ledger.open(url)
        self.hands = Hands(self.ledger, self.clock, aws.gateway, caller, probes=probes or NoProbes())
        self.work = RunWork(self.hands, self)
        self.may_be_refused = False  # to carry an account: then it is looked after, as the engine does
        self.names: set[str] = set()
        self.queue: list[tuple[datetime, int, str, tuple[str, ...]]] = []
        self.order = count()

    def _put(self, due: datetime, name: str, kind: str, *args: str) -> None:
        if name not in self.names:
            self.names.add(name)
            heapq.heappush(self.queue, (due, next(self.order), kind, args))

    def hand_out(self, run: str, account: str, name: str) -> None:
        self._put(self.clock.now(), f"{run}/{name}/{account}", "account", run, account, name)

    def look_after(self, run: str, name: str) -> None:
        self._put(self.clock.now(), f"{run}/{name}", "tick", run)

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
        self.look_after(run, "begin")
        return run

    def run(self, until: datetime | None = None) -> None:
        """Work until nothing is left, or nothing before `until`."""
        while self.queue and (until is None or self.queue[0][0] <= until):
            due, _, kind, args = heapq.heappop(self.queue)
            self.clock.time = max(self.clock.time, due)
            if kind == "tick":
                again = self.work.supervise(args[0])
                if again is not None:
                    self._put(again, f"{args[0]}/at/{again.isoformat()}", "tick", args[0])
            else:
                try:
                    for chunk in range(self.work.chunks(args[0], args[1])):
                        self.work.carry(args[0], args[1], chunk)
                except RefusedError as error:
                    if not self.may_be_refused:
                        raise
                    self.work.stumbled(args[0], args[1], error)
                self.look_after(args[0], f"after/{args[2]}/{args[1]}")
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
