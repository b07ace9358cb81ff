"""A run as its ledger tells it: pure folds from entries to the state of each key and of the whole run."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from threading import Lock
from typing import Any, assert_never

import msgspec

from sparekey.errors import BadInputError
from sparekey.formatting import clean_line
from sparekey.ledger.events import (
    UNASKED,
    Already,
    Confirmed,
    Deleted,
    Deleting,
    Failed,
    Foreign,
    Gone,
    Held,
    Intent,
    Kept,
    NotReactivated,
    Opened,
    Options,
    Probed,
    Renamed,
    Resolved,
    Resumed,
    Said,
    SaidOfKey,
    Seen,
    Stopped,
    Stumbled,
    Undoing,
    Unobserved,
    Unseen,
    Unsure,
    Verdict,
    Waiting,
    Watching,
    WaveStarted,
    Written,
    read,
)
from sparekey.ledger.store import Entry, Ledger
from sparekey.model import Caller, RunRecord, RunState, StepRecord, StepState, Value
from sparekey.plan import Plan, Step, decode, never_reactivate
from sparekey.policy import Policy, decode_policy
from sparekey.probes import OUTPUT_LIMIT

UserId = tuple[str, str]
KeyId = tuple[str, str, str]


class Run(Value, frozen=True):
    """What a run was opened with; `plan_digest` is that of the plan's file.

    `plan` has another digest where it was decided on anew before the run was opened.
    """

    id: str
    plan: Plan
    plan_digest: str
    caller: Caller
    policy: Policy
    options: Options
    reverse: tuple[str, ...]
    opened: datetime

    def users(self) -> dict[UserId, tuple[Step, ...]]:
        """The users with something to deactivate and their steps, sorted."""
        found: dict[UserId, tuple[Step, ...]] = {}
        for step in self.plan.deactivations:
            user = (step.account, step.user)
            found[user] = (*found.get(user, ()), step)
        return found

    def wave_of(self) -> dict[UserId, int]:
        """The number of the wave, from 1, that each user goes with."""
        return _waves(tuple(self.users()), self.options.waves)


def _waves(users: tuple[UserId, ...], sizes: tuple[int | None, ...]) -> dict[UserId, int]:
    found: dict[UserId, int] = {}
    rest = list(users)
    for number, size in enumerate(sizes, 1):
        taken, rest = (rest, []) if size is None else (rest[:size], rest[size:])
        found.update(dict.fromkeys(taken, number))
    # Sizes that do not reach the end are followed by one last wave.
    found.update(dict.fromkeys(rest, len(sizes) + 1))
    return found


_PAGE = 1000
_KEPT_OPEN = 8
_opened: dict[str, Run] = {}
_opening = Lock()


def open_run(entry: Entry) -> Run:
    """A run from its first entry; the last few are kept, for a plan may be large."""
    with _opening:  # the console reads of runs in many threads
        if entry.hash not in _opened:
            while len(_opened) >= _KEPT_OPEN:
                del _opened[next(iter(_opened))]
            _opened[entry.hash] = _read_opening(entry)
        return _opened[entry.hash]


def opened_run(opening: str) -> Run | None:
    """A run by the hash of its first entry, if it is one of the last that were opened here."""
    return _opened.get(opening)


def _read_opening(entry: Entry) -> Run:
    said = read(entry)
    if not isinstance(said, Opened):
        raise BadInputError(f"the ledger of run {entry.run} does not begin with its opening")
    return Run(
        id=entry.run,
        plan=decode(said.plan.encode()),
        plan_digest=said.plan_digest,
        caller=said.caller,
        policy=decode_policy(said.policy),
        options=said.options,
        reverse=said.reverse,
        opened=entry.at,
    )


class KeyFacts(Value, frozen=True):
    """All that a run's ledger says of one key.

    `intent` is a write whose answer or confirmation is outstanding, `written` that AWS accepted it. `ours`:
    it may be inactive by our doing, so undo concerns it. `coming_back` is a reactivation not confirmed yet.
    `unseen` counts the looks that AWS refused during the watch, and `blind` tells them in words. `tries` counts
    the reactivations that have failed in a row. `name` is the user's name now, where it is not the plan's.
    `not_reactivated` is what would have reactivated the key had that not been forbidden.
    """

    state: StepState = "planned"
    intent: Intent | None = None
    written: bool = False
    ours: bool = False
    why: str = ""
    release: str = ""
    request_ids: tuple[str, ...] = ()
    before: Mapping[str, str] = {}
    after: Mapping[str, str] = {}
    changed_at: datetime | None = None
    confirmed_at: datetime | None = None
    watch: Watching | None = None
    retry: bool = False
    coming_back: Intent | None = None
    unseen: int = 0
    blind: str = ""
    name: str = ""
    not_reactivated: str = ""
    tries: int = 0

    @property
    def in_doubt(self) -> Intent | None:
        """The intent of which not even the answer is known."""
        return None if self.written else self.intent

    @property
    def pending(self) -> bool:
        """True where something is left to do before the step is confirmed."""
        ended = self.state in ("failed", "rollback_failed")
        return self.retry or self.state == "planned" or (self.intent is not None and not ended)


def fold_keys(entries: Iterable[Entry]) -> dict[KeyId, KeyFacts]:
    """The facts of every key that the entries speak of."""
    return RunFold(entries).facts


_AFTER: dict[str, tuple[StepState, str]] = {
    "apply": ("confirmed", ""),
    "undo": ("undone", "reactivated on request"),
    "rollback": ("rolled_back", "reactivated because a probe turned red"),
    "no-active-key": ("rolled_back", "reactivated because a listing showed the user without an active key"),
    "late-write": ("rolled_back", "reactivated because the write came after the step was taken over"),
}


def _fold(facts: KeyFacts, said: SaidOfKey, at: datetime) -> KeyFacts:  # noqa: C901, PLR0912  # one flat table of kinds
    change = msgspec.structs.replace
    match said:
        case Held():
            return change(facts, state="held", why=said.why, release=said.release, retry=False, changed_at=at)
        case Already():
            why = "somebody else had switched it off before"
            return change(
                facts, state="already_inactive", why=why, after=said.listing, retry=False, changed_at=at
            )
        case Gone():
            return change(
                facts, state="gone", why=said.why, intent=None, written=False, ours=False, retry=False,
                coming_back=None, changed_at=at,
            )  # fmt: skip
        case Renamed():
            return change(facts, name=said.name)
        case Intent():
            return change(
                facts,
                state="in_doubt" if said.status == "Inactive" else "reactivating",
                intent=said,
                written=False,
                ours=True,
                retry=False,
                why=said.why,
                before=facts.before or said.before,
                coming_back=said if said.status == "Active" else None,
                changed_at=at,
            )
        case Written():
            state = "applied" if said.status == "Inactive" else "reactivating"
            ids = (*facts.request_ids, said.request_id)
            return change(facts, state=state, written=True, request_ids=ids, changed_at=at)
        case Unsure():
            return change(facts, why=said.why, changed_at=at)
        case Resolved():
            return _resolved(facts, said, at)
        case Failed():
            return _failed(facts, said, at)
        case Confirmed() if said.status == "Active" and facts.intent is None:
            # The undo and the read-back that it overtook both saw the key come back: the second tells nothing new.
            return facts
        case Confirmed():
            because = facts.intent.because if facts.intent else "apply"
            state, why = _AFTER[because]
            return change(
                facts,
                state=state,
                why=(facts.intent.why if facts.intent else "") or why,
                intent=None,
                written=False,
                ours=said.status == "Inactive",
                retry=False,
                coming_back=None,
                tries=0,
                after=said.after,
                changed_at=at,
                confirmed_at=at,
            )
        case Foreign():
            return change(
                facts, state="changed", why=said.why, intent=None, written=False, ours=False, retry=False,
                coming_back=None, after=said.listing, changed_at=at,
            )  # fmt: skip
        case Watching():
            return change(facts, state="watching", watch=said, changed_at=at)
        case Seen():
            return change(facts, why=f"{said.keep}, which stays, was used at {short(said.last_used)}")
        case NotReactivated():
            return change(facts, why=said.why, not_reactivated=said.because)
        case Unseen():
            times = facts.unseen + 1
            looks = (
                "a look at its user's keys was" if times == 1 else f"{times} looks at its user's keys were"
            )
            blind = f"{looks} refused, last at {short(at)}: {said.why}"
            return change(facts, why=blind, unseen=times, blind=blind)
        case Verdict() if facts.state in ("reactivating", "undone", "rolled_back", "rollback_failed"):
            return facts  # the watch that an undo overtook
        case Verdict():
            why = f"{said.why}; {facts.blind}" if facts.blind else said.why
            return change(facts, state=said.verdict, why=why, changed_at=at)
        case Deleting():
            return change(facts, state="deleting", changed_at=at)
        case Deleted():
            ids = (*facts.request_ids, said.request_id)
            why = "deleted for good"
            return change(facts, state="deleted", ours=False, why=why, request_ids=ids, changed_at=at)
        case Kept():
            return change(facts, why=f"not deleted: {said.why}")
        case _:
            assert_never(said)


def _resolved(facts: KeyFacts, said: Resolved, at: datetime) -> KeyFacts:
    change = msgspec.structs.replace
    if said.says == said.status:
        return change(facts, state="applied", written=True, changed_at=at)
    return change(facts, intent=None, state="planned", ours=False, changed_at=at)


def _failed(facts: KeyFacts, said: Failed, at: datetime) -> KeyFacts:
    change = msgspec.structs.replace
    why = f"{said.code}: {said.why}" if said.code else said.why
    back = facts.coming_back
    if not said.final and (
        facts.state in ("watching", "rollback_failed") or (back and back.because in UNASKED)
    ):
        # Nobody asked for it, so nobody would see it fail: its own state, and it is tried again.
        state = "rollback_failed"
        why = f"could not be reactivated ({why}); it is tried again"
    else:
        state = "failed"
    facts = change(facts, state=state, why=why, changed_at=at, tries=facts.tries + 1)
    if state == "rollback_failed" and back is None:
        return facts
    if said.request_id:
        facts = change(facts, request_ids=(*facts.request_ids, said.request_id))
    if said.phase != "write":
        # What was not confirmed is in doubt again: whoever resumes the run asks AWS first.
        return change(facts, written=False, retry=not said.final)
    deactivating = facts.intent is not None and facts.intent.status == "Inactive"
    return change(
        facts, intent=None, written=False, retry=not said.final, ours=facts.ours and not deactivating
    )


class RunFold:
    """A whole run, entry by entry."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.facts: dict[KeyId, KeyFacts] = {}
        self.unobserved: list[Unobserved] = []
        self.resumed_at: datetime | None = None
        # By account: how often carrying it was cut off since the run was last resumed, and when last.
        self.stumbles: dict[str, tuple[int, datetime]] = {}
        self._flags = _Flags()
        self._run: Run | None = None  # not its entry: a plan may be large, and the run is shared
        self._last: Entry | None = None
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Take in the next entry."""
        self._last = entry
        said = read(entry)
        self._flags = self._flags.seen(said)
        if isinstance(said, Opened):
            self._run = open_run(entry)
        elif isinstance(said, Unobserved):
            self.unobserved.append(said)
        elif isinstance(said, Resumed):
            self.resumed_at = entry.at
            self.stumbles.clear()
            self._try_failed_again()
        elif isinstance(said, Stumbled):
            self.stumbles[said.account] = self.stumbles.get(said.account, (0, entry.at))[0] + 1, entry.at
        elif isinstance(said, SaidOfKey):
            key = (said.account, said.user, said.key)
            self.facts[key] = _fold(self.facts.get(key, KeyFacts()), said, entry.at)

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
    def halted(self) -> bool:
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
        """The run as far as its entries tell it; raises BadInputError where there are none."""
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


def catch_up(ledger: Ledger, run: str, fold: RunFold) -> RunFold:
    """The same fold with the entries that came since."""
    while page := ledger.entries(run, after=fold.last, limit=_PAGE):
        for entry in page:
            fold.add(entry)
    return fold


def short(moment: datetime) -> str:
    """A time as a person reads it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


class _Flags(Value, frozen=True):
    """What the entries about the run itself add up to."""

    stopped: bool = False
    undoing: bool = False
    attempt: int = 0
    wave: int = 1
    waits_until: datetime | None = None
    notes: tuple[str, ...] = ()

    def seen(self, said: Said) -> "_Flags":  # one flat table of kinds
        change = msgspec.structs.replace
        match said:
            case Opened():
                return change(self, attempt=1)
            case Stopped():
                note = f"stopped by {said.who}: {clean_line(said.why, OUTPUT_LIMIT)}"
                return change(self, stopped=True, notes=(*self.notes, note))
            case Resumed():
                notes = (*self.notes, f"resumed by {said.who}")
                return change(self, stopped=False, attempt=self.attempt + 1, notes=notes)
            case Undoing():
                return change(self, undoing=True, notes=(*self.notes, f"undo by {said.who}"))
            case WaveStarted():
                return change(self, wave=said.number)
            case Waiting():
                note = f"no change window is open: the keys that are left wait until {short(said.until)}"
                return change(self, waits_until=said.until, notes=(*self.notes, note))
            case Intent() if self.waits_until is not None and said.because == "apply":
                return change(self, waits_until=None)
            case Probed():
                output = clean_line(said.output, OUTPUT_LIMIT)
                colour = {True: "green", False: "red", None: "unanswered"}[said.green]
                return change(
                    self, notes=_with_reading(self.notes, f"probe {said.probe} is ", f"{colour}: {output}")
                )
            case Unobserved():
                note = f"probe {said.probe} was not asked from {short(said.since)} to {short(said.until)}"
                return change(self, notes=(*self.notes, note))
            case Stumbled():
                work = f"carry account {said.account}" if said.account else "look after the run"
                note = f"worker {said.worker} could not {work}: {said.why}"
                return change(self, notes=(*self.notes, note))
            case _:
                return self


def _with_reading(notes: tuple[str, ...], probe: str, reading: str) -> tuple[str, ...]:
    """The notes with what a probe answered, which is left out where its last note is the same."""
    last = next((note for note in reversed(notes) if note.startswith(probe)), "")
    return notes if last == probe + reading else (*notes, probe + reading)


_WAITS = "waits for wave"


def _step(
    step: Step, run: Run, facts: Mapping[KeyId, KeyFacts], wave: int, waves: Mapping[UserId, int]
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
        never_reactivate=never_reactivate(step, run.plan.asked, run.policy) if deactivates else "",
        not_reactivated=known.not_reactivated,
    )


def _state(steps: tuple[StepRecord, ...], facts: Mapping[KeyId, KeyFacts], flags: _Flags) -> RunState:
    states = {step.state for step in steps}
    under_way = "confirmed" in states or any(
        known.pending and known.state != "planned" for known in facts.values()
    )
    if flags.undoing:
        # Of the others nothing is deactivated any more.
        ours = [known for known in facts.values() if known.ours]
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
    return _ended(states)


def _ended(states: set[StepState]) -> RunState:
    for state in ("watching", "failed", "rolled_back", "unwatched"):
        if state in states:
            return state
    ended = states - {"held", "already_inactive", "gone", "changed", "deleting", "deleted"}
    return "undone" if ended == {"undone"} else "settled"


def as_policy(policy: Policy) -> dict[str, Any]:
    """A policy as plain values for the ledger."""
    plain: dict[str, Any] = msgspec.to_builtins(policy, enc_hook=str)
    return plain
