"""Two workers that watch one run in virtual time, and all that can happen to them, drawn by seed.

What is promised: no key of ours stays off beside an unhealthy probe for longer than the probe's interval and a
minute, as long as AWS answers for its account and one worker has its database; and where AWS does not, it is on
record. `Watching.play` measures it.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sparekey.aws.errors import DeniedError
from sparekey.ledger.database import StateError, connect
from sparekey.ledger.events import RunOptions
from sparekey.ledger.records import FencedError
from sparekey.ledger.store import Ledger
from sparekey.model import AccessKey
from sparekey.probes import ProbeResult
from sparekey.runs.worker_leases import TTL, WorkerLeases
from support.clocks import NOW, VirtualClock
from support.fake_aws import FakeAws, FakeGateway, key, plan_for, used
from support.virtual_engine import FakeProbes, HangsError, Schedule, VirtualQueue

ACCOUNTS = ("111122223333", "444455556666", "777788889999")
INTERVAL = timedelta(seconds=30)
ALLOWED = INTERVAL.total_seconds() + 60
# What may happen, and for how many seconds.
FAULTS: dict[str, tuple[float, float]] = {
    "frozen": (5, 120),
    "killed": (1, 60),
    "database away": (1, 40),
    "clock ahead": (5, 300),
    "clock behind": (5, 300),
    "ticks early and twice": (10, 120),
    "ticks late": (10, 120),
    "ticks lost": (5, 20),
    "account hangs": (10, 240),
    "account refuses": (10, 240),
    "probe hangs": (10, 120),
    "application breaks": (0, 0),
}


class WorkerClock:
    """A worker's clock: the world's, set wrong now and then."""

    def __init__(self, world: VirtualClock) -> None:
        self.world, self.off = world, 0.0

    def now(self) -> datetime:
        return self.world.now() + timedelta(seconds=self.off)

    def sleep(self, seconds: float) -> None:
        self.world.sleep(seconds)


class LosableLedger(Ledger):
    """A ledger whose database may be away for one worker."""

    away = False

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        self._check()
        with super().writing() as connection:
            yield connection

    def reading(self) -> AbstractContextManager[sa.Connection]:
        self._check()
        return super().reading()

    def _check(self) -> None:
        if self.away:
            raise StateError("the database is away")


@dataclass
class Gateway(FakeGateway):
    """A gateway of the world, whose account may hang or refuse."""

    world: "WatchSimulation" = field(kw_only=True)

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        self.world.inject(self.account, "list")
        return super().list_keys(user)

    def set_status(self, user: str, key_id: str, status: str) -> str:
        self.world.inject(self.account, "set")
        return super().set_status(user, key_id, status)


class SimulatedWorker:
    """One process: it looks each second, beats while it lives, and may be frozen, killed or lose its database."""

    def __init__(self, world: "WatchSimulation", url: str) -> None:
        self.world = world
        self.ledger = (
            LosableLedger(connect(url)) if url != "sqlite://" else LosableLedger(world.ledger.engine)
        )
        self.clock = WorkerClock(world.clock)
        self.tick: Callable[[], float] = lambda: 1.0
        self.frozen = False
        self.life = 0
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.life += 1
        self.leases = WorkerLeases(self.ledger, now=lambda: self.world.clock.now().timestamp())
        self.process = VirtualQueue(
            self.world,
            self.world.probes,
            ledger=self.ledger,
            schedule=self.world.schedule,
            clock=self.clock,
            leases=self.leases,
        )
        self._renew(self.life)
        self._run_round(self.life)

    @property
    def alive(self) -> bool:
        return not (self.frozen or self.ledger.away or self.process.tasks.dead)

    def kill(self) -> None:
        self.life += 1
        self.process.tasks.dead = True

    def freeze(self) -> None:
        self.frozen, self.process.tasks.frozen = True, []

    def thaw(self) -> None:
        self.frozen = False
        if not self.process.tasks.dead:
            self.process.tasks.thaw()

    def _renew(self, life: int) -> None:
        if life != self.life:
            return
        if self.alive:
            self.leases.renew()
        self.world.schedule.soon(lambda: self._renew(life), TTL / 4)

    def _run_round(self, life: int) -> None:
        if life != self.life:
            return
        if self.alive:
            self.run_round()
        self.world.schedule.soon(lambda: self._run_round(life), self.tick())

    def run_round(self) -> None:
        try:
            self.process.supervisor.run_round()
        except (StateError, FencedError):
            return


class WatchSimulation:
    """The world: accounts with one user each, one run over all of them, two workers."""

    def __init__(self, seed: int, url: str = "sqlite://") -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.schedule = Schedule(self.clock)
        self.aws = FakeAws(self.clock)
        for account in ACCOUNTS:
            old = key(f"AKIAOLD{account[:4]}", 400, used(80))
            self.aws.add(f"app{account[:4]}", old, key(f"AKIANEW{account[:4]}", 30, used(1)), account=account)
        self.probes = FakeProbes({f"probe{account[:4]}": (f"app{account[:4]}",) for account in ACCOUNTS})
        self.probes.every = INTERVAL
        self.probes.result_of = self._says
        # What is wrong, by account, and until when.
        self.hanging: dict[str, datetime] = {}
        self.refusing: dict[str, datetime] = {}
        self.silent: dict[str, datetime] = {}
        self.broken: set[str] = set()
        self.ledger = Ledger.open(url)
        self.workers = [SimulatedWorker(self, url) for _ in range(2)]
        self.run = self.workers[0].process.open(plan_for(self.aws), RunOptions(watch=30 * 86400.0))
        self.faults: list[str] = []
        self.worst = 0.0
        self.late: dict[str, float] = {}

    def gateway(self, account: str) -> Gateway:
        return Gateway(self.aws, account, world=self)

    # What is wrong

    def inject(self, account: str, call: str) -> None:
        now = self.clock.now()
        if self.hanging.get(account, now) > now:
            raise HangsError((self.hanging[account] - now).total_seconds())
        if call == "set" and self.refusing.get(account, now) > now:
            raise DeniedError("access denied", code="AccessDenied")

    def _says(self, name: str) -> ProbeResult:
        account = next(found for found in ACCOUNTS if name.endswith(found[:4]))
        now = self.clock.now()
        if self.silent.get(account, now) > now:
            raise HangsError((self.silent[account] - now).total_seconds())
        return ProbeResult(not self._misses(account), "HTTP 500" if self._misses(account) else "fine")

    def _misses(self, account: str) -> bool:
        return account in self.broken and self._off(account)

    def _off(self, account: str) -> bool:
        return self.aws.status(f"app{account[:4]}", f"AKIAOLD{account[:4]}", account) == "Inactive"

    def start_fault(self, kind: str, seconds: float) -> None:
        """Let something happen; after so many seconds it is over."""
        worker = self.random.choice(self.workers)
        account = self.random.choice(ACCOUNTS)
        end = self.clock.now() + timedelta(seconds=seconds)
        self.faults.append(kind)

        def later(what: Callable[[], Any]) -> None:
            self.schedule.at(end, lambda: what() and None)

        match kind:
            case "frozen" if worker.alive:
                worker.freeze()
                later(worker.thaw)
            case "killed" if worker.alive:
                worker.kill()
                later(lambda: worker.start() if worker.process.tasks.dead else None)
            case "database away":
                worker.ledger.away = True
                later(lambda: setattr(worker.ledger, "away", False))
            case "clock ahead" | "clock behind":
                sign = 1 if kind == "clock ahead" else -1
                worker.clock.off = sign * self.random.choice((1.5, 90.0, 3600.0, 86400.0))
                later(lambda: setattr(worker.clock, "off", 0.0))
            case "ticks early and twice" | "ticks late" | "ticks lost":
                waits = {"ticks late": (1.0, 6.0), "ticks lost": (5.0, 15.0)}.get(kind, (0.0005, 0.3))
                worker.tick = lambda: self.random.uniform(*waits)
                later(lambda: setattr(worker, "tick", lambda: 1.0))
            case "account hangs":
                self.hanging[account] = end
            case "account refuses":
                self.refusing[account] = end
            case "probe hangs":
                self.silent[account] = end
            case "application breaks":
                self.broken.add(account)

    # What is promised

    def _measure(self) -> None:
        now = self.clock.now()
        watched = any(worker.alive for worker in self.workers)
        for account in ACCOUNTS:
            wrong = (self.hanging, self.refusing, self.silent)
            counts = watched and all(found.get(account, now) <= now for found in wrong)
            self.late[account] = (
                self.late.get(account, 0.0) + 1.0 if counts and self._misses(account) else 0.0
            )
            self.worst = max(self.worst, self.late[account])
            assert self.late[account] <= ALLOWED, (
                f"{account}: its key is off for {self.late[account]} s: {self.faults}"
            )
            self._check_reported(account)
        self.schedule.soon(self._measure, 1.0)

    def _check_reported(self, account: str) -> None:
        """A rollback that AWS refuses is on record, and shown, as soon as it has been refused for a minute."""
        since = self.unreported.get(account)
        stuck = self._misses(account) and self.refusing.get(account, NOW) > self.clock.now()
        stuck = (
            stuck and self.silent.get(account, NOW) <= self.clock.now() and all(w.alive for w in self.workers)
        )
        if not stuck or self.hanging.get(account, NOW) > self.clock.now():
            self.unreported.pop(account, None)
        elif since is None:
            self.unreported[account] = self.clock.now()
        elif self.clock.now() - since > timedelta(seconds=ALLOWED):
            result = self.ledger.entries(
                self.run, account=account, user=f"app{account[:4]}", kinds=("failed",)
            )
            assert result, f"{account}: nobody is told that its key cannot be brought back"
            assert not result[-1].body["final"]

    def play(self, seconds: float, faults: int) -> float:
        """Play so many faults over this time; the worst delay in seconds. Raises AssertionError."""
        self.unreported: dict[str, datetime] = {}
        self._until(NOW + timedelta(seconds=30))
        assert all(self._off(account) for account in ACCOUNTS)
        self.schedule.soon(self._measure)
        begin, end = self.clock.now(), self.clock.now() + timedelta(seconds=seconds)
        breaks = self.random.sample(range(faults), min(len(ACCOUNTS), faults))
        for number in range(faults):
            kind = "application breaks" if number in breaks else self.random.choice(list(FAULTS)[:-1])
            length = self.random.uniform(*FAULTS[kind])
            at = begin + timedelta(seconds=self.random.uniform(0, seconds * 0.9))
            self.schedule.at(at, lambda kind=kind, length=length: self.start_fault(kind, length))  # type: ignore[misc]
        self._until(end)
        for worker in self.workers:
            worker.kill()
            if worker.ledger.engine is not self.ledger.engine:
                worker.ledger.close()
        return self.worst

    def _until(self, end: datetime) -> None:
        while (due := self.schedule.next()) is not None and due <= end:
            self.schedule.step()
