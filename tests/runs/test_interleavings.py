"""No schedule of apply, undo, foreign changes, stale reads, faults and crashes leaves a user keyless."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sparekey.aws.errors import AwsError, FailedServiceError, ThrottledError, UnreachableError
from sparekey.ledger.events import (
    RunOpened,
    RunOptions,
    RunResumed,
    RunStopped,
    UndoRequested,
    event_body,
    kind_of,
)
from sparekey.ledger.store import Ledger
from sparekey.plan import encode
from sparekey.policy import Policy
from sparekey.runs.context import RunContext, StepCoroutine
from sparekey.runs.deactivate import execute_user
from sparekey.runs.projection import RunProjection, project_keys
from sparekey.runs.reactivate import reactivate
from sparekey.runs.run_header import RunHeader, open_run, policy_of
from support.clocks import VirtualClock
from support.fake_aws import CALLER, FakeAws, key, plan_for, used
from support.invariants import reasons
from support.virtual_engine import one_call_at_a_time

USERS = ("api", "batch", "idle")
KEYS = {
    "api": ("AKIAAPIOLD", "AKIAAPINEW"),
    "batch": ("AKIABATCH1", "AKIABATCH2", "AKIABATCH3"),
    "idle": ("AKIAIDLE1", "AKIAIDLE2"),
}
user_and_key = st.sampled_from([(user, name) for user in USERS for name in KEYS[user]])
fault = st.sampled_from(
    [
        ("before", UnreachableError("cut off")),
        ("after", UnreachableError("cut off")),
        ("before", ThrottledError("too many requests", code="Throttling")),
        ("after", FailedServiceError("HTTP 500", code="ServiceFailure")),
        ("before", FailedServiceError("HTTP 503", code="ServiceUnavailable")),
    ]
)


class CrashError(BaseException):
    """The process is gone."""


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.aws = FakeAws(self.clock)
        self.aws.add("api", key("AKIAAPIOLD", 80, used(60)), key("AKIAAPINEW", 30, used(1)))
        middle = key("AKIABATCH2", 70, used(50))
        self.aws.add("batch", key("AKIABATCH1", 75), middle, key("AKIABATCH3", 20, used(2)))
        self.aws.add("idle", key("AKIAIDLE1", 80), key("AKIAIDLE2", 60))
        self.stale = timedelta(0)
        self.aws.stale = lambda: self.stale
        self.aws.before, self.aws.after = self._before, self._after
        self.faults: list[tuple[str, BaseException]] = []
        self.ledger = Ledger.open("sqlite://")
        self.hands = RunContext(self.ledger, self.clock, self.aws.gateway, CALLER)
        self.runs: dict[str, RunHeader] = {}
        self.works: list[tuple[datetime, StepCoroutine[None]]] = []
        self.foreign: set[str] = set()
        self.names = {user: user for user in USERS}

    # The edge: what a call may meet.
    def _before(self, call: str) -> None:
        self._strike(call, "before")

    def _after(self, call: str) -> None:
        self._strike(call, "after")

    def _strike(self, call: str, when: str) -> None:
        if call == "set_status" and self.faults and self.faults[0][0] == when:
            raise self.faults.pop(0)[1]

    # What people and the world do.
    @rule()
    def plan_and_apply(self) -> None:
        plan = plan_for(self.aws)
        name = f"r-{plan.digest[:8]}"
        if len(self.runs) >= 3 or name in self.runs or not plan.deactivations:
            return
        opened = RunOpened(
            encode(plan).decode(), plan.digest, CALLER, policy_of(Policy()), RunOptions(), ()
        )  # fmt: skip
        entry = self.ledger.append(name, kind_of(opened), event_body(opened), at=self.clock.now())
        self.runs[name] = open_run(entry)
        self._carry(self.runs[name])

    def _carry(self, run: RunHeader) -> None:
        for user, steps in run.users().items():
            self.works.append(
                (self.clock.now(), one_call_at_a_time(execute_user(self.hands, run, user, steps)))
            )

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def apply_again(self, data: st.DataObject) -> None:
        run = self.runs[data.draw(st.sampled_from(sorted(self.runs)))]
        if self._fold(run).record().state not in ("settled", "undone", "unwatched", "rolled_back"):
            self.hands.record(run.id, RunResumed("somebody"))
            self._carry(run)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        self.hands.record(data.draw(st.sampled_from(sorted(self.runs))), RunStopped("somebody", "asked"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), whole=st.booleans())
    def undo(self, data: st.DataObject, whole: bool) -> None:
        run = self.runs[data.draw(st.sampled_from(sorted(self.runs)))]
        if whole:
            self.hands.record(run.id, UndoRequested("somebody"))
        for step in run.plan.deactivations:
            if whole or data.draw(st.booleans()):
                user = (step.account, step.user)
                work = one_call_at_a_time(reactivate(self.hands, run, user, step.key, "undo", "asked"))
                self.works.append((self.clock.now(), work))

    @precondition(lambda self: self.works)
    @rule(data=st.data(), steps=st.integers(1, 12))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        index = data.draw(st.integers(0, len(self.works) - 1))
        for _ in range(steps):
            if index < len(self.works) and not self._advance(index):
                return

    def _advance(self, index: int) -> bool:
        due, work = self.works.pop(index)
        self.clock.time = max(self.clock.time, due)
        try:
            wait = next(work)
        except (StopIteration, CrashError):
            return False
        assert not callable(wait)
        self.works.insert(index, (self.clock.now() + timedelta(seconds=wait), work))
        return True

    @precondition(lambda self: self.works)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        _, work = self.works.pop(data.draw(st.integers(0, len(self.works) - 1)))
        work.close()

    @rule(when=st.sampled_from(["before", "after"]))
    def crash_at_the_next_write(self, when: Literal["before", "after"]) -> None:
        self.faults.append((when, CrashError()))

    @rule(what=fault)
    def fail_the_next_write(self, what: tuple[str, AwsError]) -> None:
        self.faults.append(what)

    @rule(which=user_and_key, status=st.sampled_from(["Active", "Inactive"]))
    def somebody_else(self, which: tuple[str, str], status: str) -> None:
        self.foreign.add(which[0])
        self.aws.set(self.names[which[0]], which[1], status)

    @rule(user=st.sampled_from(USERS), to=st.sampled_from(["other", *USERS]))
    def somebody_renames(self, user: str, to: str) -> None:
        """To a name that is free, or to another user's, who then has this one's."""
        pairs = [(self.names[user], to)]
        pairs += [(to, self.names[user])] if to in self.names.values() else []
        if pairs[0][0] != to:
            self.aws.rename(*pairs)
            new = dict(pairs)
            self.names = {who: new.get(name, name) for who, name in self.names.items()}

    @rule(seconds=st.sampled_from([0, 1, 5, 10]))
    def reads_lag(self, seconds: int) -> None:
        self.stale = timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([1, 15, 700]))
    def time_passes(self, seconds: int) -> None:
        self.clock.sleep(seconds)

    # What must hold.
    @invariant()
    def nobody_without_a_key_by_our_doing(self) -> None:
        for user in USERS:
            if user not in self.foreign:
                statuses = self.aws.statuses(self.names[user])
                assert "Active" in statuses.values(), f"{user} has no active key"

    @invariant()
    def no_key_is_written_twice_without_a_reason(self) -> None:
        intents: Counter[tuple[str, str]] = Counter()
        for name in self.runs:
            reasons(self.ledger, name, intents)
        for (_, name, status), count in Counter(self.aws.writes).items():
            assert count <= intents[name, status]

    def _fold(self, run: RunHeader) -> RunProjection:
        return RunProjection(self.ledger.entries(run.id))

    def teardown(self) -> None:
        """Whatever happened: once everything was resumed, all is resolved and repaired."""
        self.faults.clear()
        self.stale = timedelta(0)
        self.clock.sleep(60)
        self._finish()
        for run in self.runs.values():
            self._carry(run)
        self._finish()
        for run in self.runs.values():
            facts = project_keys(self.ledger.entries(run.id))
            for (_, _, name), known in facts.items():
                assert known.intent is None, f"the intent for {name} is unresolved: {known}"
                assert known.state != "gone", "nobody deleted a key"
                user = next(user for user in USERS if name in KEYS[user])
                statuses = self.aws.statuses(self.names[user])
                active = [found for found, status in statuses.items() if status == "Active"]
                received = known.state, statuses
                if not active:
                    # Only where what is inactive is not ours, or we looked before the last foreign change.
                    assert user in self.foreign, received
            assert self.ledger.verify(run.id).broken == ()
            fold = self._fold(run)
            left = [step.key for step in fold.record().steps if step.state == "planned"]
            assert fold.is_stopped or not left, f"nothing was said of {left}"

    def _finish(self) -> None:
        while self.works:
            self._advance(min(range(len(self.works)), key=lambda index: self.works[index][0]))
            self.nobody_without_a_key_by_our_doing()


Interleavings.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestInterleavings = Interleavings.TestCase
