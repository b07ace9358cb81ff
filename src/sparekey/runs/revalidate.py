"""Choosing again just before a write: does the same step result from what AWS reports now?"""

from datetime import datetime, timedelta

from sparekey.decision import DecisionContext
from sparekey.formatting import moment
from sparekey.ledger.events import AlreadyInactive, KeyEvent, KeyMissing, StepHeld
from sparekey.ledger.store import Ledger
from sparekey.model import ACTIVE, Caller, User
from sparekey.plan import Step
from sparekey.planner import exempt_texts, exemption_of, steps_of
from sparekey.rotation import choose_or_rotate
from sparekey.runs.context import listing_of
from sparekey.runs.key_facts import KeyFacts, UserId
from sparekey.runs.projection import project_keys
from sparekey.runs.run_header import RunHeader

# IAM promises no bound on stale reads; for this long our own ledger is believed rather than a listing.
STALE = timedelta(minutes=10)
_PLAN_AGAIN = "make a new plan"
# What says whether a key may be inactive by another run's doing.
_WRITES = ("intent", "written", "unsure", "resolved", "failed", "confirmed", "foreign", "gone")


def reason_to_hold(
    run: RunHeader, step: Step, seen: User, now: datetime, callers: tuple[Caller, ...], ledger: Ledger
) -> KeyEvent | None:
    """Why the step must not be taken as planned; None where the same step results again."""
    listing = listing_of(seen)
    key_id = (step.account, step.user, step.key)
    if step.key not in listing:
        return KeyMissing(*key_id, "the key no longer exists")
    if not any(key.id == step.key for key in seen.active_keys):
        return AlreadyInactive(*key_id, listing)
    if step.keep is None or listing.get(step.keep) != ACTIVE:
        return StepHeld(
            *key_id, "keep-not-active", f"{step.keep}, the key to keep, is not active now", _PLAN_AGAIN
        )
    held = _held_by_another_run(run, step, now, ledger)
    usages = {usage.key: usage for usage in run.plan.usages}
    for caller in callers:
        context = DecisionContext(run.policy, now, caller, run.plan.overrides, usages)
        held = held or _exempt(step, seen, context) or _selected_again(step, seen, context)
    return held or _newer_use(step, seen)


def reason_not_to_rotate(
    run: RunHeader, step: Step, seen: User, now: datetime, callers: tuple[Caller, ...]
) -> StepHeld | None:
    """Why no new key is created for a user as planned; None where the same step results again."""
    usages = {usage.key: usage for usage in run.plan.usages}
    held: StepHeld | None = None
    for caller in callers:
        context = DecisionContext(run.policy, now, caller, run.plan.overrides, usages)
        held = held or _exempt(step, seen, context) or _selected_again(step, seen, context)
    handover = run.policy.handover_of(step.account, step.user)
    if held is None and (handover is None or (handover.store, handover.copies) != (step.store, step.copies)):
        key_id = (step.account, step.user, step.key)
        why = f"policy does not name {step.store} for this user, or names other copies"
        return StepHeld(*key_id, "changed", why, _PLAN_AGAIN)
    return held


def _held_by_another_run(run: RunHeader, step: Step, now: datetime, ledger: Ledger) -> StepHeld | None:
    """Another run of ours may be deactivating the key to keep, which a stale listing would hide."""
    writes = ledger.entries_of_user(step.account, step.user, _WRITES)
    for other in sorted({entry.run for entry in writes} - {run.id}):
        keys = project_keys(entry for entry in writes if entry.run == other)
        facts = keys.get((step.account, step.user, step.keep or ""), KeyFacts())
        fresh = facts.changed_at is not None and now - facts.changed_at < STALE
        if facts.intent is not None or (facts.deactivated_by_run and fresh):
            why = f"run {other} is at work on {step.keep}, the key to keep"
            return StepHeld(
                step.account, step.user, step.key, "other-run", why, f"finish or undo run {other} first"
            )
    return None


def written_since(run: str, user: UserId, key: str, ledger: Ledger, name: str = "") -> str:
    """The other run of ours that was the last to intend a write of this key; empty where this run was.

    `name` is what the user is called now, where that is not the name it had when the run was planned.
    """
    events = list(ledger.entries_of_user(*user, ("intent",)))
    if name not in ("", user[1]):
        events = sorted(
            (*events, *ledger.entries_of_user(user[0], name, ("intent",))), key=lambda entry: entry.at
        )
    last = [entry.run for entry in events if entry.body["key"] == key][-1:]
    return last[0] if last and last[0] != run else ""


def _exempt(step: Step, seen: User, context: DecisionContext) -> StepHeld | None:
    """By the run's policy, not the plan: editing a plan must not grant an exemption."""
    entry = exemption_of(step.account, seen, context)
    if entry is None:
        return None
    return StepHeld(step.account, step.user, step.key, "exempt", *exempt_texts(entry))


def _selected_again(step: Step, seen: User, context: DecisionContext) -> StepHeld | None:
    key_id = (step.account, step.user, step.key)
    choice = choose_or_rotate(step.account, seen, context)
    again = steps_of(step.account, seen, choice) if choice else ()
    same = next((candidate for candidate in again if candidate.key == step.key), None)
    if same is None:
        return StepHeld(*key_id, "changed", "decided again, this key is kept", _PLAN_AGAIN)
    if same.action == "held":
        return StepHeld(*key_id, same.reason, same.why, same.release)
    if (same.keep, same.reason) != (step.keep, step.reason):
        return StepHeld(*key_id, "changed", f"decided again, {same.keep} is kept: {same.why}", _PLAN_AGAIN)
    return None


def _newer_use(step: Step, seen: User) -> StepHeld | None:
    """Use since the plan holds the step, except where a person retires a key that is in use."""
    used = next(key.last_used.at for key in seen.active_keys if key.id == step.key)
    planned = step.preconditions.last_used.get(step.key)
    if step.reason == "forced" or used is None or (planned is not None and used <= planned):
        return None
    why = f"it was used at {moment(used)}, after the plan was made"
    return StepHeld(step.account, step.user, step.key, "newer-use", why, _PLAN_AGAIN)
