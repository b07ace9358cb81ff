"""The steps of a run: read again, decide again, store the intent, deactivate, confirm, begin the watch.

Generators, as in `reactivate`.
"""

from datetime import timedelta
from typing import Literal

from sparekey.aws.errors import AwsError
from sparekey.ledger.events import (
    StepFailed,
    StepHeld,
    WatchEnded,
    WatchStarted,
)
from sparekey.ledger.records import FencedError, StoppedError
from sparekey.model import INACTIVE, Caller
from sparekey.plan import Step
from sparekey.runs.change_windows import is_open
from sparekey.runs.context import (
    RetryStepError,
    RunContext,
    StepCoroutine,
    UserLease,
    listing_of,
)
from sparekey.runs.key_facts import UserId
from sparekey.runs.probe_checks import unhealthy_probe
from sparekey.runs.reactivate import (
    StepEndedError,
    confirm,
    finish_reactivations,
    is_user_no_longer_ours,
    repair_lockout,
    resolve_write,
    set_status,
)
from sparekey.runs.revalidate import reason_to_hold
from sparekey.runs.rotate import rotate_key
from sparekey.runs.run_header import RunHeader
from sparekey.runs.user_lookup import list_current_user
from sparekey.states import NO_PROBE, WATCH_NOT_ASKED


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
        except (StoppedError, StepEndedError):
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
    if is_user_no_longer_ours(lease, step.key):
        return
    facts = lease.facts(step.key)
    if facts.unresolved_write is not None and facts.unresolved_write.status == INACTIVE:
        yield from resolve_write(lease, facts.unresolved_write)
        facts = lease.facts(step.key)
    if facts.intent is not None:
        yield from confirm(lease, facts.intent)
    elif step.action == "rotate" and not facts.deactivated_by_run:
        yield from rotate_key(lease, step, _deactivate)
    elif facts.state in ("planned", "failed") and not facts.deactivated_by_run:
        yield from _deactivate(lease, step)
    if lease.facts(step.key).state == "confirmed":
        _begin_watch(lease, step)


def _begin_watch(lease: UserLease, step: Step) -> None:
    """From here on the key is monitored by the probes that cover its user, if there are any."""
    key_id = (*lease.user, step.key)
    seconds = lease.run.options.watch
    probes = lease.context.probes.probes_for(lease.run.policy, *lease.user)
    if probes and seconds > 0:
        now = lease.context.clock.now()
        lease.record(WatchStarted(*key_id, now, now + timedelta(seconds=seconds), probes))
    else:
        why = WATCH_NOT_ASKED if probes else NO_PROBE
        lease.record(WatchEnded(*key_id, "unwatched", why))


def _deactivate(lease: UserLease, step: Step) -> StepCoroutine[None]:
    lease.check_not_stopped()
    seen = yield from lease.read((yield from list_current_user(lease, step.key)))
    if (yield from repair_lockout(lease, seen)):
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
    yield from set_status(lease, intent)
    yield from confirm(lease, intent)


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
