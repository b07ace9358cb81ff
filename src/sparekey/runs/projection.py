"""A run by its ledger: pure folds from entries to the state of each key and of the whole run."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from sparekey.errors import BadInputError
from sparekey.formatting import clean_line, moment_with_seconds
from sparekey.ledger.events import (
    KeyEvent,
    ProbeChanged,
    ProbeUnobserved,
    RunEvent,
    RunOpened,
    RunResumed,
    RunStopped,
    UndoRequested,
    WaveStarted,
    WindowAwaited,
    WorkerFailed,
    WriteIntended,
    read_event,
)
from sparekey.ledger.records import LedgerEntry
from sparekey.ledger.store import Ledger
from sparekey.model import Rotation, RunRecord, RunState, StepRecord, StepState, Value
from sparekey.plan import Step
from sparekey.planner import never_reactivate
from sparekey.probes import OUTPUT_LIMIT
from sparekey.runs.key_facts import KeyFacts, KeyId, RotationFacts, UserId, with_event
from sparekey.runs.run_header import PAGE, RunHeader, open_run


class RunProjection:
    """A whole run, entry by entry."""

    def __init__(self, entries: Iterable[LedgerEntry] = ()) -> None:
        self.facts: dict[KeyId, KeyFacts] = {}
        self.unobserved: list[ProbeUnobserved] = []
        self.resumed_at: datetime | None = None
        # By account: how often carrying it was cut off since the run was last resumed, and when last.
        self.worker_failures: dict[str, tuple[int, datetime]] = {}
        self._flags = _RunFlags()
        self._run: RunHeader | None = None  # not its entry: a plan may be large, and the run is shared
        self._last: LedgerEntry | None = None
        for entry in entries:
            self.add(entry)

    def add(self, entry: LedgerEntry) -> None:
        """Take in the next entry."""
        self._last = entry
        event = read_event(entry)
        self._flags = self._flags.after(event)
        if isinstance(event, RunOpened):
            self._run = open_run(entry)
        elif isinstance(event, ProbeUnobserved):
            self.unobserved.append(event)
        elif isinstance(event, RunResumed):
            self.resumed_at = entry.at
            self.worker_failures.clear()
            self._try_failed_again()
        elif isinstance(event, WorkerFailed):
            self.worker_failures[event.account] = (
                self.worker_failures.get(event.account, (0, entry.at))[0] + 1,
                entry.at,
            )
        elif isinstance(event, KeyEvent):
            key = (event.account, event.user, event.key)
            self.facts[key] = with_event(self.facts.get(key, KeyFacts()), event, entry.at)

    def _try_failed_again(self) -> None:
        for key, known in self.facts.items():
            if known.state == "failed":
                self.facts[key] = msgspec.structs.replace(known, retry=True)

    @property
    def attempt(self) -> int:
        """How often the run was opened and resumed."""
        return self._flags.attempt

    @property
    def wave(self) -> int:
        """The number of the last wave that was let go."""
        return self._flags.wave

    @property
    def is_stopped(self) -> bool:
        """True where nothing more is deactivated: stopped or undone."""
        return self._flags.stopped or self._flags.undoing

    @property
    def waits_until(self) -> datetime | None:
        """When the change window opens that the run waits for, as far as is known."""
        return self._flags.waits_until

    @property
    def last_at(self) -> datetime | None:
        """When the last entry was appended."""
        return self._last.at if self._last else None

    @property
    def undoing(self) -> bool:
        """True once an undo of the whole run was asked for."""
        return self._flags.undoing

    @property
    def last(self) -> int:
        """The sequence number of the last entry, 0 where there is none."""
        return self._last.seq if self._last else 0

    @property
    def head(self) -> str:
        """The hash of the last entry, empty where there is none."""
        return self._last.hash if self._last else ""

    def record(self) -> RunRecord:
        """The run as far as its entries show it; raises BadInputError where there are none."""
        run = self._run
        if run is None or self._last is None:
            raise BadInputError("there is no such run", "`sparekey runs` lists them.")
        waves = run.wave_of()
        steps = tuple(_step(step, run, self.facts, self._flags.wave, waves) for step in run.plan.steps)
        until = [known.watch.until for known in self.facts.values() if known.watch]
        return RunRecord(
            id=run.id,
            plan_digest=run.plan_digest,
            caller=run.caller.arn,
            state=_state(steps, self.facts, self._flags),
            opened=run.opened,
            updated=self._last.at,
            steps=steps,
            entries=self._last.seq,
            head=self._last.hash,
            wave=self._flags.wave,
            waves=max(waves.values(), default=1),
            watch_until=max(until, default=None),
            notes=self._flags.notes,
        )


def project_keys(entries: Iterable[LedgerEntry]) -> dict[KeyId, KeyFacts]:
    """The facts of every key that the entries name."""
    return RunProjection(entries).facts


def catch_up(ledger: Ledger, run: str, projection: RunProjection) -> RunProjection:
    """The same fold with the entries that came since."""
    while page := ledger.entries(run, after=projection.last, limit=PAGE):
        for entry in page:
            projection.add(entry)
    return projection


class _RunFlags(Value, frozen=True):
    """What the entries about the run itself add up to."""

    stopped: bool = False
    undoing: bool = False
    attempt: int = 0
    wave: int = 1
    waits_until: datetime | None = None
    notes: tuple[str, ...] = ()

    def after(self, event: RunEvent) -> "_RunFlags":  # one flat table of kinds
        change = msgspec.structs.replace
        match event:
            case RunOpened():
                return change(self, attempt=1)
            case RunStopped():
                note = f"stopped by {event.who}: {clean_line(event.why, OUTPUT_LIMIT)}"
                return change(self, stopped=True, notes=(*self.notes, note))
            case RunResumed():
                notes = (*self.notes, f"resumed by {event.who}")
                return change(self, stopped=False, attempt=self.attempt + 1, notes=notes)
            case UndoRequested():
                return change(self, undoing=True, notes=(*self.notes, f"undo by {event.who}"))
            case WaveStarted():
                return change(self, wave=event.number)
            case WindowAwaited():
                note = f"no change window is open: the remaining keys wait until {moment_with_seconds(event.until)}"
                return change(self, waits_until=event.until, notes=(*self.notes, note))
            case WriteIntended() if self.waits_until is not None and event.because == "apply":
                return change(self, waits_until=None)
            case ProbeChanged():
                output = clean_line(event.output, OUTPUT_LIMIT)
                health = {True: "healthy", False: "unhealthy", None: "unknown"}[event.healthy]
                return change(
                    self,
                    notes=_with_probe_note(self.notes, f"probe {event.probe} is ", f"{health}: {output}"),
                )
            case ProbeUnobserved():
                since, until = moment_with_seconds(event.since), moment_with_seconds(event.until)
                note = f"probe {event.probe} was not asked from {since} to {until}"
                return change(self, notes=(*self.notes, note))
            case WorkerFailed():
                work = f"execute account {event.account}" if event.account else "supervise the run"
                note = f"worker {event.worker} could not {work}: {event.why}"
                return change(self, notes=(*self.notes, note))
            case _:
                return self


def _with_probe_note(notes: tuple[str, ...], probe: str, reading: str) -> tuple[str, ...]:
    """The notes with what a probe answered, which is left out where its last note is the same."""
    last = next((note for note in reversed(notes) if note.startswith(probe)), "")
    return notes if last == probe + reading else (*notes, probe + reading)


_WAITS = "waits for wave"


def _step(
    step: Step, run: RunHeader, facts: Mapping[KeyId, KeyFacts], wave: int, waves: Mapping[UserId, int]
) -> StepRecord:
    writes = step.action != "held"
    known = facts.get((step.account, step.user, step.key), KeyFacts())
    if step.action == "held":
        known = KeyFacts(state="held", release=step.release)
    elif known.state == "planned" and waves.get((step.account, step.user), 1) > wave:
        known = msgspec.structs.replace(known, why=f"{_WAITS} {waves[step.account, step.user]}")
    if known.name and known.name != step.user and f"renamed to {known.name} " not in known.why:
        renamed = f"its user is called {known.name} now"
        known = msgspec.structs.replace(known, why=f"{known.why}; {renamed}" if known.why else renamed)
    return StepRecord(
        account=step.account,
        user=step.user,
        keep=(known.rotation.new_key or None) if known.rotation else step.keep,
        key=step.key,
        state=known.state,
        decided=f"[{step.reason}] {step.why}",
        why=known.why,
        release=known.release,
        request_ids=known.request_ids,
        before=known.before,
        after=known.after,
        changed_at=known.changed_at,
        evidence=step.evidence,
        never_reactivate=never_reactivate(step, run.plan.overrides, run.policy) if writes else "",
        not_reactivated=known.not_reactivated,
        rotation=_rotation(known.rotation) if known.rotation else None,
    )


def _rotation(facts: RotationFacts) -> Rotation:
    return Rotation(
        store=facts.intent.store,
        copies=facts.copies,
        new_key=facts.new_key or facts.orphan,
        version=facts.version,
        previous=facts.previous,
        created_at=facts.created_at,
        published_at=facts.published_at,
        next_check=facts.next_check,
        moved=facts.moved,
        waiting=facts.waiting,
    )


def _state(steps: tuple[StepRecord, ...], facts: Mapping[KeyId, KeyFacts], flags: _RunFlags) -> RunState:
    states = {step.state for step in steps}
    under_way = "confirmed" in states or any(
        known.pending and known.state != "planned" for known in facts.values()
    )
    if flags.undoing:
        # Of the others nothing is deactivated any more.
        ours = [known for known in facts.values() if known.deactivated_by_run]
        reverts = [known.rotation for known in facts.values() if known.rotation is not None]
        busy = "confirmed" in states or any(known.pending for known in ours)
        busy = busy or any(rotation.under_way for rotation in reverts)
        return "applying" if busy else "failed" if ours else "undone"
    planned = [step for step in steps if step.state == "planned"]
    if "rollback_failed" in states:
        return "rollback_failed"
    if flags.stopped and (under_way or planned):
        return "stopped"
    if flags.waits_until is not None and planned and not under_way:
        return "waiting"
    if {"moving", "stalled"} & states and not under_way and not planned:
        return "moving"
    due = under_way or any(not step.why.startswith(_WAITS) for step in planned)
    if due or (planned and "watching" not in states):
        return "applying"
    return _all_ended(states)


def _all_ended(states: set[StepState]) -> RunState:
    for state in ("watching", "failed", "rolled_back", "unwatched"):
        if state in states:
            return state
    if "orphaned" in states:
        return "failed"
    ended = states - {"held", "already_inactive", "gone", "changed", "deleting", "deleted"}
    return "undone" if ended and ended <= {"undone", "reverted"} else "settled"
