"""Whose key is replaced by a new one, and what stands in the way; pure, at a given `now`.

A rotation is planned where a person asked for it, no active key of the user is young, and policy names a place for
the new key's secret. Of two old keys one is deactivated first, by another plan, and deleted to free its place.
"""

import msgspec

from sparekey.decision import DecisionContext
from sparekey.formatting import span
from sparekey.model import AccessKey, Evidence, Unreadable, User
from sparekey.policy import Handover
from sparekey.selection import (
    Choice,
    DeactivateKey,
    HeldKey,
    HoldReason,
    RotateKey,
    choose,
    hold_on_user,
    key_evidence,
    make_hold,
)
from sparekey.service_names import same_service

_RULE = "old-key"
_SMTP_SERVICE = "ses"
# AWS counts inactive keys, too: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_KEYS_PER_USER = 2
_USED_KEYS = frozenset({"no-usage", "recent-use", "source-blind", "usage-partial", "not-moved", "gap"})


def choose_or_rotate(account: str, user: User, context: DecisionContext) -> Choice | None:
    """What becomes of a user's keys, where a new key is made for a user who has no young one."""
    if not context.overrides.rotate or not is_due(account, user, context):
        return choose(account, user, context)
    keys = user.keys if isinstance(user.keys, tuple) else ()
    active = tuple(sorted(user.active_keys, key=lambda key: key.id or ""))
    reason = _hold_on_rotation(account, user, active, context)
    if reason is not None:
        return Choice(user.name, None, tuple(_held(key, reason, context) for key in active))
    handover = context.policy.handover_of(account, user.name)
    if len(keys) < _KEYS_PER_USER and handover is not None:
        return Choice(user.name, None, (_rotate(active[0], handover, context),))
    if len(active) < _KEYS_PER_USER:
        idle = next(key for key in keys if not key.active)
        full = make_hold("no-slot", idle=idle.id, status=idle.status)
        return Choice(user.name, None, tuple(_held(key, full, context) for key in active))
    return _consolidate(account, user, context)


def is_due(account: str, user: User, context: DecisionContext) -> bool:
    """True where the user has active keys, each of which is old, or will be within `rotate_before`."""
    policy, now = context.policy, context.now
    if not user.active_keys or policy.exemption(_RULE, account, user.name, now):
        return False
    still_young = policy.max_key_age - policy.rotate_before
    return all(key.created is not None and now - key.created >= still_young for key in user.active_keys)


def _hold_on_rotation(
    account: str, user: User, active: tuple[AccessKey, ...], context: DecisionContext
) -> HoldReason | None:
    policy = context.policy
    reason = hold_on_user(account, user, active, context)
    if reason is not None:
        return reason
    if isinstance(user.quarantine, Unreadable):
        return make_hold("quarantine-unread", error=user.quarantine.why)
    if user.quarantine:
        return make_hold("quarantined", policies=", ".join(user.quarantine))
    for key in active:
        if key.last_used.state not in ("used", "never"):
            return make_hold("last-use-unread", key=key.id, error=key.last_used.why or "it was not requested")
        if same_service(key.last_used.service or "", _SMTP_SERVICE):
            return make_hold("smtp", key=key.id)
    if policy.require_probe and not policy.probed(account, user.name):
        return make_hold("no-probe")
    if policy.handover_of(account, user.name) is None:
        return make_hold("no-handover", age=span(policy.max_key_age), user=user.name)
    return None


def _held(key: AccessKey, reason: HoldReason, context: DecisionContext) -> HeldKey:
    return reason.for_key(key.id or "", key_evidence(key, context.now))


def _rotate(key: AccessKey, handover: Handover, context: DecisionContext) -> RotateKey:
    age = span(context.now - key.created) if key.created else "of unknown age"
    why = f"{age} old; a new key is created and published in {handover.store}"
    place = Evidence(
        "policy: [[handover]]", f"{handover.user!r} is handed over by {handover.store}", key.id or ""
    )
    evidence = (*key_evidence(key, context.now), place)
    return RotateKey(key.id or "", "rotate", why, handover.store, handover.copies, evidence)


def _consolidate(account: str, user: User, context: DecisionContext) -> Choice | None:
    """Two old keys: the idle one is deactivated by this plan, and the other is rotated by a later one."""
    overrides = msgspec.structs.replace(context.overrides, keep_old=True)
    choice = choose(account, user, msgspec.structs.replace(context, overrides=overrides))
    if choice is None:
        return None
    return msgspec.structs.replace(
        choice, outcomes=tuple(_before_rotation(outcome, choice.keep) for outcome in choice.outcomes)
    )


def _before_rotation(
    outcome: DeactivateKey | HeldKey | RotateKey, keep: str | None
) -> DeactivateKey | HeldKey | RotateKey:
    if isinstance(outcome, DeactivateKey):
        later = f"; then `sparekey delete` frees its place, and `sparekey plan --rotate` replaces {keep}"
        return msgspec.structs.replace(outcome, why=outcome.why + later)
    if isinstance(outcome, HeldKey) and outcome.reason in _USED_KEYS:
        advice = outcome.release
        return make_hold("two-in-use", advice=advice).for_key(outcome.key, outcome.evidence)
    return outcome
