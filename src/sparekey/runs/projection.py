"""A run by its ledger: pure folds from entries to the state of each key and of the whole run."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from threading import Lock
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace as change

from sparekey.errors import BadInputError
from sparekey.formatting import clean_line, moment_with_seconds
from sparekey.ledger.events import (
    UNREQUESTED,
    AlreadyInactive,
    ChangedExternally,
    CheckFailed,
    DeletionIntended,
    DeletionSkipped,
    KeptKeyUsed,
    KeyDeleted,
    KeyEvent,
    KeyMissing,
    NotReactivated,
    OutcomeResolved,
    OutcomeUnknown,
    ProbeChanged,
    ProbeUnobserved,
    RunEvent,
    RunOpened,
    RunOptions,
    RunResumed,
    RunStopped,
    StatusConfirmed,
    StepFailed,
    StepHeld,
    UndoRequested,
    UserRenamed,
    WatchEnded,
    WatchStarted,
    WaveStarted,
    WindowAwaited,
    WorkerFailed,
    WriteAccepted,
    WriteIntended,
    read_event,
)
from sparekey.ledger.store import Ledger, LedgerEntry
from sparekey.model import Caller, RunRecord, RunState, StepRecord, StepState, Value
from sparekey.plan import Plan, Step, decode
from sparekey.planner import never_reactivate
from sparekey.policy import Policy, decode_policy
from sparekey.probes import OUTPUT_LIMIT

UserId = tuple[str, str]
KeyId = tuple[str, str, str]


class RunHeader(Value, frozen=True):
    """What a run was opened with; `plan_digest` is that of the plan's file.

    `plan` has another digest where it was decided again before the run was opened.
    """

    id: str
    plan: Plan
    plan_digest: str
    caller: Caller
    policy: Policy
    options: RunOptions
    reverse: tuple[str, ...]
    opened: datetime

    def users(self) -> dict[UserId, tuple[Step, ...]]:
        """The users with something to deactivate and their steps, sorted."""
        users: dict[UserId, tuple[Step, ...]] = {}
        for step in self.plan.deactivations:
            user = (step.account, step.user)
            users[user] = (*users.get(user, ()), step)
        return users

    def wave_of(self) -> dict[UserId, int]:
        """The number of each user's wave, from 1."""
        return _assign_waves(tuple(self.users()), self.options.waves)


def _assign_waves(users: tuple[UserId, ...], sizes: tuple[int | None, ...]) -> dict[UserId, int]:
    wave_of: dict[UserId, int] = {}
    rest = list(users)
    for number, size in enumerate(sizes, 1):
        taken, rest = (rest, []) if size is None else (rest[:size], rest[size:])
        wave_of.update(dict.fromkeys(taken, number))
    # Sizes that do not reach the end are followed by one last wave.
    wave_of.update(dict.fromkeys(rest, len(sizes) + 1))
    return wave_of


_PAGE = 1000
_KEPT_RUNS = 8
_opened: dict[str, RunHeader] = {}
_opening = Lock()


def open_run(entry: LedgerEntry) -> RunHeader:
    """A run from its first entry; the last few are kept, for a plan may be large."""
    with _opening:  # the console reads of runs in many threads
        if entry.hash not in _opened:
            while len(_opened) >= _KEPT_RUNS:
                del _opened[next(iter(_opened))]
            _opened[entry.hash] = _read_opening(entry)
        return _opened[entry.hash]


def opened_run(opening: str) -> RunHeader | None:
    """A run by the hash of its first entry, if it is one of the last that were opened here."""
    return _opened.get(opening)


def _read_opening(entry: LedgerEntry) -> RunHeader:
    event = read_event(entry)
    if not isinstance(event, RunOpened):
        raise BadInputError(f"the ledger of run {entry.run} does not begin with its opening")
    return RunHeader(
        id=entry.run,
        plan=decode(event.plan.encode()),
        plan_digest=event.plan_digest,
        caller=event.caller,
        policy=decode_policy(event.policy),
        options=event.options,
        reverse=event.reverse,
        opened=entry.at,
    )


class KeyFacts(Value, frozen=True):
    """All that a run's ledger says of one key.

    `intent` is a write whose answer or confirmation is outstanding, `written` that AWS accepted it. `ours`:
    it may be inactive by our doing, so undo concerns it. `coming_back` is a reactivation not confirmed yet.
    `unseen` counts the looks that AWS refused during the watch, and `blind` describes them. `tries` counts
    the reactivations that have failed in a row. `name` is the user's name now, where it is not the plan's.
    `not_reactivated` is what would have reactivated the key had that not been forbidden.
    """

    state: StepState = "planned"
    intent: WriteIntended | None = None
    written: bool = False
    deactivated_by_run: bool = False
    why: str = ""
    release: str = ""
    request_ids: tuple[str, ...] = ()
    before: Mapping[str, str] = {}
    after: Mapping[str, str] = {}
    changed_at: datetime | None = None
    confirmed_at: datetime | None = None
    watch: WatchStarted | None = None
    retry: bool = False
    pending_reactivation: WriteIntended | None = None
    checks_failed: int = 0
    unobserved: str = ""
    name: str = ""
    not_reactivated: str = ""
    reactivation_tries: int = 0

    @property
    def unresolved_write(self) -> WriteIntended | None:
        """The intent of which not even the answer is known."""
        return None if self.written else self.intent

    @property
    def pending(self) -> bool:
        """True where something is left to do before the step is confirmed."""
        ended = self.state in ("failed", "rollback_failed")
        return self.retry or self.state == "planned" or (self.intent is not None and not ended)


def project_keys(entries: Iterable[LedgerEntry]) -> dict[KeyId, KeyFacts]:
    """The facts of every key that the entries name."""
    return RunProjection(entries).facts


_STATE_AFTER: dict[str, tuple[StepState, str]] = {
    "apply": ("confirmed", ""),
    "undo": ("undone", "reactivated on request"),
    "rollback": ("rolled_back", "reactivated because a probe became unhealthy"),
    "no-active-key": ("rolled_back", "reactivated because a listing showed the user without an active key"),
    "late-write": ("rolled_back", "reactivated because the write came after the step was taken over"),
}


def _apply(facts: KeyFacts, event: KeyEvent, at: datetime) -> KeyFacts:  # noqa: C901, PLR0912  # one flat table of kinds
    match event:
        case StepHeld():
            return change(
                facts, state="held", why=event.why, release=event.release, retry=False, changed_at=at
            )
        case AlreadyInactive():
            why = "somebody else had switched it off before"
            return change(
                facts, state="already_inactive", why=why, after=event.listing, retry=False, changed_at=at
            )
        case KeyMissing():
            return change(
                facts, state="gone", why=event.why, intent=None, written=False, deactivated_by_run=False, retry=False,
                pending_reactivation=None, changed_at=at,
            )  # fmt: skip
        case UserRenamed():
            return change(facts, name=event.name)
        case WriteIntended():
            return change(
                facts,
                state="in_doubt" if event.status == "Inactive" else "reactivating",
                intent=event,
                written=False,
                deactivated_by_run=True,
                retry=False,
                why=event.why,
                before=facts.before or event.before,
                pending_reactivation=event if event.status == "Active" else None,
                changed_at=at,
            )
        case WriteAccepted():
            state = "applied" if event.status == "Inactive" else "reactivating"
            ids = (*facts.request_ids, event.request_id)
            return change(facts, state=state, written=True, request_ids=ids, changed_at=at)
        case OutcomeUnknown():
            return change(facts, why=event.why, changed_at=at)
        case OutcomeResolved():
            return _resolved(facts, event, at)
        case StepFailed():
            return _failed(facts, event, at)
        case StatusConfirmed() if event.status == "Active" and facts.intent is None:
            # The undo and the read-back that it overtook both saw the key come back: the second tells nothing new.
            return facts
        case StatusConfirmed():
            because = facts.intent.because if facts.intent else "apply"
            state, why = _STATE_AFTER[because]
            return change(
                facts,
                state=state,
                why=(facts.intent.why if facts.intent else "") or why,
                intent=None,
                written=False,
                deactivated_by_run=event.status == "Inactive",
                retry=False,
                pending_reactivation=None,
                reactivation_tries=0,
                after=event.after,
                changed_at=at,
                confirmed_at=at,
            )
        case ChangedExternally():
            return change(
                facts,
                state="changed",
                why=event.why,
                intent=None,
                written=False,
                deactivated_by_run=False,
                retry=False,
                pending_reactivation=None,
                after=event.listing,
                changed_at=at,
            )
        case WatchStarted():
            return change(facts, state="watching", watch=event, changed_at=at)
        case KeptKeyUsed():
            return change(
                facts, why=f"{event.keep}, the kept key, was used at {moment_with_seconds(event.last_used)}"
            )
        case NotReactivated():
            return change(facts, why=event.why, not_reactivated=event.because)
        case CheckFailed():
            times = facts.checks_failed + 1
            looks = (
                "a look at its user's keys was" if times == 1 else f"{times} looks at its user's keys were"
            )
            blind = f"{looks} refused, last at {moment_with_seconds(at)}: {event.why}"
            return change(facts, why=blind, checks_failed=times, unobserved=blind)
        case WatchEnded() if facts.state in ("reactivating", "undone", "rolled_back", "rollback_failed"):
            return facts  # the watch that an undo overtook
        case WatchEnded():
            why = f"{event.why}; {facts.unobserved}" if facts.unobserved else event.why
            return change(facts, state=event.verdict, why=why, changed_at=at)
        case DeletionIntended():
            return change(facts, state="deleting", changed_at=at)
        case KeyDeleted():
            ids = (*facts.request_ids, event.request_id)
            why = "deleted for good"
            return change(
                facts, state="deleted", deactivated_by_run=False, why=why, request_ids=ids, changed_at=at
            )
        case DeletionSkipped():
            return change(facts, why=f"not deleted: {event.why}")
        case _:
            assert_never(event)


def _resolved(facts: KeyFacts, event: OutcomeResolved, at: datetime) -> KeyFacts:
    if event.says == event.status:
        return change(facts, state="applied", written=True, changed_at=at)
    return change(facts, intent=None, state="planned", deactivated_by_run=False, changed_at=at)


def _failed(facts: KeyFacts, event: StepFailed, at: datetime) -> KeyFacts:
    why = f"{event.code}: {event.why}" if event.code else event.why
    back = facts.pending_reactivation
    if not event.final and (
        facts.state in ("watching", "rollback_failed") or (back and back.because in UNREQUESTED)
    ):
        # Nobody asked for it, so nobody would see it fail: its own state, and it is tried again.
        state = "rollback_failed"
        why = f"could not be reactivated ({why}); it is tried again"
    else:
        state = "failed"
    facts = change(
        facts, state=state, why=why, changed_at=at, reactivation_tries=facts.reactivation_tries + 1
    )
    if state == "rollback_failed" and back is None:
        return facts
    if event.request_id:
        facts = change(facts, request_ids=(*facts.request_ids, event.request_id))
    if event.phase != "write":
        # What was not confirmed is in doubt again: whoever resumes the run asks AWS first.
        return change(facts, written=False, retry=not event.final)
    deactivating = facts.intent is not None and facts.intent.status == "Inactive"
    return change(
        facts,
        intent=None,
        written=False,
        retry=not event.final,
        deactivated_by_run=facts.deactivated_by_run and not deactivating,
    )


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
            self.facts[key] = _apply(self.facts.get(key, KeyFacts()), event, entry.at)

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


def catch_up(ledger: Ledger, run: str, projection: RunProjection) -> RunProjection:
    """The same fold with the entries that came since."""
    while page := ledger.entries(run, after=projection.last, limit=_PAGE):
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
    deactivates = step.action == "deactivate"
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
        keep=step.keep,
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
        never_reactivate=never_reactivate(step, run.plan.overrides, run.policy) if deactivates else "",
        not_reactivated=known.not_reactivated,
    )


def _state(steps: tuple[StepRecord, ...], facts: Mapping[KeyId, KeyFacts], flags: _RunFlags) -> RunState:
    states = {step.state for step in steps}
    under_way = "confirmed" in states or any(
        known.pending and known.state != "planned" for known in facts.values()
    )
    if flags.undoing:
        # Of the others nothing is deactivated any more.
        ours = [known for known in facts.values() if known.deactivated_by_run]
        busy = "confirmed" in states or any(known.pending for known in ours)
        return "applying" if busy else "failed" if ours else "undone"
    planned = [step for step in steps if step.state == "planned"]
    if "rollback_failed" in states:
        return "rollback_failed"
    if flags.stopped and (under_way or planned):
        return "stopped"
    if flags.waits_until is not None and planned and not under_way:
        return "waiting"
    due = under_way or any(not step.why.startswith(_WAITS) for step in planned)
    if due or (planned and "watching" not in states):
        return "applying"
    return _all_ended(states)


def _all_ended(states: set[StepState]) -> RunState:
    for state in ("watching", "failed", "rolled_back", "unwatched"):
        if state in states:
            return state
    ended = states - {"held", "already_inactive", "gone", "changed", "deleting", "deleted"}
    return "undone" if ended == {"undone"} else "settled"


def policy_of(policy: Policy) -> dict[str, Any]:
    """A policy as plain values for the ledger."""
    plain: dict[str, Any] = msgspec.to_builtins(policy, enc_hook=str)
    return plain
