"""The facts of each key, folded from a run's events."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, assert_never

from msgspec.structs import replace as change

from sparekey.formatting import moment_with_seconds
from sparekey.ledger.events import (
    UNREQUESTED,
    AlreadyInactive,
    ChangedExternally,
    CheckFailed,
    CreationRefused,
    DeletionIntended,
    DeletionSkipped,
    HandoverReverted,
    KeptKeyUsed,
    KeyCreated,
    KeyDeleted,
    KeyEvent,
    KeyMissing,
    KeyOrphaned,
    KeyUsable,
    MoveChecked,
    MoveConfirmed,
    NotReactivated,
    OrphanDeactivated,
    OutcomeResolved,
    OutcomeUnknown,
    RevertIntended,
    RotationIntended,
    SecretPublished,
    StatusConfirmed,
    StepFailed,
    StepHeld,
    UserRenamed,
    WatchEnded,
    WatchStarted,
    WriteAccepted,
    WriteIntended,
)
from sparekey.model import StepState, Value

RotationEvent = (
    RotationIntended
    | CreationRefused
    | KeyCreated
    | KeyUsable
    | SecretPublished
    | MoveChecked
    | MoveConfirmed
    | RevertIntended
    | HandoverReverted
    | KeyOrphaned
    | OrphanDeactivated
)

UserId = tuple[str, str]
KeyId = tuple[str, str, str]
RotationStage = Literal[
    "creating", "stored", "usable", "moving", "moved", "reverting", "reverted", "orphaned", "deactivated"
]


class RotationFacts(Value, frozen=True):
    """What a run's ledger says of the rotation of one key.

    `stage` is the last thing that is certain: "creating" until it is known whether a new key exists. `orphan` is a
    new key whose secret nobody has. `next_check` is when the consumers are looked at again.
    """

    stage: RotationStage
    since: datetime
    intent: RotationIntended
    new_key: str = ""
    version: str = ""
    previous: str = ""
    created_at: datetime | None = None
    published_at: datetime | None = None
    next_check: datetime | None = None
    copies: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    orphan: str = ""

    @property
    def under_way(self) -> bool:
        """True until the old key is being deactivated, or the rotation has ended otherwise."""
        return self.stage not in ("deactivated", "reverted")


_ROTATING = ("creating", "stored", "usable", "moved", "orphaned")


class KeyFacts(Value, frozen=True):
    """All that a run's ledger says of one key.

    `intent` is a write whose answer or confirmation is outstanding, `written` that AWS accepted it.
    `deactivated_by_run`: it may be inactive by our doing, so undo concerns it. `pending_reactivation` is not
    confirmed yet. `checks_failed` counts the listings that AWS refused during the watch, and `unobserved`
    describes them. `reactivation_tries` counts those that failed in a row. `name` is the user's name now,
    where it is not the plan's. `not_reactivated` is what would have reactivated the key had that not been
    forbidden.
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
    rotation: RotationFacts | None = None

    @property
    def unresolved_write(self) -> WriteIntended | None:
        """The intent of which not even the answer is known."""
        return None if self.written else self.intent

    @property
    def pending(self) -> bool:
        """True where something is left to do before the step is confirmed."""
        ended = self.state in ("failed", "rollback_failed")
        if self.rotation is not None and self.rotation.under_way:
            reverts = self.rotation.stage == "reverting" and self.state != "failed"
            return self.retry or reverts or self.state in _ROTATING
        return self.retry or self.state == "planned" or (self.intent is not None and not ended)


_STATE_AFTER: dict[str, tuple[StepState, str]] = {
    "apply": ("confirmed", ""),
    "undo": ("undone", "reactivated on request"),
    "rollback": ("rolled_back", "reactivated because a probe became unhealthy"),
    "no-active-key": ("rolled_back", "reactivated because a listing showed the user without an active key"),
    "late-write": ("rolled_back", "reactivated because the write came after the step was taken over"),
}


def with_event(facts: KeyFacts, event: KeyEvent, at: datetime) -> KeyFacts:  # noqa: C901, PLR0912  # one flat table of kinds
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
            rotation = facts.rotation and change(facts.rotation, stage="deactivated")
            return change(
                facts,
                rotation=rotation,
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
            # The undo and the read-back that it overtook both saw the key active again: the second adds nothing.
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
        case (
            RotationIntended()
            | CreationRefused()
            | KeyCreated()
            | KeyUsable()
            | SecretPublished()
            | MoveChecked()
            | MoveConfirmed()
            | RevertIntended()
            | HandoverReverted()
            | KeyOrphaned()
            | OrphanDeactivated()
        ):
            return _rotated(facts, event, at)
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


def _rotated(  # noqa: C901, PLR0912  # one flat table of kinds
    facts: KeyFacts, event: RotationEvent, at: datetime
) -> KeyFacts:
    if isinstance(event, RotationIntended):
        rotation = RotationFacts("creating", at, event)
        return change(
            facts,
            state="creating",
            rotation=rotation,
            why="",
            retry=False,
            changed_at=at,
            before=event.before,
        )
    rotation_ = facts.rotation
    if rotation_ is None:
        return facts  # a ledger that lacks its beginning; `ledger verify` reports it
    facts = change(facts, retry=False, changed_at=at)

    def now(stage: RotationStage, state: StepState, why: str, **news: Any) -> KeyFacts:
        return change(facts, state=state, why=why, rotation=change(rotation_, stage=stage, since=at, **news))

    match event:
        case CreationRefused():
            why = f"{event.code}: {event.why}" if event.code else event.why
            return change(facts, state="failed", why=why, rotation=None, retry=not event.final)
        case KeyCreated():
            known = {"new_key": event.new_key, "version": event.version, "created_at": at}
            return now("stored", "stored", f"{event.new_key} is stored, pending, as {event.version}", **known)
        case KeyUsable():
            where = ", ".join(event.regions)
            return now(
                "usable", "usable", f"AWS takes {event.new_key} in {where} ({event.checks} checks in a row)"
            )
        case SecretPublished():
            news = {"version": event.version, "previous": event.previous, "copies": event.copies}
            why = f"{event.new_key} is published in {rotation_.intent.store}"
            return now("moving", "moving", why, published_at=at, next_check=at, **news)
        case MoveChecked():
            state: StepState = "stalled" if event.stalled else "moving"
            seen = {"moved": event.moved, "waiting": event.waiting, "next_check": event.next_check}
            return change(now("moving", state, event.why, **seen), release=event.release)
        case MoveConfirmed():
            return change(now("moved", "moved", event.why), release="")
        case RevertIntended():
            # An undo may have reactivated it already.
            undone = facts.state if rotation_.stage == "deactivated" else "reverting"
            return change(now("reverting", undone, event.why, next_check=None), release="")
        case HandoverReverted():
            ended: StepState = facts.state if facts.state in ("undone", "rolled_back") else "reverted"
            return now("reverted", ended, event.why)
        case KeyOrphaned():
            return now("orphaned", "orphaned", event.why, orphan=event.orphan)
        case OrphanDeactivated():
            return change(
                now("reverted", "orphaned", facts.why),
                release=f"sparekey delete --orphan {event.orphan}, then plan --rotate again",
                request_ids=(*facts.request_ids, event.request_id),
            )
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
        # What was not confirmed is in doubt again: a resumed run asks AWS first.
        return change(facts, written=False, retry=not event.final)
    deactivating = facts.intent is not None and facts.intent.status == "Inactive"
    return change(
        facts,
        intent=None,
        written=False,
        retry=not event.final,
        deactivated_by_run=facts.deactivated_by_run and not deactivating,
    )
