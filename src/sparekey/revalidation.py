"""A plan decided again: the keys its file names, judged by AWS and the policy now. Pure.

Of a plan that this state did not make only the wishes are taken: whose keys, which of them, and what a person
overruled. The choice, its reasons and evidence, exemptions and the time are new, and nothing is
deactivated that the file does not name.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from sparekey.decision import DecisionContext, Overrides
from sparekey.model import Snapshot, Unreadable, Usage, User
from sparekey.plan import ExemptedUser, Plan, PlannedAccount, Preconditions, Step, seal
from sparekey.planner import (
    UserDecision,
    assemble,
    decide_users,
    exempt_texts,
    exemption_of,
    notes_on,
    usage_by_key,
)
from sparekey.policy import Policy

UserId = tuple[str, str]
_NO_USAGE = ("no-usage", "not-proven")
_PLAN_AGAIN = "make a new plan"
NO_KEY_COUNTS: Mapping[str, int] = {}


def users_of(plan: Plan) -> tuple[UserId, ...]:
    """Every user (account, name) of whom the plan has a step, sorted."""
    return tuple(sorted({(step.account, step.user) for step in plan.steps}))


def overrides_for(overrides: Overrides, snapshot: Snapshot) -> Overrides:
    """What a person overruled, as far as it concerns an active key of a user with spare keys."""
    spare = {key.id for _, user in snapshot.users() if len(user.active_keys) > 1 for key in user.active_keys}
    force = {key: because for key, because in overrides.force.items() if key in spare}
    return Overrides(
        keep=tuple(key for key in overrides.keep if key in spare),
        force=force,
        keep_old=overrides.keep_old,
        never_reactivate=tuple(key for key in overrides.never_reactivate if key in force),
        rotate=overrides.rotate,
    )


def with_key_counts(plan: Plan, counts: Mapping[str, int]) -> Plan:
    """The plan with these numbers of active keys by account; an account without one has none."""
    accounts = tuple(
        msgspec.structs.replace(account, active_keys=counts.get(account.id, 0)) for account in plan.accounts
    )
    return msgspec.structs.replace(plan, accounts=accounts)


def rebuild_plan(
    plan: Plan,
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    usages: Iterable[Usage] = (),
    counts: Mapping[str, int] = NO_KEY_COUNTS,
) -> Plan:
    """The same plan from what was read of its users just now; raises BadInputError for overrides that clash.

    A step that does not result again is held, and the reason says what differs. `usages` and `counts` (active
    keys by account) were read by ourselves; those in the file are left out.
    """
    overrides = overrides_for(plan.overrides, snapshot)
    context = DecisionContext(policy, now, snapshot.caller, overrides, usage_by_key(usages))
    return rebuild_from(plan, snapshot, context, decide_planned_users(plan, snapshot, context), counts)


def decide_planned_users(
    plan: Plan, snapshot: Snapshot, context: DecisionContext
) -> tuple[UserDecision, ...]:
    """The decision of now on every user of whom the plan has a step."""
    planned = frozenset(users_of(plan))
    return decide_users(snapshot, context, lambda account, user: (account, user) in planned)


def rebuild_from(
    plan: Plan,
    snapshot: Snapshot,
    context: DecisionContext,
    decisions: Iterable[UserDecision],
    counts: Mapping[str, int] = NO_KEY_COUNTS,
) -> Plan:
    """The same plan, its steps as these decisions on its users have them."""
    policy, now = context.policy, context.now
    fresh = assemble(snapshot, context, decisions)
    is_unbound = bool(plan.usages) and not context.usages
    by_key = {(step.account, step.user, step.key): step for step in fresh.steps}
    users = {(account.id, user.name): user for account, user in snapshot.users()}
    steps = tuple(
        _unchanged(step, by_key.get((step.account, step.user, step.key)), is_unbound)
        or _missing_user_step(step, users.get((step.account, step.user)), context)
        for step in plan.steps
    )
    read = {account.id: account for account in fresh.accounts}
    fresh = msgspec.structs.replace(
        fresh,
        steps=tuple(sorted(steps, key=lambda step: (step.account, step.user, step.key))),
        exempt=tuple(_newly_exempt(plan, fresh, policy, now)),
        unread=tuple(sorted({*fresh.unread, *plan.unread}, key=lambda entry: (entry.what, entry.why))),
        accounts=tuple(_planned_account(account, read, counts) for account in plan.accounts),
    )
    return seal(msgspec.structs.replace(fresh, notes=notes_on(fresh.steps, policy)))


def _unchanged(step: Step, again: Step | None, unbound: bool) -> Step | None:
    """The step as it results now, and held where that is another one; None where none results.

    `unbound`: the file has usages, and none was read again.
    """
    if again is None:
        return None
    if again.action == "held":
        if unbound and again.reason in _NO_USAGE:
            return _held_step(
                again,
                "usage-unbound",
                f"{again.why}: the usages in the file are not used, for this state did not make the plan",
                "apply --usage SOURCE reads them again; or plan and apply with the same state",
            )
        return again
    if step.action == "held":
        return _held_step(
            again, "changed", "the plan holds this key; it could be deactivated now", _PLAN_AGAIN
        )
    if (again.keep, again.reason) != (step.keep, step.reason):
        why = f"decided again, {again.keep} is kept: [{again.reason}] {again.why}"
        return _held_step(again, "changed", why, _PLAN_AGAIN)
    return again


def _held_step(step: Step, reason: str, why: str, release: str) -> Step:
    return msgspec.structs.replace(step, action="held", reason=reason, why=why, release=release)


def _missing_user_step(step: Step, user: User | None, context: DecisionContext) -> Step:
    """Held: of this key there is nothing to decide now."""
    exempted = exemption_of(step.account, user, context) if user else None
    reason, why, release = "changed", "the user no longer exists", _PLAN_AGAIN
    if exempted:
        reason, (why, release) = "exempt", exempt_texts(exempted)
    elif user and isinstance(user.keys, Unreadable):
        reason = "unread"
        why, release = f"the keys of the user could not be read: {user.keys.why}", "allow iam:ListAccessKeys"
    elif user and not any(key.id == step.key for key in user.active_keys):
        why = "the user has no such active key"
    elif user:
        why = "decided again, this key is kept, or is the user's only active key"
    return Step(
        account=step.account,
        user=step.user,
        keep=None,
        key=step.key,
        action="held",
        reason=reason,
        why=why,
        release=release,
        evidence=(),
        preconditions=Preconditions(user.arn if user else "", {}, {}),
    )


def _newly_exempt(plan: Plan, fresh: Plan, policy: Policy, now: datetime) -> Iterator[ExemptedUser]:
    """The exempt users that the file names, by the policy now, and those found since."""
    known = {(entry.account, entry.user): entry for entry in fresh.exempt}
    for entry in plan.exempt:
        exemption = policy.exemption("two-active-keys", entry.account, entry.user, now)
        if exemption:
            known[entry.account, entry.user] = ExemptedUser(
                entry.account, entry.user, exemption.owner, exemption.reason, exemption.expires
            )
    yield from (entry for _, entry in sorted(known.items()))


def _planned_account(
    account: PlannedAccount, read: Mapping[str, PlannedAccount], counts: Mapping[str, int]
) -> PlannedAccount:
    """What was read of an account just now: all active keys if they were counted, else those of its steps' users."""
    fresh = read.get(account.id) or PlannedAccount(account.id, account.partition, "", 0)
    return msgspec.structs.replace(fresh, active_keys=counts.get(account.id, fresh.active_keys))
