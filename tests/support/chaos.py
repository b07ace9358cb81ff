"""A run against the sandbox over a bad line, by seed, in virtual time; the machine's clock jumps an hour.

All but AWS is real: client, signatures, pace, gateway, role sessions, the run's work and its ledger on
SQLite. A seed that fails is played again with `Lab.play(seed)`: the same faults come in the same order.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest.mock import patch

from sparekey.audit import audit
from sparekey.aws.accounts import AccountAccess
from sparekey.aws.gateway import AccountGateway, AwsGateway
from sparekey.aws.http_pool import HttpPool
from sparekey.ledger.events import RunOptions, RunResumed, UndoRequested
from sparekey.plan import Plan
from sparekey.planner import make_plan
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs.worker import load_projection
from sparekey.sandbox import Sandbox, SandboxClock
from support.clocks import NOW
from support.fault_proxy import Fault, FaultProxy, Kind
from support.invariants import assert_invariants
from support.scripted_aws import session
from support.virtual_engine import FakeProbes, VirtualQueue

OWN, MEMBER = "999988887777", "111122223333"
# A migrated app and a user with three keys in an account that is entered by a role, an idle pair in our own.
COMPANY = f"""
[[account]]
id = "{OWN}"
user = [{{ name = "idle", key = [{{ id = "AKIAIDLE1", age = "80d" }}, {{ id = "AKIAIDLE2", age = "60d" }}] }}]

[[account]]
id = "{MEMBER}"
role = [{{ name = "sparekey" }}]

[[account.user]]
name = "api"
key = [
    {{ id = "AKIAAPIOLD", age = "400d", used = {{ ago = "80d" }} }},
    {{ id = "AKIAAPINEW", age = "30d", used = {{ ago = "1d" }} }},
]

[[account.user]]
name = "batch"
key = [
    {{ id = "AKIABATCH1", age = "300d" }},
    {{ id = "AKIABATCH2", age = "200d", used = {{ ago = "100d" }} }},
    {{ id = "AKIABATCH3", age = "20d", used = {{ ago = "2d" }} }},
]
"""
USERS = ((OWN, "idle"), (MEMBER, "api"), (MEMBER, "batch"))
HOUR = 3600.0
WATCH = timedelta(days=2)
KINDS: tuple[Kind, ...] = (
    *("throttled", "busy", "failed after", "gateway", "cut before", "cut after", "cut within", "late"),
)
_ATTEMPTS = 40
Keys = dict[str, str]


class MachineClock:
    """What sparekey's machine takes for the time: the world's, or an hour off."""

    def __init__(self, world: SandboxClock) -> None:
        self.world, self.off = world, 0.0

    def now(self) -> datetime:
        return self.world.now() + timedelta(seconds=self.off)

    def sleep(self, seconds: float) -> None:
        self.world.advance(max(seconds, 1e-6))  # of less than this a datetime knows nothing

    @property
    def time(self) -> datetime:
        return self.now()

    @time.setter
    def time(self, moment: datetime) -> None:
        self.world.advance(moment - self.now())


class FaultSchedule:
    """What the line and the people do, by seed; it tires, so that every run ends."""

    def __init__(self, seed: int, clock: MachineClock) -> None:
        self.random, self.clock = random.Random(seed), clock
        self.badness = self.random.uniform(0.05, 0.4)
        self.lag = self.random.uniform(0, 10)
        self.flapping = self.random.random() < 0.7
        # The application notices that its key is gone, in one seed of three, and only after a while.
        self.red_after = self.random.uniform(1, 40) * HOUR if self.random.random() < 0.33 else None
        # One run in four is undone by somebody else, in the middle of whatever request it is at.
        self.undo_at = self.random.randint(3, 60) if self.random.random() < 0.25 else 0
        self.undo: Callable[[], None] = lambda: None
        self._dark_until = NOW
        self._flaked = False

    def next_fault(self, _action: str) -> Fault:
        chance = self.random
        self._perhaps_undo()
        if chance.random() < 0.01:
            self._jump()
        if chance.random() < self.badness / 50:
            self._dark_until = self.clock.world.now() + timedelta(seconds=chance.uniform(10, 600))
        if self.clock.world.now() < self._dark_until:
            return Fault("cut before")
        slow = chance.random() < self.badness
        there, back = (chance.uniform(0, 3), chance.uniform(0, 3)) if slow else (0.0, 0.0)
        kind: Kind = chance.choice(KINDS) if chance.random() < self.badness else "fine"
        stale = chance.choice([0, 0, chance.uniform(0, 10)]) if self.flapping else self.lag
        return Fault(kind, there, back, stale)

    def _perhaps_undo(self) -> None:
        self.undo_at -= 1
        if self.undo_at == 0:
            self.undo()

    def _jump(self) -> None:
        if self.random.random() < 0.5:
            self.clock.world.advance(HOUR)  # the machine was asleep
        else:
            self.clock.off = self.random.choice((-HOUR, HOUR)) if not self.clock.off else 0.0

    def probe_flakes(self) -> bool:
        """A probe may fail for no reason, but not when it is asked a second time."""
        self._flaked = not self._flaked and self.random.random() < 0.02
        return self._flaked


class NoFaults(FaultSchedule):
    """No weather at all: how a run goes that is left alone."""

    def __init__(self, clock: MachineClock, red_after: float | None = None, undo_at: int = 0) -> None:
        super().__init__(0, clock)
        self.red_after, self.undo_at = red_after, undo_at

    def next_fault(self, _action: str) -> Fault:
        self._perhaps_undo()
        return Fault()

    def probe_flakes(self) -> bool:
        return False


@dataclass(frozen=True)
class RunResult:
    """How a seed ended: the run's state, the status of every key, the state of every step; and the faults."""

    run: str
    keys: Keys
    states: dict[str, str]
    faults: tuple[tuple[str, Fault], ...]
    virtual: timedelta


class ChaosLab:
    """A sandbox, the line to it and our client, for one seed after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sandbox = Sandbox(COMPANY, clock=SandboxClock(NOW))
        self.clock = MachineClock(self.sandbox.clock)
        self.wire = HttpPool()

    def __enter__(self) -> Self:
        self.sandbox.start()
        self.line = FaultProxy(self.sandbox)
        made = session()
        made.set_credentials(self.sandbox.operator.id, self.sandbox.operator.secret)
        self.gateway = AwsGateway.connect(
            session=made, region="us-east-1", clock=self.clock, send=self.wire.send
        )
        with patch.dict(os.environ, {"AWS_ENDPOINT_URL": self.line.url}):
            self.caller = self.gateway.caller()
            self.gateway.client.service("iam")
        self.plan = self._plan()
        self.alone = {
            "green": self._finish_undisturbed("unwatched", NoFaults(self.clock)),
            "red": self._finish_undisturbed("rolled_back", NoFaults(self.clock, red_after=HOUR)),
            "undone": self._finish_undisturbed("undone", NoFaults(self.clock, undo_at=40)),
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.close()
        self.line.close()
        self.sandbox.stop()

    def accounts(self) -> dict[str, AccountGateway]:
        """The two accounts, the member not entered yet."""
        member = self.gateway.enter(AccountAccess(role="sparekey").target("aws", MEMBER))
        return {OWN: self.gateway.own_account(), MEMBER: member}

    def _plan(self) -> Plan:
        accounts = tuple(self.accounts().values())
        snapshot = audit(accounts, self.clock, caller=self.caller, workers=1)
        return make_plan(snapshot, Policy(), self.clock.now())

    def _finish_undisturbed(self, end: str, calm: "NoFaults") -> RunResult:
        played = self._run(f"alone, {end}", calm)
        assert played.run == end, played.states
        return played

    def play(self, seed: int) -> RunResult:
        """Play one seed to its end and hold it against a run left alone; raises AssertionError."""
        weather = FaultSchedule(seed, self.clock)
        played = self._run(str(seed), weather)
        alone = self.alone["undone" if played.run == "undone" else "red" if weather.red_after else "green"]
        assert played.keys == alone.keys, f"seed {seed}: {played.states}"
        assert played.run == "undone" or played.states == alone.states, f"seed {seed}: {played.states}"
        return played

    def _run(self, name: str, weather: FaultSchedule) -> RunResult:
        self._restart(weather)
        aws = Accounts(self.clock, self.accounts())
        probes = FakeProbes({"api works": ("api",)})
        probes.every = timedelta(hours=6)
        probes.result_of = self._probe_result
        file = self.directory / f"{name}.db"
        engine = VirtualQueue(aws, probes, f"sqlite:///{file}", self.caller)
        with _chances(name):
            run = engine.open(self.plan, RunOptions(watch=WATCH.total_seconds()))
            weather.undo = lambda: self._undo(engine, run)
            self._to_the_end(engine, run, weather)
        self.line.decide = lambda _action: Fault()
        assert_invariants(engine.ledger, [run], self._writes())
        played = RunResult(
            engine.record(run).state,
            self._statuses(),
            engine.states(run),
            tuple(self.line.log),
            self.sandbox.clock.now() - NOW,
        )
        engine.ledger.close()
        file.unlink()
        return played

    def _restart(self, weather: FaultSchedule) -> None:
        self.schedule = weather
        self.sandbox.restart(COMPANY, clock=SandboxClock(NOW))
        self.clock.world, self.clock.off = self.sandbox.clock, 0.0
        for account in ("", OWN, MEMBER):
            self.gateway.client.forget(account)
        for aws in self.accounts().values():
            aws.close()  # this sandbox does not know the sessions of the one before
        self.line.decide, self.line.acted = weather.next_fault, self._check_users
        self.line.log.clear()
        self.line.broken.clear()

    def _to_the_end(self, engine: VirtualQueue, run: str, weather: FaultSchedule) -> None:
        for _ in range(_ATTEMPTS):
            engine.run()
            assert not self.line.broken, self.line.broken
            self._check_rollback(engine, run)
            if engine.record(run).state in ("unwatched", "rolled_back", "undone"):
                return
            weather.badness *= 0.8
            if load_projection(engine.context, run).undoing:
                self._undo(engine, run)
            else:
                engine.context.record(run, RunResumed("somebody"))
                engine.supervise(run, f"again {engine.resumed(run)}")
        raise AssertionError(f"no end: {engine.states(run)}")

    @staticmethod
    def _undo(engine: VirtualQueue, run: str) -> None:
        engine.context.record(run, UndoRequested("somebody else"))
        engine.supervise(run, f"undo {engine.record(run).entries}")

    def _check_rollback(self, engine: VirtualQueue, run: str) -> None:
        """What comes back by itself needs nobody: no reactivation is left for whoever resumes the run."""
        fold = load_projection(engine.context, run)
        if fold.undoing:
            return
        facts = fold.facts[MEMBER, "api", "AKIAAPIOLD"]
        assert facts.pending_reactivation is None, f"a rollback was left unfinished: {facts.why}"
        if facts.watch is not None:
            assert not self._stands_still(), f"the key is not back although the probe is red: {facts.why}"

    def _stands_still(self) -> bool:
        """Whether the application misses its old key."""
        red = self.schedule.red_after
        late = red is not None and self.sandbox.clock.now() >= NOW + timedelta(seconds=red)
        return late and self.sandbox.state.keys["AKIAAPIOLD"].status == "Inactive"

    def _probe_result(self, _name: str) -> ProbeResult:
        if self._stands_still() or self.schedule.probe_flakes():
            return ProbeResult(healthy=False, output="no answer")
        return ProbeResult(healthy=True, output="fine")

    def _check_users(self) -> None:
        """No user is ever without an active key."""
        for account, name in USERS:
            keys = self.sandbox.state.user(account, name).keys
            assert any(key.status == "Active" for key in keys), f"{name} has no active key"

    def _statuses(self) -> Keys:
        return {
            key.id: key.status
            for account, name in USERS
            for key in self.sandbox.state.user(account, name).keys
        }

    def _writes(self) -> list[tuple[str, str, str]]:
        """The writes that the sandbox carried out, by its own record."""
        return [
            (call.params["UserName"], call.params["AccessKeyId"], call.params["Status"])
            for call in self.sandbox.state.calls
            if call.action == "iam:UpdateAccessKey" and not call.error
        ]


@dataclass(frozen=True)
class Accounts:
    """What the virtual engine works at: accounts by id."""

    clock: MachineClock
    by_id: dict[str, AccountGateway]

    def gateway(self, account: str) -> AccountGateway:
        return self.by_id[account]


@contextmanager
def _chances(seed: str) -> Iterator[None]:
    """The client's own dice, thrown alike each time."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
