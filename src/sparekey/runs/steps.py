"""The work of one step: read, decide again, store the intent, write, confirm, record; and its reversal.

Each function is a generator: it yields the seconds it wants to wait, 0 where another may run first, or a call
of AWS. So the waits and calls of many users overlap while one thread decides, a test interleaves them in
virtual time, and a crash is a generator that is never resumed: everything it needs to go on stands in the
ledger and in AWS.
"""

from datetime import datetime, timedelta
from typing import Literal

from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.errors import RefusedError
from sparekey.ledger.events import (
    AUTOMATIC,
    UNREQUESTED,
    ChangedExternally,
    CheckFailed,
    KeptKeyUsed,
    KeyEvent,
    KeyMissing,
    Listing,
    NotReactivated,
    OutcomeResolved,
    OutcomeUnknown,
    StatusConfirmed,
    StepFailed,
    StepHeld,
    WatchEnded,
    WatchStarted,
    WriteAccepted,
    WriteIntended,
    WriteReason,
)
from sparekey.ledger.records import FencedError, StoppedError
from sparekey.model import ACTIVE, INACTIVE, Caller, User
from sparekey.plan import Step
from sparekey.planner import never_reactivate
from sparekey.runs.change_windows import is_open
from sparekey.runs.context import (
    RetryStepError,
    RunContext,
    StepCoroutine,
    UserLease,
    is_temporary,
    listing_of,
    may_have_happened,
    perform,
)
from sparekey.runs.key_facts import UserId
from sparekey.runs.probe_checks import unhealthy_probe
from sparekey.runs.revalidate import STALE, reason_to_hold, written_since
from sparekey.runs.run_header import RunHeader
from sparekey.runs.user_lookup import list_current_user

_NO_FURTHER_DEACTIVATION = "the key no longer exists"


def execute_user(
    context: RunContext, run: RunHeader, user: UserId, steps: tuple[Step, ...]
) -> StepCoroutine[None]:
    """Bring a user's steps from wherever the ledger left them to confirmed, held or failed."""
    yield from finish_reactivations(context, run, user)
    for step in steps:
        yield from _execute_step(context, run, user, step)


def _execute_step(context: RunContext, run: RunHeader, user: UserId, step: Step) -> StepCoroutine[None]:
    for wait in context.retry_policy.backoff:
        lease = UserLease(context, run, user)
        try:
            yield from _continue_step(lease, step)
        except (StoppedError, _StepEndedError):
            return
        except (RetryStepError, FencedError):
            # Fenced: another worker or another run took the user; what it did will be in the ledger.
            yield wait
        except AwsError as error:
            lease.try_record(lease.record_failure(step.key, error))
            return
        else:
            return
    lease = UserLease(context, run, user)
    facts = lease.facts(step.key)
    if facts.pending:
        # An intent that is still in doubt is left open: "confirm" keeps it for a resumed run.
        phase: Literal["write", "confirm"] = "confirm" if facts.intent else "write"
        lease.try_record(
            StepFailed(*user, step.key, phase, "", facts.why or "others were at work on this user")
        )


def _continue_step(lease: UserLease, step: Step) -> StepCoroutine[None]:
    if _user_no_longer_ours(lease, step.key):
        return
    facts = lease.facts(step.key)
    if facts.unresolved_write is not None and facts.unresolved_write.status == INACTIVE:
        yield from _resolve_write(lease, facts.unresolved_write)
        facts = lease.facts(step.key)
    if facts.intent is not None:
        yield from _confirm(lease, facts.intent)
    elif facts.state in ("planned", "failed") and not facts.deactivated_by_run:
        yield from _deactivate(lease, step)
    if lease.facts(step.key).state == "confirmed":
        _begin_watch(lease, step)


def _user_no_longer_ours(lease: UserLease, key: str) -> bool:
    """True where a later run of ours has written the key: it is that run's now, and the ledger says so."""
    if not lease.facts(key).deactivated_by_run:
        return False
    other = written_since(lease.run.id, lease.user, key, lease.context.ledger, lease.name)
    if not other:
        return False
    lease.record(
        ChangedExternally(*lease.user, key, f"run {other} has set it since: it is that run's now", {})
    )
    return True


def _begin_watch(lease: UserLease, step: Step) -> None:
    """From here on the key is monitored by the probes that cover its user, if there are any."""
    key_id = (*lease.user, step.key)
    seconds = lease.run.options.watch
    probes = lease.context.probes.probes_for(lease.run.policy, *lease.user)
    if probes and seconds > 0:
        now = lease.context.clock.now()
        lease.record(WatchStarted(*key_id, now, now + timedelta(seconds=seconds), probes))
    else:
        why = (
            "it was asked not to watch"
            if probes
            else "no health probe covers this user; a breakage would not be detected"
        )
        lease.record(WatchEnded(*key_id, "unwatched", why))


def _deactivate(lease: UserLease, step: Step) -> StepCoroutine[None]:
    lease.check_not_stopped()
    seen = yield from lease.read((yield from list_current_user(lease, step.key)))
    if (yield from _repair_lockout(lease, seen)):
        return
    if lease.name != step.user and step.key in listing_of(seen):
        lease.record(_follow_rename(lease, step))
        return
    context, run = lease.context, lease.run
    if not is_open(run.options.windows, context.clock.now()):
        raise StoppedError("the change window has closed")
    callers: tuple[Caller, ...] = (run.caller, context.caller)
    if context.caller_now:
        callers = (*callers, (yield from lease.with_retries(context.caller_now)))
    hold = reason_to_hold(run, step, seen, context.clock.now(), callers, context.ledger)
    hold = hold or (yield from _probes_prevent(lease, step))
    if hold is not None:
        lease.record(hold)
        return
    yield 0
    intent = lease.acquire(step.key, "Inactive", "apply", listing_of(seen), step.why)
    yield 0
    yield from _set_status(lease, intent)
    yield from _confirm(lease, intent)


def _follow_rename(lease: UserLease, step: Step) -> StepHeld:
    """The plan was agreed to for another name: exemptions, rotators and probes go by names."""
    key_id = (step.account, step.user, step.key)
    why = f"its user was renamed to {lease.name} after the plan was made"
    return StepHeld(*key_id, "renamed", why, "make a new plan")


def _probes_prevent(lease: UserLease, step: Step) -> StepCoroutine[StepHeld | None]:
    """A step starts only where its probes are healthy."""
    key_id = (step.account, step.user, step.key)
    unhealthy = yield from unhealthy_probe(lease.context, lease.run, lease.user)
    if unhealthy is None:
        return None
    name, reading = unhealthy
    what = "could not be asked" if reading.healthy is None else "was unhealthy before any change"
    return StepHeld(
        *key_id, "probe-unhealthy", f"probe {name} {what}: {reading.output}", "repair it, then plan again"
    )


def _set_status(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """Set the status unless the lease is lost; raises RetryStepError where it may not have happened."""
    key_id = (intent.account, intent.user, intent.key)

    def call() -> str:
        lease.check()  # as late as can be: the call may have waited for others
        return lease.gateway.set_status(lease.name, intent.key, intent.status)

    try:
        request = yield from perform(call)
    except AwsError as error:
        # Not found: the user was renamed, or the key deleted, since the listing; the next one finds out.
        again = is_temporary(error) or isinstance(error, NotFoundError)
        lease.record(_write_refused(intent, error, final=not again and intent.because not in UNREQUESTED))
        if again:
            raise RetryStepError from error
        raise _StepEndedError(error.message) from error
    try:
        lease.record(WriteAccepted(*key_id, intent.status, request))
    except FencedError:
        yield from _late_answer(lease, intent)
        raise


class _StepEndedError(FencedError):
    """All is in the ledger; this step continues no further."""


def _write_refused(intent: WriteIntended, error: AwsError, *, final: bool) -> KeyEvent:
    key_id = (intent.account, intent.user, intent.key)
    if may_have_happened(error):
        return OutcomeUnknown(*key_id, intent.status, error.code, error.message)
    return StepFailed(*key_id, "write", error.code, error.message, error.request_id, final=final)


def _late_answer(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """Our write arrived after the lease was lost: if the key was to be reactivated, reactivate it."""
    facts = lease.facts(intent.key)
    wanted_back = not facts.deactivated_by_run or (facts.intent is not None and facts.intent.status == ACTIVE)
    if intent.status == INACTIVE and wanted_back:
        yield from reactivate(lease.context, lease.run, lease.user, intent.key, "late-write")


def _confirm(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """List until several listings agree; a user seen without an active key gets back what we switched off."""
    retry_policy = lease.context.retry_policy
    agreed, waited = 0, 0.0
    while True:
        seen = yield from list_current_user(lease, intent.key)
        if intent.status == INACTIVE and (yield from _repair_lockout(lease, seen)):
            return
        status = listing_of(seen).get(intent.key)
        agreed = agreed + 1 if status == intent.status else 0
        event = _confirmed_status(intent, listing_of(seen), agreed, retry_policy.agreeing_reads)
        if event is None and agreed == 0 and waited >= retry_policy.give_up_after:
            why = f"{retry_policy.give_up_after:g} s after it was set {intent.status}, listings still show it {status}"
            final = intent.because not in UNREQUESTED
            event = StepFailed(*lease.user, intent.key, "confirm", "", why, final=final)
        if event is not None:
            lease.record(event)
            return
        yield retry_policy.pause
        waited += retry_policy.pause
        lease.check()


def _confirmed_status(intent: WriteIntended, listing: Listing, agreed: int, enough: int) -> KeyEvent | None:
    key_id = (intent.account, intent.user, intent.key)
    if intent.key not in listing:
        return KeyMissing(*key_id, _NO_FURTHER_DEACTIVATION)
    return StatusConfirmed(*key_id, intent.status, agreed, listing) if agreed >= enough else None


def _resolve_write(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """Ask AWS what became of a write whose answer is not in the ledger, and record what it says.

    Listings that show the old status may be stale: they are believed once a confirmation would be given up.
    """
    retry_policy = lease.context.retry_policy
    agreed, last, waited = 0, "", 0.0
    while True:
        seen = yield from list_current_user(lease, intent.key)
        says = listing_of(seen).get(intent.key, "")
        agreed, last = (agreed + 1 if says == last else 1), says
        if agreed >= retry_policy.agreeing_reads and (
            says == intent.status or waited >= retry_policy.give_up_after
        ):
            break
        yield retry_policy.pause
        waited += retry_policy.pause
    if last:
        lease.record(OutcomeResolved(*lease.user, intent.key, intent.status, last, listing_of(seen)))
    else:
        lease.record(KeyMissing(*lease.user, intent.key, _NO_FURTHER_DEACTIVATION))


def _repair_lockout(lease: UserLease, seen: User) -> StepCoroutine[bool]:
    """Where a listing shows no active key, reactivate at once what this run switched off; True if it did."""
    if seen.active_keys:
        return False
    mine = [key for key, facts in lease.all_facts().items() if facts.deactivated_by_run]
    for key in mine:
        yield from reactivate(lease.context, lease.run, lease.user, key, "no-active-key")
    return not all(never_reactivates(lease.run, lease.user, key) for key in mine)


def finish_reactivations(context: RunContext, run: RunHeader, user: UserId) -> StepCoroutine[None]:
    """Complete what an undo, rollback or repair had started before it was cut off or failed."""
    for key, facts in UserLease(context, run, user).all_facts().items():
        if facts.pending_reactivation is not None:
            yield from reactivate(
                context, run, user, key, facts.pending_reactivation.because, facts.pending_reactivation.why
            )


def reactivate(
    context: RunContext, run: RunHeader, user: UserId, key: str, because: WriteReason, why: str = ""
) -> StepCoroutine[None]:
    """Set a key active again that this run may have switched off, and confirm it.

    A key that somebody else was seen to change since is not ours and is left alone, and so is one that only a
    person may reactivate, unless a person asks for it. What nobody asked for is never given up: its failure is
    not final.
    """
    if because in AUTOMATIC and (forbidden := never_reactivates(run, user, key)):
        leave_inactive(UserLease(context, run, user), key, because, f"{why}; " if why else "", forbidden)
        return
    final = because not in UNREQUESTED
    for wait in context.retry_policy.backoff:
        lease = UserLease(context, run, user)
        try:
            yield from _reactivate(lease, key, because, why)
        except _StepEndedError:
            return
        except (RetryStepError, FencedError):
            yield wait
        except AwsError as error:
            lease.try_record(lease.record_failure(key, error, final=final))
            return
        except RefusedError as error:  # the account cannot be entered
            lease.try_record(StepFailed(*user, key, "read", "", error.message, final=final))
            return
        else:
            return
    lease = UserLease(context, run, user)
    if lease.facts(key).pending_reactivation is not None:
        why = "no try to reactivate it succeeded"
        lease.try_record(StepFailed(*user, key, "write", "", why, final=final))


def never_reactivates(run: RunHeader, user: UserId, key: str) -> str:
    """Why only a person may reactivate a key of the run; empty where sparekey may."""
    mine = (step for step in run.plan.deactivations if (step.account, step.user, step.key) == (*user, key))
    return next((never_reactivate(step, run.plan.overrides, run.policy) for step in mine), "")


def leave_inactive(lease: UserLease, key: str, because: WriteReason, why: str, forbidden: str) -> None:
    """Record once that a key is left inactive, and how a person reactivates it."""
    if lease.facts(key).not_reactivated == because or not lease.facts(key).deactivated_by_run:
        return
    way = f"only a person may reactivate it ({forbidden}): sparekey undo {lease.run.id} --key {key}"
    lease.try_record(NotReactivated(*lease.user, key, because, f"{why}it is left Inactive; {way}"))


def hold_key(context: RunContext, run: RunHeader, user: UserId, key: str, why: str) -> StepCoroutine[None]:
    """Let a run never deactivate a key that it has not deactivated yet; raises FencedError."""
    release = "make a new plan"
    for wait in (*context.retry_policy.backoff, 0):
        lease = UserLease(context, run, user)
        facts = lease.facts(key)
        if facts.deactivated_by_run or facts.state not in ("planned", "failed"):
            return
        try:
            lease.acquire_after(StepHeld(*user, key, "undo", why, release))
        except FencedError:
            yield wait
        else:
            return
    raise FencedError(
        f"others were at work on user {user[1]} all the time: it is not certain that {key} is still active",
        f"`sparekey stop {run.id}`, then undo it again.",
    )


def _reactivate(lease: UserLease, key: str, because: WriteReason, why: str) -> StepCoroutine[None]:
    facts = lease.facts(key)
    if (not facts.deactivated_by_run and because != "late-write") or _user_no_longer_ours(lease, key):
        return
    if facts.written and facts.intent is not None and facts.intent.status == ACTIVE:
        yield from _confirm(lease, facts.intent)
        return
    seen = yield from list_current_user(lease, key)
    listing = listing_of(seen)
    if key not in listing:
        lease.record(KeyMissing(*lease.user, key, _NO_FURTHER_DEACTIVATION))
        return
    if lease.name != lease.user[1] and _user_no_longer_ours(lease, key):
        return  # by a run that was planned under the new name
    if facts.unresolved_write is not None:
        lost = "no answer to this is on record: the key is set active whether or not it happened"
        lease.record(OutcomeUnknown(*lease.user, key, facts.unresolved_write.status, "", lost))
    intent = lease.acquire(key, "Active", because, listing, why)
    yield 0
    yield from _set_status(lease, intent)
    yield from _confirm(lease, intent)


def record_external_change(lease: UserLease, seen: User) -> StepCoroutine[None]:
    """Record every key of ours that listings agree to show active: somebody else reactivated it."""
    now, retry_policy = lease.context.clock.now(), lease.context.retry_policy
    confirmed = {
        key: facts.confirmed_at
        for key, facts in lease.all_facts().items()
        if facts.deactivated_by_run and not facts.intent
    }
    long_ago = {key for key, at in confirmed.items() if at is not None and now - at > STALE}
    theirs = long_ago & _active_keys(seen)
    for _ in range(retry_policy.agreeing_reads - 1):
        if not theirs:
            return
        yield retry_policy.pause
        seen = yield from list_current_user(lease, min(theirs))
        theirs &= _active_keys(seen)
    for key in sorted(theirs):
        why = "somebody else reactivated it since: it is theirs now, and undo leaves it alone"
        lease.try_record(ChangedExternally(*lease.user, key, why, listing_of(seen)))


def _active_keys(seen: User) -> set[str]:
    return {key for key, status in listing_of(seen).items() if status == ACTIVE}


def check_user(
    context: RunContext, run: RunHeader, user: UserId, steps: tuple[tuple[Step, datetime], ...]
) -> StepCoroutine[None]:
    """List a watched user's keys: repair, see what others changed, and whether the kept key is used."""
    lease = UserLease(context, run, user)
    try:
        seen = yield from list_current_user(lease, steps[0][0].key)
        if (yield from _repair_lockout(lease, seen)):
            return
        yield from record_external_change(lease, seen)
        keep = steps[0][0].keep or ""
        used = yield from lease.with_retries(lambda: lease.gateway.last_used(keep))
    except AwsError as error:
        # The next look may show it; meanwhile the probes count.
        for step, _ in steps:
            lease.try_record(CheckFailed(*lease.user, step.key, error.code, error.message))
        return
    for step, since in steps:
        if used.at is not None and used.at > since:
            lease.try_record(KeptKeyUsed(*lease.user, step.key, keep, used.at))
