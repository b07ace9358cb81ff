"""What a run's ledger may say: one frozen type for each kind of entry."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from sparekey.ledger.database import StateDamagedError
from sparekey.ledger.records import LedgerEntry
from sparekey.model import Caller, Value

Status = Literal["Active", "Inactive"]
WriteReason = Literal["apply", "undo", "rollback", "no-active-key", "late-write"]
# What nobody asked for, nobody would see fail either: it is tried again until it succeeds.
# What would reactivate a key without a person, where a person or the policy may forbid that.
AUTOMATIC = ("rollback", "no-active-key")
UNREQUESTED = ("rollback", "no-active-key", "late-write")
Listing = Mapping[str, str]


class RunOptions(Value, frozen=True, kw_only=True):
    """The options of a run: sizes of its waves (None is the rest), what starts the next, how long it is watched.

    `healthy_for` and `watch` are in seconds; `healthy_for=None` asks that all steps of a wave have settled.
    """

    waves: tuple[int | None, ...] = (None,)
    healthy_for: float | None = msgspec.field(default=None, name="green_for")
    watch: float = 0.0
    windows: tuple[str, ...] = ()


class RunOpened(Value, frozen=True, tag="opened"):
    """A run began: the plan as it is on file, who asked, the policy that chooses again."""

    plan: str
    plan_digest: str
    caller: Caller
    policy: Mapping[str, Any]
    options: RunOptions
    reverse: tuple[str, ...]


class RunResumed(Value, frozen=True, tag="resumed"):
    """A run was resumed after it was cut off or stopped."""

    who: str


class RunStopped(Value, frozen=True, tag="stopped"):
    """No further key is deactivated until the run is resumed; rollbacks, undo and the watch go on."""

    who: str
    why: str


class UndoRequested(Value, frozen=True, tag="undoing"):
    """An undo of the whole run began; none of its keys is deactivated any more."""

    who: str


class WaveStarted(Value, frozen=True, tag="wave"):
    """A wave of users was let go."""

    number: int


class WindowAwaited(Value, frozen=True, tag="waiting"):
    """No change window is open: the remaining keys wait until `until`."""

    until: datetime


class KeyEventBase(Value, frozen=True):
    """Something about one key of one user."""

    account: str
    user: str
    key: str


class StepHeld(KeyEventBase, frozen=True, tag="held"):
    """The key is left alone after all; `release` is what would let it go."""

    reason: str
    why: str
    release: str


class AlreadyInactive(KeyEventBase, frozen=True, tag="already-inactive"):
    """Somebody else had switched the key off: it is not ours, and undo does not touch it."""

    listing: Listing


class KeyMissing(KeyEventBase, frozen=True, tag="gone"):
    """The user or the key no longer exists."""

    why: str


class UserRenamed(KeyEventBase, frozen=True, tag="renamed"):
    """The key's user has another name now; `user` is still the plan's name, under which all is recorded."""

    name: str
    why: str


class WriteIntended(KeyEventBase, frozen=True, tag="intent"):
    """The status is about to be set; on disk before the call. `before` is the listing it was decided on."""

    status: Status
    because: WriteReason
    epoch: int
    worker: str
    before: Listing
    why: str = ""


class WriteAccepted(KeyEventBase, frozen=True, tag="written"):
    """AWS accepted the change."""

    status: Status
    request_id: str


class OutcomeUnknown(KeyEventBase, frozen=True, tag="unsure"):
    """The answer to a change was lost: it may or may not have happened."""

    status: Status
    code: str
    why: str


class OutcomeResolved(KeyEventBase, frozen=True, tag="resolved"):
    """What AWS reports about an intent whose answer is not in the ledger."""

    status: Status
    says: str
    listing: Listing


class StepFailed(KeyEventBase, frozen=True, tag="failed"):
    """The step could not go on; with `final` nobody tries again until the run is resumed."""

    phase: Literal["read", "write", "confirm", "handover"]
    code: str
    why: str
    request_id: str = ""
    final: bool = True


class StatusConfirmed(KeyEventBase, frozen=True, tag="confirmed"):
    """Several agreeing listings show the status."""

    status: Status
    reads: int
    after: Listing


class ChangedExternally(KeyEventBase, frozen=True, tag="foreign"):
    """Somebody else changed the key after us: it is theirs now."""

    why: str
    listing: Listing


class WatchStarted(KeyEventBase, frozen=True, tag="watching"):
    """The watch over a deactivated key began."""

    since: datetime
    until: datetime
    probes: tuple[str, ...]


class KeptKeyUsed(KeyEventBase, frozen=True, tag="seen"):
    """The kept key was used since: a sign of health."""

    keep: str
    last_used: datetime


class NotReactivated(KeyEventBase, frozen=True, tag="not-reactivated"):
    """The key is left inactive although `because` calls for its reactivation: only a person may reactivate it."""

    because: WriteReason
    why: str


class CheckFailed(KeyEventBase, frozen=True, tag="unseen"):
    """A look at a watched key was refused: what others did to it, and its user's keys, are not known."""

    code: str
    why: str


class WatchEnded(KeyEventBase, frozen=True, tag="verdict"):
    """The end of a step's watch."""

    verdict: Literal["settled", "unwatched"]
    why: str


class RotationIntended(KeyEventBase, frozen=True, tag="rotation"):
    """A new key is about to be created for the key's user; `before` is the listing it was decided on."""

    epoch: int
    worker: str
    before: Listing
    store: str
    unchecked: tuple[str, ...] = ()


class CreationRefused(KeyEventBase, frozen=True, tag="not-created"):
    """No key was created: AWS refused it, or listings agree that it never happened."""

    code: str
    why: str
    final: bool = True


class KeyCreated(KeyEventBase, frozen=True, tag="created"):
    """A new key exists, and its secret is pending in the store as `version`."""

    new_key: str
    version: str


class KeyUsable(KeyEventBase, frozen=True, tag="usable"):
    """AWS takes the new key: so many checks in a row in each region, signed with the key itself."""

    new_key: str
    regions: tuple[str, ...]
    checks: int


class SecretPublished(KeyEventBase, frozen=True, tag="published"):
    """The store's version is current, the copies are written, and `after` has ended."""

    new_key: str
    version: str
    previous: str
    copies: tuple[str, ...]
    after: str


class MoveChecked(KeyEventBase, frozen=True, tag="move-checked"):
    """Who has moved to the new key, and who has not; `release` is what would let the old key go."""

    new_key: str
    next_check: datetime
    why: str
    release: str
    moved: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    stalled: bool = False


class MoveConfirmed(KeyEventBase, frozen=True, tag="moved"):
    """The old key is needed no more: it is deactivated as any other."""

    new_key: str
    reason: str
    why: str


class RevertIntended(KeyEventBase, frozen=True, tag="reverting"):
    """A handover is about to be reverted; nothing further of the rotation is done."""

    new_key: str
    why: str


class HandoverReverted(KeyEventBase, frozen=True, tag="reverted"):
    """The store has its version before as current again, and the copies are written from it."""

    new_key: str
    why: str
    copies: tuple[str, ...] = ()


class KeyOrphaned(KeyEventBase, frozen=True, tag="orphaned"):
    """A new key exists whose secret nobody has: it is about to be deactivated."""

    orphan: str
    why: str


class OrphanDeactivated(KeyEventBase, frozen=True, tag="orphan-inactive"):
    """The key whose secret nobody has is inactive."""

    orphan: str
    request_id: str


class DeletionIntended(KeyEventBase, frozen=True, tag="deleting"):
    """The key is about to be deleted for good; `before` is the listing it was decided on."""

    worker: str
    before: Listing


class KeyDeleted(KeyEventBase, frozen=True, tag="deleted"):
    """The key no longer exists; no request id where the answer was lost."""

    request_id: str


class DeletionSkipped(KeyEventBase, frozen=True, tag="kept"):
    """The key was not deleted after all."""

    why: str


class RootDeletionIntended(Value, frozen=True, tag="root-deleting"):
    """A member account's root key is about to be deleted; `last` is when it was last used or created."""

    account: str
    root_key: str
    last: datetime
    who: str


class RootKeyDeleted(Value, frozen=True, tag="root-deleted"):
    """A member account's root key was deleted."""

    account: str
    root_key: str
    request_id: str


class RootDeletionFailed(Value, frozen=True, tag="root-failed"):
    """The deletion of a root key was refused, or its answer was lost and it may have happened."""

    account: str
    root_key: str
    code: str
    why: str
    request_id: str


class ProbeChanged(Value, frozen=True, tag="probed"):
    """The result of a probe changed: healthy, unhealthy or None (unknown); `is_retry`: by the second check."""

    probe: str
    healthy: bool | None = msgspec.field(name="green")
    output: str
    is_retry: bool = msgspec.field(default=False, name="again")


class ProbeUnobserved(Value, frozen=True, tag="unobserved"):
    """Time passed in which a probe was not asked, or could not be."""

    probe: str
    since: datetime
    until: datetime


class WorkerFailed(Value, frozen=True, tag="stumbled"):
    """A worker could not do its work on the run; `account` is empty where that is looking after all of it."""

    worker: str
    account: str
    why: str


KeyEvent = (
    StepHeld
    | AlreadyInactive
    | KeyMissing
    | UserRenamed
    | WriteIntended
    | WriteAccepted
    | OutcomeUnknown
    | OutcomeResolved
    | StepFailed
    | StatusConfirmed
    | ChangedExternally
    | WatchStarted
    | KeptKeyUsed
    | NotReactivated
    | CheckFailed
    | WatchEnded
    | RotationIntended
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
    | DeletionIntended
    | KeyDeleted
    | DeletionSkipped
)
RunLevelEvent = (
    RunOpened
    | RunResumed
    | RunStopped
    | UndoRequested
    | WaveStarted
    | WindowAwaited
    | ProbeChanged
    | ProbeUnobserved
    | WorkerFailed
    | RootDeletionIntended
    | RootKeyDeleted
    | RootDeletionFailed
)
RunEvent = RunLevelEvent | KeyEvent

# A key may be deactivated only while the last of these in the run's chain is one of STARTS.
STARTS = ("opened", "resumed")
STOPS = ("stopped", "undoing")


def kind_of(event: RunEvent) -> str:
    """The entry kind under which it is stored."""
    return str(event.__struct_config__.tag)


def event_body(event: RunEvent) -> dict[str, Any]:
    """The entry's body: plain values, ready for canonical JSON."""
    body: dict[str, Any] = msgspec.to_builtins(event)
    del body["type"]
    return body


def read_event(entry: LedgerEntry) -> RunEvent:
    """An entry as its type; raises StateDamagedError."""
    try:
        return event_from_body(entry.kind, entry.body)
    except msgspec.ValidationError as error:
        raise StateDamagedError(
            f"entry {entry.seq} of run {entry.run} in the ledger is none that this version knows: {error}",
            "`sparekey ledger verify` lists what else is wrong; a newer sparekey may have written it.",
        ) from error


def event_from_body(kind: str, body: Mapping[str, Any]) -> RunEvent:
    """An entry's body as the type that its kind names; raises msgspec.ValidationError."""
    event: RunEvent = msgspec.convert({**body, "type": kind}, RunEvent)
    return event
