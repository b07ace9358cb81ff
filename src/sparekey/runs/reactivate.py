"""A status is written and verified, and keys are reactivated: also where a listing shows a user without an active key.

Each function is a generator: it yields the seconds it wants to wait, 0 where another may run first, or a call
of AWS. So the waits and calls of many users overlap while one thread decides, a test interleaves them in
virtual time, and a crash is a generator that is never resumed: everything it needs to go on stands in the
ledger and in AWS.
"""

from datetime import datetime

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
    WriteAccepted,
    WriteIntended,
    WriteReason,
)
from sparekey.ledger.records import FencedError
from sparekey.model import ACTIVE, INACTIVE, User
from sparekey.plan import Step
from sparekey.planner import never_reactivate
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
from sparekey.runs.revalidate import STALE, written_since
from sparekey.runs.run_header import RunHeader
from sparekey.runs.user_lookup import list_current_user

_NO_FURTHER_DEACTIVATION = "the key no longer exists"


def is_user_no_longer_ours(lease: UserLease, key: str) -> bool:
    """True where a later run of ours has written the key: it is that run's now, as the ledger shows."""
    if not lease.facts(key).deactivated_by_run:
        return False
    other = written_since(lease.run.id, lease.user, key, lease.context.ledger, lease.name)
    if not other:
        return False
    lease.record(
        ChangedExternally(*lease.user, key, f"run {other} has set it since: it is that run's now", {})
    )
    return True


def set_status(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
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
        raise StepEndedError(error.message) from error
    try:
        lease.record(WriteAccepted(*key_id, intent.status, request))
    except FencedError:
        yield from _late_answer(lease, intent)
        raise


class StepEndedError(FencedError):
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


def confirm(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """List until several listings agree; a user seen without an active key gets back what we switched off."""
    retry_policy = lease.context.retry_policy
    agreed, waited = 0, 0.0
    while True:
        seen = yield from list_current_user(lease, intent.key)
        if intent.status == INACTIVE and (yield from repair_lockout(lease, seen)):
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


def resolve_write(lease: UserLease, intent: WriteIntended) -> StepCoroutine[None]:
    """Ask AWS what became of a write whose answer is not in the ledger, and record the answer.

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


def repair_lockout(lease: UserLease, seen: User) -> StepCoroutine[bool]:
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
        except StepEndedError:
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
    mine = (step for step in run.plan.writes if (step.account, step.user, step.key) == (*user, key))
    return next((never_reactivate(step, run.plan.overrides, run.policy) for step in mine), "")


def leave_inactive(lease: UserLease, key: str, because: WriteReason, why: str, forbidden: str) -> None:
    """Record once that a key is left inactive, and how a person reactivates it."""
    if lease.facts(key).not_reactivated == because or not lease.facts(key).deactivated_by_run:
        return
    way = f"only a person may reactivate it ({forbidden}): sparekey undo {lease.run.id} --key {key}"
    lease.try_record(NotReactivated(*lease.user, key, because, f"{why}it is left Inactive; {way}"))


def _reactivate(lease: UserLease, key: str, because: WriteReason, why: str) -> StepCoroutine[None]:
    facts = lease.facts(key)
    if (not facts.deactivated_by_run and because != "late-write") or is_user_no_longer_ours(lease, key):
        return
    if facts.written and facts.intent is not None and facts.intent.status == ACTIVE:
        yield from confirm(lease, facts.intent)
        return
    seen = yield from list_current_user(lease, key)
    listing = listing_of(seen)
    if key not in listing:
        lease.record(KeyMissing(*lease.user, key, _NO_FURTHER_DEACTIVATION))
        return
    if lease.name != lease.user[1] and is_user_no_longer_ours(lease, key):
        return  # by a run that was planned under the new name
    if facts.unresolved_write is not None:
        lost = "no answer to this is on record: the key is set active whether or not it happened"
        lease.record(OutcomeUnknown(*lease.user, key, facts.unresolved_write.status, "", lost))
    intent = lease.acquire(key, "Active", because, listing, why)
    yield 0
    yield from set_status(lease, intent)
    yield from confirm(lease, intent)


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
        if (yield from repair_lockout(lease, seen)):
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
