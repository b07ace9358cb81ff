"""From what was read to a plan: decide on each user, assemble the decisions. Pure."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import assert_never

import msgspec

from sparekey.decision import NO_OVERRIDES, DecisionContext, Overrides
from sparekey.errors import BadInputError
from sparekey.model import Account, Snapshot, Unreadable, Usage, User, Value
from sparekey.plan import LIFETIME, SCHEMA, ExemptedUser, Plan, PlannedAccount, Preconditions, Step, seal
from sparekey.policy import Policy
from sparekey.rotation import choose_or_rotate
from sparekey.selection import Choice, DeactivateKey, HeldKey, Outcome, RotateKey

IsWanted = Callable[[str, str], bool]
# Held for these reasons, a key may be released by what a usage source saw of the user's keys.
_REASONS_USAGE_CAN_LIFT = frozenset({"no-usage", "not-proven"})


class UserDecision(Value, frozen=True):
    """What was decided on one user: exempt, a choice, or neither where fewer than two keys are active."""

    account: str
    user: User
    exemption: ExemptedUser | None = None
    choice: Choice | None = None


def _everyone(_account: str, _user: str) -> bool:
    return True


def make_plan(
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    *,
    overrides: Overrides = NO_OVERRIDES,
    usages: Iterable[Usage] = (),
    is_wanted: IsWanted = _everyone,
) -> Plan:
    """Decide on every user (account, name) that is wanted; raises BadInputError for a key that none has."""
    context = DecisionContext(policy, now, snapshot.caller, overrides, usage_by_key(usages))
    return assemble(snapshot, context, decide_users(snapshot, context, is_wanted))


def decide_users(
    snapshot: Snapshot, context: DecisionContext, is_wanted: IsWanted = _everyone
) -> tuple[UserDecision, ...]:
    """The decision on every user that is wanted; raises BadInputError for overrides that clash or name no key."""
    wanted = [(account.id, user) for account, user in snapshot.users() if is_wanted(account.id, user.name)]
    _check_overrides(context.overrides, [user for _account, user in wanted])
    return tuple(_decide_user(account, user, context) for account, user in wanted)


def decide_with_usages(
    decisions: Iterable[UserDecision], context: DecisionContext
) -> tuple[UserDecision, ...]:
    """The same decisions; those on users whom a usage could release are made again, by the context's usages."""
    return tuple(
        _decide_user(decision.account, decision.user, context) if needs_usage(decision) else decision
        for decision in decisions
    )


def needs_usage(decision: UserDecision) -> bool:
    """True where what a usage source saw could change the decision."""
    return decision.choice is not None and any(
        isinstance(outcome, HeldKey) and outcome.reason in _REASONS_USAGE_CAN_LIFT
        for outcome in decision.choice.outcomes
    )


def _decide_user(account: str, user: User, context: DecisionContext) -> UserDecision:
    exempted = exemption_of(account, user, context)
    return UserDecision(
        account, user, exempted, None if exempted else choose_or_rotate(account, user, context)
    )


def assemble(snapshot: Snapshot, context: DecisionContext, decisions: Iterable[UserDecision]) -> Plan:
    """The plan of these decisions."""
    decisions = tuple(decisions)
    exempt = [decision.exemption for decision in decisions if decision.exemption]
    steps = [step for decision in decisions for step in _steps_of_decision(decision, context)]
    unread = {
        *_unread_notes(snapshot, decisions),
        *(entry for usage in context.usages.values() for entry in usage.unread),
    }
    plan = Plan(
        schema=SCHEMA,
        digest="",
        generated=context.now,
        expires=context.now + LIFETIME,
        caller=snapshot.caller.arn,
        policy_digest=context.policy.digest,
        overrides=context.overrides,
        accounts=tuple(sorted(map(_planned_account, snapshot.accounts), key=lambda account: account.id)),
        steps=tuple(sorted(steps, key=lambda step: (step.account, step.user, step.key))),
        exempt=tuple(sorted(exempt, key=lambda entry: (entry.account, entry.user))),
        unread=tuple(sorted(unread, key=lambda entry: (entry.what, entry.why))),
        notes=(*notes_on(steps, context.policy), *snapshot.caller.unknown),
        usages=tuple(usage for _key, usage in sorted(context.usages.items())),
    )
    return seal(plan)


def _steps_of_decision(decision: UserDecision, context: DecisionContext) -> Iterator[Step]:
    if decision.choice is None:
        return
    for step in steps_of(decision.account, decision.user, decision.choice):
        barred = never_reactivate(step, context.overrides, context.policy) or _has_leaked_key(decision.user)
        writes = step.action != "held"
        yield msgspec.structs.replace(step, never_reactivate=barred) if writes and barred else step


def never_reactivate(step: Step, overrides: Overrides, policy: Policy) -> str:
    """Why sparekey must not reactivate the key of a step by itself, whatever probes say; empty where it may.

    Anyone who controls a probe's endpoint could have a stolen key reactivated.
    """
    if step.key in overrides.never_reactivate:
        return "--never-reactivate"
    entry = policy.never_reactivates(step.account, step.user)
    if entry is None:
        return step.never_reactivate
    return f"policy: [[never_reactivate]] {entry.user!r}" + (f": {entry.reason}" if entry.reason else "")


def _has_leaked_key(user: User) -> str:
    """Why a forced key must be left inactive without --never-reactivate: AWS knows one as leaked."""
    quarantine = () if isinstance(user.quarantine, Unreadable) else user.quarantine
    return f"AWS has quarantined the user for a leaked key ({', '.join(quarantine)})" if quarantine else ""


def notes_on(steps: Iterable[Step], policy: Policy) -> tuple[str, ...]:
    """What a person should know before agreeing."""
    return tuple(_notes(steps, policy))


def _notes(steps: Iterable[Step], policy: Policy) -> Iterator[str]:
    steps = tuple(steps)
    users = {(step.account, step.user) for step in steps if step.action != "held"}
    blind = sum(not policy.probed(*user) for user in users)
    if blind:
        yield unprobed_note(blind, len(users))
    for step in steps:
        if step.reason == "forced" and not step.never_reactivate and policy.probed(step.account, step.user):
            yield (
                f"{step.key} of {step.user} is forced, and an unhealthy probe reactivates it automatically: "
                "if it is compromised, plan with --never-reactivate"
            )


def unprobed_note(unprobed: int, users: int) -> str:
    """The note on users whom no probe covers."""
    return f"no health probe covers {unprobed} of {users} users; a breakage would not be detected"


def usage_by_key(usages: Iterable[Usage]) -> dict[str, Usage]:
    """One usage for each key: a second one would hide what the first one saw."""
    by_key: dict[str, Usage] = {}
    for usage in usages:
        if usage.key in by_key:
            raise BadInputError(
                f"the usage of {usage.key} was read twice: from {by_key[usage.key].source} and {usage.source}",
                "Name one usage source for a plan.",
            )
        by_key[usage.key] = usage
    return by_key


def exemption_of(account: str, user: User, context: DecisionContext) -> ExemptedUser | None:
    """The exemption that lets this user have spare keys; a key that a person forces is not covered."""
    forced = any(key.id in context.overrides.force for key in user.active_keys)
    covered = len(user.active_keys) > 1 and not forced
    entry = context.policy.exemption("two-active-keys", account, user.name, context.now) if covered else None
    return ExemptedUser(account, user.name, entry.owner, entry.reason, entry.expires) if entry else None


def exempt_texts(entry: ExemptedUser) -> tuple[str, str]:
    """Why a key of an exempt user is held, and what releases it."""
    return (
        f"policy exempts this user until {entry.expires} ({entry.owner}: {entry.reason})",
        "remove the exemption from the policy and plan again, or plan with --force KEY --because TEXT",
    )


def _unread_notes(snapshot: Snapshot, decisions: Iterable[UserDecision]) -> Iterator[Unreadable]:
    for account in snapshot.accounts:
        if isinstance(account.users, Unreadable):
            yield Unreadable(f"account {account.id}", account.users.why, account.users.code)
        elif isinstance(account.quarantine, Unreadable):
            what = f"whom AWS has quarantined for a leaked key in account {account.id}"
            yield Unreadable(what, account.quarantine.why, account.quarantine.code)
    for decision in decisions:
        keys, name = decision.user.keys, decision.user.name
        if isinstance(keys, Unreadable):
            yield Unreadable(f"user {name} in account {decision.account}", keys.why, keys.code)


def steps_of(account: str, user: User, choice: Choice) -> tuple[Step, ...]:
    """The plan's steps for one user's choice: the same function serves planning and choosing again."""
    keys = () if isinstance(user.keys, Unreadable) else user.keys
    preconditions = Preconditions(
        arn=user.arn,
        statuses={key.id: key.status for key in sorted(keys, key=lambda key: key.id or "") if key.id},
        last_used={
            key.id: key.last_used.at
            for key in sorted(keys, key=lambda key: key.id or "")
            if key.id and key.active
        },
    )
    return tuple(
        _make_step(account, user.name, choice.keep, outcome, preconditions) for outcome in choice.outcomes
    )


def _make_step(
    account: str, user: str, keep: str | None, outcome: Outcome, preconditions: Preconditions
) -> Step:
    match outcome:
        case DeactivateKey(key, reason, why, evidence):
            return Step(account, user, keep, key, "deactivate", reason, why, "", evidence, preconditions)
        case HeldKey(key, reason, why, release, evidence):
            return Step(account, user, keep, key, "held", reason, why, release, evidence, preconditions)
        case RotateKey(key, reason, why, store, copies, evidence):
            return Step(
                account,
                user,
                None,
                key,
                "rotate",
                reason,
                why,
                "",
                evidence,
                preconditions,
                "",
                store,
                copies,
            )
        case _:
            assert_never(outcome)


def _planned_account(account: Account) -> PlannedAccount:
    users = () if isinstance(account.users, Unreadable) else account.users
    return PlannedAccount(
        account.id, account.partition, account.alias, sum(len(user.active_keys) for user in users)
    )


def _check_overrides(overrides: Overrides, users: Iterable[User]) -> None:
    both = sorted(set(overrides.keep) & set(overrides.force))
    if both:
        raise BadInputError(
            f"{both[0]} is named by --keep and by --force", "A key is either kept or deactivated."
        )
    spare = {key.id for user in users if len(user.active_keys) > 1 for key in user.active_keys}
    for key in (*overrides.keep, *overrides.force):
        if key not in spare:
            raise BadInputError(
                f"{key} is not an active key of a user with spare keys",
                "Name the id of an active key, and its user if you use --user; `sparekey audit` lists them.",
            )
    for key, because in overrides.force.items():
        if not because.strip():
            raise BadInputError(f"--force {key} needs a reason", "Add --because TEXT.")
    for key in overrides.never_reactivate:
        if key not in overrides.force:
            raise BadInputError(
                f"--never-reactivate names {key}, which --force does not", "Name it: --force KEY."
            )
