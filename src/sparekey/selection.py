"""Which of a user's active keys is kept, and what becomes of the others; pure, at a given `now`.

The steps are numbered as in docs/explanation/lifecycle.md. Absence of evidence never authorises an action.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import assert_never

import msgspec

from sparekey import cutover
from sparekey.decision import DecisionContext, Overrides
from sparekey.formatting import moment, span
from sparekey.model import ACTIVE, AccessKey, Evidence, Unreadable, Usage, User, Value
from sparekey.policy import Policy
from sparekey.service_names import same_service

# SES SMTP passwords are derived from a key's secret: the application shows as nothing but `ses`.
# https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
_SMTP_SERVICE = "ses"
_SMTP_USERS = "ses-smtp-user."
_SESSIONS = "sts"
_CALLERS_OWN = frozenset({"caller", "caller-unknown"})  # no force overrules these
# Holds that say why nothing can be done here at all, or what was asked for wrongly.
_OUTRANKS_QUARANTINE = _CALLERS_OWN | {"none-left"}
# IAM's last use is in steps of 15 minutes or more, so that it may lie before the creation of a key used at once.
_LAST_USED_RESOLUTION = timedelta(hours=1)
# What shows whether a key that mints sessions is at work.
_ASK_USAGE = (
    "; its only recorded use is sts, or no service: --usage history, archive=PLACE or athena=TABLE"
    " shows whether its sessions are in use"
)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class DeactivateKey(Value, frozen=True, tag="deactivate"):
    """This key can be switched off."""

    key: str
    reason: str
    why: str
    evidence: tuple[Evidence, ...] = ()


class HeldKey(Value, frozen=True, tag="held"):
    """This key is left alone; `release` is what would let it go."""

    key: str
    reason: str
    why: str
    release: str
    evidence: tuple[Evidence, ...] = ()


class RotateKey(Value, frozen=True, tag="rotate"):
    """A new key is created, and this one is deactivated once the applications have moved."""

    key: str
    reason: str
    why: str
    store: str
    copies: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()


Outcome = DeactivateKey | HeldKey | RotateKey


class Choice(Value, frozen=True):
    """The kept key (None where that is not decided) and an outcome for each other active key."""

    user: str
    keep: str | None
    outcomes: tuple[Outcome, ...]


# Each hold in one place: its code, why the key is held, and what would release it; docs/explanation/safety.md has them.
HOLD_REASONS: Mapping[str, tuple[str, str]] = {
    "caller": (
        "sparekey is running with credentials of this user",
        "run it with credentials of another identity (a role, or another user)",
    ),
    "caller-unknown": (
        "this user may be behind the credentials that sparekey is running with: {unknown}",
        "let sparekey take the session itself (a profile with role_arn and source_profile), and plan again",
    ),
    "no-probe": (
        "no health probe covers this user, and policy requires one",
        "add a probe that covers the user to the policy",
    ),
    "rotator": (
        "by policy, {tool} manages this user's keys and needs two of them",
        "remove the rotator entry for {pattern} from the policy, or --force one key",
    ),
    "smtp-user": (
        "by its name, this user's keys are SMTP passwords for SES",
        "move the mail senders to one key's SMTP password, then --force the other key",
    ),
    "smtp": (
        "{key} was last used for SES: it may be a mail server's SMTP password, whose use is recorded nowhere else",
        "find the mail senders that use it, then --force this key",
    ),
    "not-listed": ("the keys of this user were not listed", "plan again: it lists them"),
    "unknown-status": (
        "{key} has the status {status}, which sparekey does not know",
        "look at the key in the IAM console; update sparekey if AWS has a new status",
    ),
    "last-use-unread": (
        "the last use of {key} could not be read: {error}",
        "allow iam:GetAccessKeyLastUsed and plan again",
    ),
    "keep-twice": ("--keep names more than one key of this user", "name one key to keep"),
    "none-left": ("--force names every active key of this user", "leave one active key"),
    "no-young-key": (
        "no active key of this user is less than {age} old",
        "replace it: plan --rotate; or create a new key and move the applications; or keep an old key: --keep-old",
    ),
    "no-handover": (
        "no active key of this user is less than {age} old, and policy names no place to put a new one",
        "add a [[handover]] that covers {user} to the policy (docs/how-to/rotate.md), then plan --rotate",
    ),
    "no-slot": (
        "AWS allows two access keys per user, inactive ones included, and {idle} is {status}",
        "free its place: sparekey delete (7 days or more after a run deactivated it), then plan --rotate",
    ),
    "two-in-use": (
        "no key of this user is young, and AWS allows no third one beside the two that are active",
        "move the applications of one key to the other first ({advice}), then plan --rotate",
    ),
    "not-proven": (
        "a key is in use, but no young key has been shown to work",
        "move the applications to the newest key, then plan again once IAM shows its use; or --keep KEY",
    ),
    "impossible-times": (
        "IAM reports that {key} was last used at {used}, before its creation at {created}",
        "plan again in an hour; if IAM still reports it, find out who uses the key, then --force one key",
    ),
    "quarantine-unread": (
        "whether AWS has quarantined this user for a leaked key could not be read: {error}",
        "allow iam:ListEntitiesForPolicy and plan again",
    ),
    "quarantined": (
        "AWS has quarantined this user for a leaked key ({policies} is attached); its use may be an attacker's",
        "find the leaked key in AWS's support case, move its applications to another key, then --force it",
    ),
    "settling": (
        "{key} is {age} old, too new for its use to show; a rotation may be in progress",
        "plan again when it is {settle} old; if it is the new key, move the applications to it",
    ),
}


_UNREAD_LAST_USE = {
    "not_read": "it was not requested",
    "used": "it has no date",
    "unreadable": "no reason was given",
}


class HoldReason(Value, frozen=True):
    """A reason to leave a key, or every key of a user, alone."""

    reason: str
    why: str
    release: str

    def for_key(self, key: str, evidence: tuple[Evidence, ...]) -> HeldKey:
        return HeldKey(key, self.reason, self.why, self.release, evidence)


def make_hold(reason: str, **values: object) -> HoldReason:
    why, release = HOLD_REASONS[reason]
    return HoldReason(reason, why.format(**values), release.format(**values))


class _KeyUsage(Value, frozen=True):
    """An active key with all that a decision needs already read.

    `due` says that its rotation is due, whatever --keep-old lets it be.
    """

    id: str
    key: AccessKey
    created: datetime
    young: bool
    due_for_rotation: bool
    settling: bool
    used: bool
    proven: bool

    @property
    def idle(self) -> bool:
        return not self.settling and not self.used


def choose(account: str, user: User, context: DecisionContext) -> Choice | None:
    """Decide on one user whose keys were listed; None where fewer than two keys are active."""
    choice, policy = _choose(account, user, context), context.policy
    if choice is not None and user.quarantine:
        choice = _with_quarantine_hold(choice, user, context.now)
    if choice is None or not policy.require_probe or policy.probed(account, user.name):
        return choice
    # Policy wants somebody to notice a breakage, whatever a person forces.
    unprobed = make_hold("no-probe")
    outcomes = (
        outcome if isinstance(outcome, HeldKey) else unprobed.for_key(outcome.key, outcome.evidence)
        for outcome in choice.outcomes
    )
    return Choice(choice.user, choice.keep, tuple(outcomes))


def _choose(account: str, user: User, context: DecisionContext) -> Choice | None:
    active = tuple(sorted(user.active_keys, key=_order))
    if len(active) < 2:
        return None
    keys = hold_on_user(account, user, active, context) or _classify(active, context)
    if isinstance(keys, HoldReason):
        return _hold_all(user.name, active, keys, context)
    kept = _select_kept(keys, context)
    if isinstance(kept, HoldReason):
        return _hold_all(user.name, active, kept, context)
    outcomes = _decide(keys, kept, context)
    return Choice(user.name, kept.id, tuple(sorted(outcomes, key=lambda outcome: outcome.key)))


def _with_quarantine_hold(choice: Choice, user: User, now: datetime) -> Choice:
    """Hold the keys of a user whom AWS has quarantined, or may have, but those that a person retires.

    Which key leaked is not known: no key is kept for being used, none is let go for being idle.
    """
    if isinstance(user.quarantine, Unreadable):
        hold, fact = make_hold("quarantine-unread", error=user.quarantine.why), "could not be read"
    else:
        policies = ", ".join(user.quarantine)
        hold, fact = make_hold("quarantined", policies=policies), f"{policies} is attached to {user.name}"
    evidence = (Evidence("iam:ListEntitiesForPolicy", fact),)
    if any(
        isinstance(outcome, HeldKey) and outcome.reason in _OUTRANKS_QUARANTINE for outcome in choice.outcomes
    ):
        return choice
    if not any(
        isinstance(outcome, DeactivateKey) and outcome.reason == "forced" for outcome in choice.outcomes
    ):
        keys = sorted(user.active_keys, key=_order)
        return Choice(
            user.name,
            None,
            tuple(hold.for_key(key.id, key_evidence(key, now) + evidence) for key in keys if key.id),
        )
    outcomes = (
        outcome
        if isinstance(outcome, DeactivateKey) and outcome.reason == "forced"
        else hold.for_key(outcome.key, outcome.evidence + evidence)
        for outcome in choice.outcomes
    )
    return Choice(choice.user, choice.keep, tuple(outcomes))


def _order(key: AccessKey) -> str:
    return key.id or ""


def hold_on_user(
    account: str, user: User, active: tuple[AccessKey, ...], context: DecisionContext
) -> HoldReason | None:
    """Step 5 where it concerns the user; and one key is kept, whatever is forced."""
    listed = user.keys if isinstance(user.keys, tuple) else active
    match context.caller.protects(account, user.name, [key.id for key in listed]):
        case "caller":
            return make_hold("caller")
        case "caller-unknown":
            return make_hold("caller-unknown", unknown="; ".join(context.caller.unknown))
    if all(key.id in context.overrides.force for key in active):
        return make_hold("none-left")
    rotator = context.policy.rotator(account, user.name)
    if rotator:
        return make_hold("rotator", tool=rotator.tool, pattern=repr(rotator.user))
    if user.name.startswith(_SMTP_USERS):
        return make_hold("smtp-user")
    return None


def _classify(active: tuple[AccessKey, ...], context: DecisionContext) -> list[_KeyUsage] | HoldReason:
    """Name each key young, settling, used, proven; newest first. What was not read holds the user."""
    policy, now = context.policy, context.now
    keys = []
    for key in active:
        if key.id is None or key.created is None:
            return make_hold("not-listed")
        if key.status != ACTIVE:
            return make_hold("unknown-status", key=key.id, status=repr(key.status))
        last_used = key.last_used
        undated = last_used.state == "used" and last_used.at is None
        if undated or last_used.state in ("not_read", "unreadable"):
            return make_hold(
                "last-use-unread", key=key.id, error=last_used.why or _UNREAD_LAST_USE[last_used.state]
            )
        if last_used.at is not None and last_used.at < key.created - _LAST_USED_RESOLUTION:
            return make_hold(
                "impossible-times", key=key.id, used=moment(last_used.at), created=moment(key.created)
            )
        age = now - key.created
        recently_used = last_used.at is not None and now - last_used.at < policy.quiet
        usage = context.usages.get(key.id)
        # IAM's last use is late: what a usage source saw is a use as well.
        seen = usage is not None and usage.last_seen is not None and now - usage.last_seen < policy.quiet
        keys.append(
            _KeyUsage(
                id=key.id,
                key=key,
                created=key.created,
                young=age < policy.max_key_age or context.overrides.keep_old,
                due_for_rotation=age >= policy.max_key_age,
                settling=age < policy.settle,
                used=recently_used or seen,
                proven=(recently_used and last_used.service not in (None, _SESSIONS))
                or _is_working(usage, policy, now),
            )
        )
    return sorted(keys, key=lambda key: (key.created, key.id), reverse=True)


def _is_working(usage: Usage | None, policy: Policy, now: datetime) -> bool:
    """Whether a usage source saw more than the minting of sessions: that proves a login, not an application."""
    return usage is not None and any(
        use.service != _SESSIONS and use.calls > use.errors and now - use.last_seen < policy.quiet
        for consumer in usage.consumers
        for use in consumer.uses
    )


def _select_kept(keys: list[_KeyUsage], context: DecisionContext) -> _KeyUsage | HoldReason:
    """Steps 1 to 4 and 6: the key to keep, or a hold on the whole user."""
    named = [key for key in keys if key.id in context.overrides.keep]
    candidates = [key for key in keys if key.id not in context.overrides.force]
    young = [key for key in candidates if key.young]
    proven = [key for key in young if key.proven]
    if len(named) > 1:
        return make_hold("keep-twice")
    if named or proven:
        return (named or proven)[0]
    if not young:
        return make_hold("no-young-key", age=span(context.policy.max_key_age))
    if any(key.used for key in candidates):
        unproven = [key.id for key in young if key.used and key.id not in context.usages]
        hold = make_hold("not-proven")
        return msgspec.structs.replace(hold, release=hold.release + _ASK_USAGE) if unproven else hold
    if any(key.settling for key in candidates):
        return _settling(candidates[0], context)
    return young[0]


def _settling(key: _KeyUsage, context: DecisionContext) -> HoldReason:
    return make_hold(
        "settling", key=key.id, age=span(context.now - key.created), settle=span(context.policy.settle)
    )


def _decide(keys: list[_KeyUsage], keep: _KeyUsage, context: DecisionContext) -> list[Outcome]:
    """An outcome for each key beside the kept one; each notes where that one is due for rotation."""
    seen = any(key.used for key in keys)
    outcomes: list[Outcome] = []
    for key in keys:
        if key.id == keep.id:
            continue
        evidence = key_evidence(keep.key, context.now) + key_evidence(key.key, context.now)
        outcome = (
            _forced_outcome(key.id, context.overrides, evidence)
            if key.id in context.overrides.force
            else _judge_key(key, keep, seen, context, evidence)
        )
        if keep.due_for_rotation:
            due = f"; {keep.id} is {span(context.now - keep.created)} old: its rotation is still due"
            outcome = msgspec.structs.replace(outcome, why=outcome.why + due)
        outcomes.append(outcome)
    return outcomes


def _judge_key(
    key: _KeyUsage,
    keep: _KeyUsage,
    seen: bool,
    context: DecisionContext,
    evidence: tuple[Evidence, ...],
) -> Outcome:
    """What becomes of one key beside the kept one; `seen` where any key of the user was used."""
    if same_service(key.key.last_used.service or "", _SMTP_SERVICE):
        return make_hold("smtp", key=key.id).for_key(key.id, evidence)
    if key.settling:
        return _settling(key, context).for_key(key.id, evidence)
    if key.idle:
        quiet = span(context.policy.quiet)
        why = f"not used for {quiet}" + (f"; {keep.id} is in use" if keep.used else "")
        if not seen:
            why = f"no use of any key of this user was seen in {quiet}; {keep.id} is kept"
        return DeactivateKey(key.id, "idle", why, evidence)
    verdict = cutover.have_consumers_moved(key.key, keep.key, context)
    match verdict:
        case cutover.ConsumersMoved(why=why, evidence=shown):
            return DeactivateKey(key.id, "cutover", why, evidence + shown)
        case cutover.ConsumersNotMoved(reason=reason, why=why, release=release, evidence=shown):
            return HeldKey(key.id, reason, why, release, evidence + shown)
        case _:
            assert_never(verdict)


def _forced_outcome(key: str, overrides: Overrides, evidence: tuple[Evidence, ...]) -> DeactivateKey:
    because = overrides.force[key]
    evidence_item = Evidence("--force", f"a person retires this key because: {because}", key)
    return DeactivateKey(key, "forced", f"forced: {because}", (*evidence, evidence_item))


def _hold_all(user: str, active: tuple[AccessKey, ...], hold: HoldReason, context: DecisionContext) -> Choice:
    """Hold every key; step 6: a forced key is deactivated if one that works is kept, unless it may be the caller's."""
    overrides, now = context.overrides, context.now
    forced = {key.id for key in active if key.id in overrides.force and key.status == ACTIVE}
    rest = [key for key in active if key.id and key.id not in forced and key.status == ACTIVE]
    keep = None
    if forced and rest and hold.reason not in _CALLERS_OWN:
        keep = max(
            rest,
            key=lambda key: (
                key.id in overrides.keep,
                key.last_used.at or _LONG_AGO,
                key.created or _LONG_AGO,
                _order(key),
            ),
        )
    outcomes: list[Outcome] = []
    for key in active:
        if key.id is None or key is keep:
            continue
        if keep and key.id in forced:
            outcomes.append(
                _forced_outcome(key.id, overrides, key_evidence(keep, now) + key_evidence(key, now))
            )
        else:
            outcomes.append(hold.for_key(key.id, key_evidence(key, now)))
    return Choice(user, keep.id if keep else None, tuple(outcomes))


def key_evidence(key: AccessKey, now: datetime) -> tuple[Evidence, ...]:
    """What IAM reports of one key, as evidence."""
    name = key.id or ""
    age = f", {span(now - key.created)} old" if key.created else ""
    listed = Evidence("iam:ListAccessKeys", f"{key.status}{age}", name, key.created)
    used = key.last_used
    match used.state:
        case "used":
            ago = f" {span(now - used.at)} ago" if used.at else ""
            text = f"last used{ago} for {cutover.service_and_region(used)}"
        case "never":
            text = "never used"
        case "not_read":
            text = "last use not read"
        case "unreadable":
            text = f"last use could not be read: {used.why}"
        case _:
            assert_never(used.state)
    return listed, Evidence("iam:GetAccessKeyLastUsed", text, name, used.at)
