"""A rotation: create a key, store it, test it, publish it, wait for the applications, deactivate the old one.

The old key is active until the very end. Each stage begins with what the ledger says and ends with an entry, so that
the same coroutine continues after a crash. A secret is in none of it: `RunContext.handover` returns ids and versions.
Generators, as in `reactivate`.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta

import msgspec

from sparekey.aws.errors import AwsError
from sparekey.decision import DecisionContext, Overrides
from sparekey.errors import SparekeyError
from sparekey.handover.interface import HandoverError, PublishedKey, SecretLostError
from sparekey.ledger.events import (
    AlreadyInactive,
    CreationRefused,
    HandoverReverted,
    KeyCreated,
    KeyMissing,
    KeyOrphaned,
    KeyUsable,
    MoveChecked,
    MoveConfirmed,
    OrphanDeactivated,
    RevertIntended,
    RotationIntended,
    SecretPublished,
    StepFailed,
    StepHeld,
)
from sparekey.ledger.records import FencedError, StoppedError
from sparekey.model import ACTIVE, AccessKey, Caller, Usage, User
from sparekey.plan import Preconditions, Step
from sparekey.runs.change_windows import is_open
from sparekey.runs.context import (
    KeyHandover,
    LongCall,
    RetryStepError,
    RunContext,
    StepCoroutine,
    UserLease,
    is_temporary,
    listing_of,
    may_have_happened,
    perform,
)
from sparekey.runs.key_facts import KeyFacts, RotationFacts, UserId
from sparekey.runs.probe_checks import unhealthy_probe
from sparekey.runs.revalidate import reason_not_to_rotate
from sparekey.runs.run_header import RunHeader
from sparekey.runs.user_lookup import list_current_user
from sparekey.selection import DeactivateKey, HeldKey, Outcome, choose

Deactivate = Callable[[UserLease, Step], StepCoroutine[None]]
# Our clock and AWS's may differ; and an event of CloudTrail may take so long to show.
# Seconds that the usage source may take: the event history gives two pages a second, an archive is large.
_USAGE_DEADLINE = 4 * 3600.0
_GLOBAL = "aws-global"
# Who has tested the new key: no application.
_OWN_AGENT = "sparekey"
_CLOCKS_DIFFER, _HISTORY_LAG = timedelta(minutes=5), timedelta(minutes=60)


def rotate_key(lease: UserLease, step: Step, deactivate: Deactivate) -> StepCoroutine[None]:
    """Bring a rotation from wherever the ledger left it to the next point at which it has to wait."""
    more = True
    while more:
        try:
            more = yield from _next_stage(lease, step, deactivate)
        except HandoverError as error:
            why = f"{error.message} ({error.hint})" if error.hint else error.message
            final = not error.temporary
            lease.record(StepFailed(*lease.user, step.key, "handover", "", why, final=final))
            return


def _next_stage(lease: UserLease, step: Step, deactivate: Deactivate) -> StepCoroutine[bool]:
    """Do what is due; returns whether the next stage can follow at once."""
    facts = lease.facts(step.key)
    rotation = facts.rotation
    if _has_failed_for_good(lease, facts):
        return False
    if rotation is not None and rotation.stage != "reverting" and _is_undone(lease):
        yield from revert_handover(lease.context, lease.run, lease.user, step.key, "the run is undone")
        return False
    if rotation is None:
        return facts.state in ("planned", "failed") and (yield from _create(lease, step))
    match rotation.stage:
        case "creating":
            return (yield from _resolve_creation(lease, step, rotation))
        case "orphaned":
            yield from _deactivate_orphan(lease, step.key, rotation)
        case "stored":
            return (yield from _wait_until_usable(lease, step, rotation))
        case "usable":
            return (yield from _publish(lease, step, rotation))
        case "moving" | "moved" | "deactivated" if _is_check_due(lease, facts.state, rotation):
            yield from _check_move(lease, step, rotation, deactivate)
        case "reverting":
            yield from _finish_revert(lease, step.key, rotation)
    return False


def _has_failed_for_good(lease: UserLease, facts: KeyFacts) -> bool:
    """True where the step failed, and nobody has resumed the run since."""
    if facts.state != "failed" or facts.retry or facts.changed_at is None:
        return False
    resumed = lease.context.ledger.entries(lease.run.id, kinds=("resumed",))
    return not any(entry.at >= facts.changed_at for entry in resumed)


def _is_undone(lease: UserLease) -> bool:
    return bool(lease.context.ledger.entries(lease.run.id, kinds=("undoing",)))


def _is_check_due(lease: UserLease, state: str, rotation: RotationFacts) -> bool:
    now, due = lease.context.clock.now(), rotation.next_check
    return (
        state not in ("moving", "stalled")
        or due is None
        or not now < due <= now + lease.run.policy.usage_every
    )


def _handover(lease: UserLease) -> KeyHandover:
    if lease.context.handover is None:
        raise HandoverError(
            "this process cannot hand over keys", "Resume the run with sparekey apply or a worker."
        )
    return lease.context.handover


# Creation


def _create(lease: UserLease, step: Step) -> StepCoroutine[bool]:
    lease.check_not_stopped()
    context, run, handover = lease.context, lease.run, _handover(lease)
    seen = yield from lease.read((yield from list_current_user(lease, step.key)))
    if not is_open(run.options.windows, context.clock.now()):
        raise StoppedError("the change window has closed")
    hold = yield from _reason_to_hold(lease, step, seen)
    if hold is not None:
        lease.record(hold)
        return False
    unchecked = yield from lease.with_retries(
        lambda: handover.check(run.policy, *lease.user, tuple(listing_of(seen)))
    )
    epoch = lease.claim.epoch + 1
    intent = RotationIntended(
        *lease.user, step.key, epoch, context.worker, listing_of(seen), step.store, unchecked
    )
    yield 0
    lease.acquire_after(intent)
    yield 0
    try:
        created = yield from perform(
            lambda: handover.create(run.policy, *lease.user, lease.name, lease.check)
        )
    except SecretLostError as error:
        lease.acquire_after(KeyOrphaned(*lease.user, step.key, error.key, error.message))
        return True
    except AwsError as error:
        if may_have_happened(error):
            raise RetryStepError from error
        lease.record(
            CreationRefused(*lease.user, step.key, error.code, error.message, not is_temporary(error))
        )
        return False
    lease.record(KeyCreated(*lease.user, step.key, created.key, created.version))
    return True


def _reason_to_hold(
    lease: UserLease, step: Step, seen: User
) -> StepCoroutine[StepHeld | KeyMissing | AlreadyInactive | None]:
    """Why no key is to be created now: the user is not as planned, or a probe is unhealthy before any change."""
    context, key_id = lease.context, (step.account, step.user, step.key)
    listing = listing_of(seen)
    if step.key not in listing:
        return KeyMissing(*key_id, "the key no longer exists")
    if not any(key.id == step.key for key in seen.active_keys):
        return AlreadyInactive(*key_id, listing)
    if lease.name != step.user:
        why = f"its user was renamed to {lease.name} after the plan was made"
        return StepHeld(*key_id, "renamed", why, "make a new plan")
    callers: tuple[Caller, ...] = (lease.run.caller, context.caller)
    if context.caller_now:
        callers = (*callers, (yield from lease.with_retries(context.caller_now)))
    hold = reason_not_to_rotate(lease.run, step, seen, context.clock.now(), callers)
    if hold is not None:
        return hold
    unhealthy = yield from unhealthy_probe(context, lease.run, lease.user)
    if unhealthy is None:
        return None
    name, result = unhealthy
    why = f"probe {name} was not healthy before any change: {result.output}"
    return StepHeld(*key_id, "probe-unhealthy", why, "repair it, then plan again")


def _resolve_creation(lease: UserLease, step: Step, rotation: RotationFacts) -> StepCoroutine[bool]:
    """Find out whether a key was created of which no answer is on record: by listings, and by the store.

    It is never created again unless AWS agrees for long enough that it was not.
    """
    handover, key_id, waited = _handover(lease), (*lease.user, step.key), 0.0
    retry_policy = lease.context.retry_policy
    while True:
        seen = yield from list_current_user(lease, step.key)
        new = [key for key in _new_keys(seen, rotation) if key.id]
        for key in new:
            name = key.id or ""
            version = yield from lease.with_retries(
                lambda name=name: handover.staged(lease.run.policy, *lease.user, name)  # type: ignore[misc]
            )
            if version:
                lease.record(KeyCreated(*key_id, name, version))
                return True
        passed = (lease.context.clock.now() - rotation.since).total_seconds()
        if max(waited, passed) >= retry_policy.visible_after:
            break
        yield retry_policy.pause
        waited += retry_policy.pause
        lease.check()
    if not new:
        why = "no key was created: listings agree that there is no new one"
        lease.record(CreationRefused(*key_id, "", why, final=False))
        return False
    return (yield from _find_orphan(lease, step, rotation, new))


def _new_keys(seen: User, rotation: RotationFacts) -> list[AccessKey]:
    """The keys that were not there before, and were created since."""
    keys = seen.keys if isinstance(seen.keys, tuple) else ()
    since = rotation.since - _CLOCKS_DIFFER
    return [
        key
        for key in keys
        if key.id not in rotation.intent.before and key.created is not None and key.created >= since
    ]


def _find_orphan(
    lease: UserLease, step: Step, rotation: RotationFacts, new: list[AccessKey]
) -> StepCoroutine[bool]:
    """A new key whose secret is in no store: ours is an orphan, and anybody else's is left alone."""
    key_id, handover = (*lease.user, step.key), _handover(lease)
    since, unknown = rotation.since - _CLOCKS_DIFFER, False
    for key in new:
        name = key.id or ""
        used = yield from lease.with_retries(lambda name=name: lease.gateway.last_used(name))  # type: ignore[misc]
        creator = yield from lease.with_retries(
            lambda name=name: handover.creator_of(lease.user[0], name, since)  # type: ignore[misc]
        )
        unknown = unknown or not creator
        ours = creator in (lease.run.caller.arn, lease.context.caller.arn)
        if ours and used.state == "never":
            why = f"{name} was created by this run, and its secret is in no store"
            lease.acquire_after(KeyOrphaned(*key_id, name, why))
            return True
    names = ", ".join(key.id or "" for key in new)
    waiting = unknown and lease.context.clock.now() - rotation.since < _HISTORY_LAG
    why = (
        f"{names} appeared while the new key was being created; CloudTrail's event history does not show yet who "
        "created it"
        if waiting
        else f"{names} appeared while the new key was being created, and it is not known to be sparekey's: find out "
        "whose it is, and undo this run"
    )
    lease.record(StepFailed(*key_id, "handover", "", why, final=not waiting))
    return False


def _deactivate_orphan(lease: UserLease, key: str, rotation: RotationFacts) -> StepCoroutine[None]:
    """Deactivate a key that nobody can use: it is freed by `sparekey delete --orphan` alone."""

    def call() -> str:
        lease.check()
        return lease.gateway.set_status(lease.name, rotation.orphan, "Inactive")

    seen = yield from list_current_user(lease, key)
    listing = listing_of(seen)
    if listing.get(key) != ACTIVE:
        why = f"{key} is not active, so {rotation.orphan} is left as it is"
        lease.record(StepFailed(*lease.user, key, "handover", "", why))
        return
    request = ""
    if listing.get(rotation.orphan) == ACTIVE:
        try:
            request = yield from perform(call)
        except AwsError as error:
            if is_temporary(error):
                raise RetryStepError from error
            raise
    lease.record(OrphanDeactivated(*lease.user, key, rotation.orphan, request))


# Publication


def _wait_until_usable(lease: UserLease, step: Step, rotation: RotationFacts) -> StepCoroutine[bool]:
    """Sign with the new key in each region in which the old one is used, until AWS takes it for long enough.

    A new key flaps for up to half a minute. Raises HandoverError for a key of another user.
    """
    lease.check_not_stopped()
    retry_policy, handover = lease.context.retry_policy, _handover(lease)
    regions = yield from _regions(lease, step.key)
    good = passed = 0.0
    checks = 0
    while good < retry_policy.usable_for or not checks:
        taken = True
        for region in regions:
            arn = yield from lease.with_retries(
                lambda region=region: handover.identity_behind(  # type: ignore[misc]
                    lease.run.policy, *lease.user, rotation.version, region
                )
            )
            if arn and (arn.split(":")[4:5] != [lease.user[0]] or arn.rpartition("/")[2] != lease.name):
                raise HandoverError(f"{rotation.new_key} signs as {arn}, which is not user {lease.name}")
            taken = taken and bool(arn)
        checks = checks + 1 if taken else 0
        good = good + retry_policy.usable_pause if taken and checks > 1 else 0.0
        if passed >= retry_policy.usable_within and not taken:
            raise HandoverError(
                f"AWS does not take {rotation.new_key} {passed:g} s after it was created", temporary=True
            )
        if good < retry_policy.usable_for:
            yield retry_policy.usable_pause
            passed += retry_policy.usable_pause
            lease.check()
    shown = tuple(region or "the default region" for region in regions)
    lease.record(KeyUsable(*lease.user, step.key, rotation.new_key, shown, checks))
    return True


def _regions(lease: UserLease, key: str) -> StepCoroutine[tuple[str, ...]]:
    """Where the old key is used, as far as is known; the default region where it is not."""
    regions = {
        use.region
        for usage in lease.run.plan.usages
        if usage.key == key
        for consumer in usage.consumers
        for use in consumer.uses
    }
    used = yield from lease.with_retries(lambda: lease.gateway.last_used(key))
    regions.add(used.region or "")
    return tuple(sorted(region for region in regions if region not in ("", _GLOBAL))) or ("",)


def _publish(lease: UserLease, step: Step, rotation: RotationFacts) -> StepCoroutine[bool]:
    lease.check_not_stopped()
    if not is_open(lease.run.options.windows, lease.context.clock.now()):
        raise StoppedError("the change window has closed")
    handover = _handover(lease)

    def call() -> PublishedKey:
        lease.check()
        return handover.publish(lease.run.policy, *lease.user, rotation.version, rotation.new_key)

    result = yield from lease.with_retries(call)
    (version, previous), copies, after = result
    lease.record(SecretPublished(*lease.user, step.key, rotation.new_key, version, previous, copies, after))
    return True


# The applications move


def _check_move(
    lease: UserLease, step: Step, rotation: RotationFacts, deactivate: Deactivate
) -> StepCoroutine[None]:
    """See who has moved; where cutover's conditions hold, deactivate the old key as any other."""
    lease.check_not_stopped()
    context, run, new, key_id = lease.context, lease.run, rotation.new_key, (*lease.user, step.key)
    seen = yield from lease.read((yield from list_current_user(lease, step.key)))
    listing = listing_of(seen)
    if step.key not in listing:
        lease.record(KeyMissing(*key_id, "the key no longer exists"))
        return
    if not any(key.id == step.key for key in seen.active_keys):
        lease.record(AlreadyInactive(*key_id, listing))
        return
    if listing.get(new) != ACTIVE:
        why = f"{new}, the new key, is not active: somebody changed it"
        lease.record(_still_moving(lease, step, rotation, why, f"activate {new}, or undo the run"))
        return
    usages: tuple[Usage, ...] = ()
    if context.read_usage is not None:
        read = context.read_usage
        try:
            usages = yield from perform(
                LongCall(lambda: read(run.policy, lease.user[0], (step.key, new)), _USAGE_DEADLINE)
            )
        except SparekeyError as error:
            why = f"usage could not be read: {error.message}"
            lease.record(_still_moving(lease, step, rotation, why, error.hint or "it is read again"))
            return
    overrides = Overrides(keep=(new,))
    by_key = {usage.key: usage for usage in usages}
    decided = choose(
        step.account, seen, DecisionContext(run.policy, context.clock.now(), run.caller, overrides, by_key)
    )
    outcome = next((item for item in (decided.outcomes if decided else ()) if item.key == step.key), None)
    if not isinstance(outcome, DeactivateKey):
        why, release = _reason_and_release(outcome)
        lease.record(_still_moving(lease, step, rotation, why, release, usages))
        return
    lease.record(MoveConfirmed(*key_id, new, outcome.reason, outcome.why))
    moved = _deactivation(step, seen, new, outcome)
    plan = msgspec.structs.replace(run.plan, usages=usages, overrides=overrides)
    under_way = UserLease(context, msgspec.structs.replace(run, plan=plan), lease.user)
    yield from deactivate(under_way, moved)
    facts = lease.facts(step.key)
    if facts.state == "held":
        lease.record(_still_moving(lease, step, rotation, facts.why, facts.release, usages))


def _reason_and_release(outcome: Outcome | None) -> tuple[str, str]:
    return (
        (outcome.why, outcome.release) if isinstance(outcome, HeldKey) else ("decided again, it is kept", "")
    )


def _deactivation(step: Step, seen: User, new: str, outcome: DeactivateKey) -> Step:
    """The rotation's last step, as a plan would have it."""
    preconditions = Preconditions(
        arn=step.preconditions.arn,
        statuses=listing_of(seen),
        last_used={key.id: key.last_used.at for key in seen.active_keys if key.id},
    )
    return msgspec.structs.replace(
        step,
        action="deactivate",
        keep=new,
        reason=outcome.reason,
        why=outcome.why,
        evidence=outcome.evidence,
        preconditions=preconditions,
    )


def _still_moving(
    lease: UserLease,
    step: Step,
    rotation: RotationFacts,
    why: str,
    release: str,
    usages: Iterable[Usage] = (),
) -> MoveChecked:
    now, policy = lease.context.clock.now(), lease.run.policy
    consumers = {
        usage.key: {
            f"{consumer.agent} from {consumer.source}"
            for consumer in usage.consumers
            if consumer.agent != _OWN_AGENT
        }
        for usage in usages
    }
    on_new = consumers.get(rotation.new_key, set())
    stalled = rotation.published_at is not None and now - rotation.published_at >= policy.move_within
    return MoveChecked(
        *lease.user,
        step.key,
        rotation.new_key,
        now + policy.usage_every,
        why,
        release,
        tuple(sorted(on_new)),
        tuple(sorted(consumers.get(step.key, set()) - on_new)),
        stalled,
    )


# Revert


def revert_handover(
    context: RunContext, run: RunHeader, user: UserId, key: str, why: str
) -> StepCoroutine[None]:
    """End a key's rotation and make the store's version before current again; the new key is left active."""
    for wait in context.retry_policy.backoff:
        try:
            yield from _revert_once(UserLease(context, run, user), key, why)
        except (FencedError, RetryStepError):
            yield wait
        else:
            return
    yield from _revert_once(UserLease(context, run, user), key, why)


def _revert_once(lease: UserLease, key: str, why: str) -> StepCoroutine[None]:
    try:
        rotation = lease.facts(key).rotation
        if rotation is not None and rotation.stage == "creating":
            step = next(step for step in lease.run.users()[lease.user] if step.key == key)
            yield from _resolve_creation(lease, step, rotation)
            rotation = lease.facts(key).rotation
        if rotation is None or rotation.stage in ("creating", "reverted"):
            return
        if rotation.stage == "orphaned":
            yield from _deactivate_orphan(lease, key, rotation)
            return
        if rotation.stage != "reverting":
            lease.acquire_after(RevertIntended(*lease.user, key, rotation.new_key, why))
        yield from _finish_revert(lease, key, rotation)
    except (HandoverError, AwsError) as error:
        hint = f" ({error.hint})" if isinstance(error, HandoverError) and error.hint else ""
        lease.try_record(StepFailed(*lease.user, key, "handover", "", error.message + hint))


def _finish_revert(lease: UserLease, key: str, rotation: RotationFacts) -> StepCoroutine[None]:
    handover, version, new = _handover(lease), rotation.version, rotation.new_key
    seen = yield from list_current_user(lease, key)
    if listing_of(seen).get(key) != ACTIVE:
        raise HandoverError(
            f"{key} is not active, so {rotation.intent.store} keeps {new}: an application would get a key that is off",
            f"Reactivate {key} first, then repeat the undo.",
        )
    copies = yield from lease.with_retries(
        lambda: handover.revert(lease.run.policy, *lease.user, version, new)
    )
    active = f"{rotation.new_key} is left active: `sparekey plan` decides on it"
    lease.record(HandoverReverted(*lease.user, key, rotation.new_key, active, copies))
