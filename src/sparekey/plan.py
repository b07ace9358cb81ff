"""The plan: sorted steps, the evidence and preconditions each was decided on, a digest over all of it.

One plan serves all: a dry run renders it, apply consumes it. The file is exactly `encode(plan)`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, assert_never

import msgspec

from sparekey.errors import BadInputError, RefusedError
from sparekey.formatting import escaped
from sparekey.model import Account, Caller, Evidence, Snapshot, Time, Unreadable, Usage, User, Value
from sparekey.policy import Policy
from sparekey.selection import NO_OVERRIDES, Choice, DeactivateKey, HeldKey, Outcome, Overrides, choose

SCHEMA = "sparekey/plan/1"
LIFETIME = timedelta(hours=24)


class PlanError(BadInputError):
    """The plan cannot be used as it is."""

    exit_code = 1
    default_hint = "Make a new one: sparekey plan -o plan.json"


class Preconditions(Value, frozen=True):
    """What was true when the step was decided: who it is, every key's status, the active ones' last use."""

    arn: str
    statuses: Mapping[str, str]
    last_used: Mapping[str, Time | None]


class Step(Value, frozen=True):
    """What becomes of one key; `keep` is the key that stays, None where nothing can be said.

    `never_reactivate` says why sparekey must not reactivate the key by itself; empty where it may.
    """

    account: str
    user: str
    keep: str | None
    key: str
    action: Literal["deactivate", "held"]
    reason: str
    why: str
    release: str
    evidence: tuple[Evidence, ...]
    preconditions: Preconditions
    never_reactivate: str = ""


class PlannedAccount(Value, frozen=True):
    """An account that the plan speaks for and the number of active keys that were read in it."""

    id: str
    partition: str
    alias: str
    active_keys: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class ExemptedUser(Value, frozen=True):
    """A user with spare keys whom policy lets have them for now."""

    account: str
    user: str
    owner: str
    reason: str
    expires: date


class Plan(Value, frozen=True):
    """Everything that apply needs to know, and nothing that it could not check."""

    schema: str
    digest: str
    generated: Time
    expires: Time
    caller: str
    policy_digest: str
    overrides: Overrides = msgspec.field(name="asked")
    accounts: tuple[PlannedAccount, ...]
    steps: tuple[Step, ...]
    exempt: tuple[ExemptedUser, ...] = ()
    unread: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    usages: tuple[Usage, ...] = ()

    @property
    def deactivations(self) -> tuple[Step, ...]:
        """The steps that write."""
        return tuple(step for step in self.steps if step.action == "deactivate")

    @property
    def held(self) -> tuple[Step, ...]:
        """The steps that are held."""
        return tuple(step for step in self.steps if step.action == "held")


def make_plan(
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    *,
    overrides: Overrides = NO_OVERRIDES,
    usages: Iterable[Usage] = (),
    is_wanted: Callable[[str, str], bool] = lambda _account, _user: True,
) -> Plan:
    """Decide on every user (account, name) that is `wanted`; raises BadInputError for a key that none has."""
    by_key = _usage_by_key(usages)
    chosen = [(account, user) for account, user in snapshot.users() if is_wanted(account.id, user.name)]
    _check_overrides(overrides, chosen)
    steps: list[Step] = []
    exempt: list[ExemptedUser] = []
    for account, user in chosen:
        exempted = exemption_of(account.id, user, policy, now, overrides)
        if exempted:
            exempt.append(exempted)
            continue
        choice = choose(
            account.id, user, policy, now, overrides=overrides, caller=snapshot.caller, usages=by_key
        )
        if choice:
            for step in steps_of(account.id, user, choice):
                barred = never_reactivate(step, overrides, policy) or _has_leaked_key(user)
                deactivates = step.action == "deactivate"
                steps.append(
                    msgspec.structs.replace(step, never_reactivate=barred) if deactivates and barred else step
                )
    plan = Plan(
        schema=SCHEMA,
        digest="",
        generated=now,
        expires=now + LIFETIME,
        caller=snapshot.caller.arn,
        policy_digest=policy.digest,
        overrides=overrides,
        accounts=tuple(sorted(map(_planned_account, snapshot.accounts), key=lambda account: account.id)),
        steps=tuple(sorted(steps, key=lambda step: (step.account, step.user, step.key))),
        exempt=tuple(sorted(exempt, key=lambda entry: (entry.account, entry.user))),
        unread=tuple(
            sorted(
                {
                    *_unread_notes(snapshot, chosen),
                    *(entry for usage in by_key.values() for entry in usage.unread),
                },
                key=lambda entry: (entry.what, entry.why),
            )
        ),
        notes=(*notes_on(steps, policy), *snapshot.caller.unknown),
        usages=tuple(usage for _key, usage in sorted(by_key.items())),
    )
    return seal(plan)


def seal(plan: Plan) -> Plan:
    """The plan with the digest that its content has."""
    return msgspec.structs.replace(plan, digest=_digest(msgspec.json.decode(msgspec.json.encode(plan))))


def never_reactivate(step: Step, overrides: Overrides, policy: Policy) -> str:
    """Why sparekey must not reactivate the key of a step by itself, whatever probes say; empty where it may.

    Whoever controls a probe's endpoint could bring a stolen key back.
    """
    if step.key in overrides.never_reactivate:
        return "--never-reactivate"
    entry = policy.never_reactivates(step.account, step.user)
    if entry is None:
        return step.never_reactivate
    return f"policy: [[never_reactivate]] {entry.user!r}" + (f": {entry.reason}" if entry.reason else "")


def _has_leaked_key(user: User) -> str:
    """Why a key that a person retires must stay inactive although nobody says so: AWS knows one as leaked."""
    quarantine = () if isinstance(user.quarantine, Unreadable) else user.quarantine
    return f"AWS has quarantined the user for a leaked key ({', '.join(quarantine)})" if quarantine else ""


def notes_on(steps: Iterable[Step], policy: Policy) -> tuple[str, ...]:
    """What a person should know before agreeing."""
    return tuple(_notes(steps, policy))


def _notes(steps: Iterable[Step], policy: Policy) -> Iterator[str]:
    steps = tuple(steps)
    users = {(step.account, step.user) for step in steps if step.action == "deactivate"}
    blind = sum(not policy.probed(*user) for user in users)
    if blind:
        yield f"nothing will notice a breakage for {blind} of {len(users)} users: no probe"
    for step in steps:
        if step.reason == "forced" and not step.never_reactivate and policy.probed(step.account, step.user):
            yield (
                f"{step.key} of {step.user} is forced, and an unhealthy probe reactivates it automatically: "
                "if it is compromised, plan with --never-reactivate"
            )


def _usage_by_key(usages: Iterable[Usage]) -> dict[str, Usage]:
    """One usage for each key: a second one would hide what the first one saw."""
    usage_by_key: dict[str, Usage] = {}
    for usage in usages:
        if usage.key in usage_by_key:
            raise BadInputError(
                f"the usage of {usage.key} was read twice: from {usage_by_key[usage.key].source} and {usage.source}",
                "Name one usage source for a plan.",
            )
        usage_by_key[usage.key] = usage
    return usage_by_key


def exemption_of(
    account: str, user: User, policy: Policy, now: datetime, overrides: Overrides
) -> ExemptedUser | None:
    """The exemption that lets this user have spare keys; a key that a person forces is not covered."""
    spare = len(user.active_keys) > 1 and not any(key.id in overrides.force for key in user.active_keys)
    entry = policy.exemption("two-active-keys", account, user.name, now) if spare else None
    return ExemptedUser(account, user.name, entry.owner, entry.reason, entry.expires) if entry else None


def exempt_texts(entry: ExemptedUser) -> tuple[str, str]:
    """Why a key of an exempt user is held, and what releases it."""
    return (
        f"policy exempts this user until {entry.expires} ({entry.owner}: {entry.reason})",
        "remove the exemption from the policy and plan again, or plan with --force KEY --because TEXT",
    )


def _unread_notes(snapshot: Snapshot, chosen: Iterable[tuple[Account, User]]) -> Iterator[Unreadable]:
    for account in snapshot.accounts:
        if isinstance(account.users, Unreadable):
            yield Unreadable(f"account {account.id}", account.users.why, account.users.code)
        elif isinstance(account.quarantine, Unreadable):
            what = f"whom AWS has quarantined for a leaked key in account {account.id}"
            yield Unreadable(what, account.quarantine.why, account.quarantine.code)
    for account, user in chosen:
        if isinstance(user.keys, Unreadable):
            yield Unreadable(f"user {user.name} in account {account.id}", user.keys.why, user.keys.code)


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
        case _:
            assert_never(outcome)


def _planned_account(account: Account) -> PlannedAccount:
    users = () if isinstance(account.users, Unreadable) else account.users
    return PlannedAccount(
        account.id, account.partition, account.alias, sum(len(user.active_keys) for user in users)
    )


def _check_overrides(overrides: Overrides, chosen: Iterable[tuple[Account, User]]) -> None:
    both = sorted(set(overrides.keep) & set(overrides.force))
    if both:
        raise BadInputError(f"{both[0]} is named by --keep and by --force", "A key either stays or goes.")
    spare = {key.id for _, user in chosen if len(user.active_keys) > 1 for key in user.active_keys}
    for key in (*overrides.keep, *overrides.force):
        if key not in spare:
            raise BadInputError(
                f"{key} is not an active key of a user with spare keys",
                "Name the id of an active key, and its user if you use --user; `sparekey audit` lists them.",
            )
    for key, because in overrides.force.items():
        if not because.strip():
            raise BadInputError(f"--force {key} needs a reason", "Say it with --because TEXT.")
    for key in overrides.never_reactivate:
        if key not in overrides.force:
            raise BadInputError(
                f"--never-reactivate names {key}, which --force does not", "Name it: --force KEY."
            )


def _digest(document: Mapping[str, Any]) -> str:
    """Over the document as it stands: a later version, which knows more fields, must come to the same."""
    return hashlib.sha256(msgspec.json.encode({**document, "digest": ""}, order="sorted")).hexdigest()


def _recomputed_digest(plan: Plan) -> str:
    """The same over what this version knows of it; equal where there is nothing else in it."""
    blank = msgspec.structs.replace(plan, digest="")
    return hashlib.sha256(msgspec.json.encode(blank, order="sorted")).hexdigest()


def encode(plan: Plan) -> bytes:
    """The plan's file: indented JSON that ends in a newline."""
    return escaped(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode()).encode() + b"\n"


def decode(content: bytes) -> Plan:
    """Read a plan's file; raises PlanError where it is truncated, of another version, or was edited."""
    try:
        schema = msgspec.json.decode(content, type=_SchemaVersion).schema
    except _NOT_JSON as error:
        raise PlanError(f"the plan is not whole: {_short_error(error)}") from error
    if schema != SCHEMA:
        raise PlanError(f"the plan has the schema {schema[:40]!r}; this version of sparekey reads {SCHEMA!r}")
    try:
        plan = msgspec.json.decode(content, type=Plan)
    except _NOT_JSON as error:
        raise PlanError(f"the plan was edited or made by another version: {_short_error(error)}") from error
    # By what is read of it first: for a large plan the document itself takes many times the memory.
    if plan.digest != _recomputed_digest(plan) and plan.digest != _digest(msgspec.json.decode(content)):
        raise PlanError("the plan was edited: its digest does not match its content")
    return plan


# msgspec lets the last two through as they are.
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _short_error(error: Exception) -> str:
    """What is wrong, in one line: an error may quote what it could not read."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 200


class _SchemaVersion(msgspec.Struct):
    schema: str


def check_usable(plan: Plan, caller: Caller, policy: Policy, now: datetime) -> None:
    """Refuse a plan that is older than `LIFETIME`, was made under another policy, or for another account.

    What the file names as its end can shorten the plan's life and never lengthen it.
    """
    end = min(plan.expires, _plus(plan.generated, LIFETIME))
    if now >= end:
        raise PlanError(f"the plan expired at {_minute(end)}: a plan is good for 24 hours")
    if _plus(plan.generated, -_CLOCKS_DIFFER) > now:
        raise PlanError(f"the plan was made in the future ({_minute(plan.generated)}): check the clock")
    if plan.policy_digest != policy.digest:
        raise PlanError("the policy is not the one that the plan was made under")
    ours = plan.caller.split(":")[4:5]
    if ours != [caller.account]:
        raise RefusedError(
            f"the plan was made in {''.join(ours)[:40]}, these credentials belong to {caller.account}",
            "Use the credentials that the plan was made with, or make a new plan.",
        )


_CLOCKS_DIFFER = timedelta(minutes=5)


def _plus(moment: datetime, length: timedelta) -> datetime:
    """A time so much later or earlier; where the calendar ends, the time itself."""
    try:
        return moment + length
    except OverflowError:
        return moment


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
