"""The plan: sorted steps, the evidence and preconditions each was decided on, a digest over all of it.

One plan serves all: a dry run renders it, apply consumes it. The file is exactly `encode(plan)`; `planner` makes it.
"""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from sparekey.decision import Overrides
from sparekey.errors import BadInputError, RefusedError
from sparekey.formatting import escaped, moment
from sparekey.model import Caller, Evidence, Time, Unreadable, Usage, Value
from sparekey.policy import Policy

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
    """What becomes of one key; `keep` is the kept key, None where that is not decided.

    `never_reactivate` is why sparekey must not reactivate the key by itself; empty where it may. A step that rotates
    has no kept key yet; `store` and `copies` are where the new key's secret is put.
    """

    account: str
    user: str
    keep: str | None
    key: str
    action: Literal["deactivate", "held", "rotate"]
    reason: str
    why: str
    release: str
    evidence: tuple[Evidence, ...]
    preconditions: Preconditions
    never_reactivate: str = ""
    store: str = ""
    copies: tuple[str, ...] = ()


class PlannedAccount(Value, frozen=True):
    """An account that the plan covers and the number of active keys that were read in it."""

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
        """The steps that deactivate a key beside one that is young and active."""
        return tuple(step for step in self.steps if step.action == "deactivate")

    @property
    def rotations(self) -> tuple[Step, ...]:
        """The steps that create a new key and deactivate the old one once the applications have moved."""
        return tuple(step for step in self.steps if step.action == "rotate")

    @property
    def writes(self) -> tuple[Step, ...]:
        """The steps that write: each ends with its key deactivated."""
        return tuple(step for step in self.steps if step.action != "held")

    @property
    def held(self) -> tuple[Step, ...]:
        """The steps that are held."""
        return tuple(step for step in self.steps if step.action == "held")


def seal(plan: Plan) -> Plan:
    """The plan with the digest that its content has."""
    return msgspec.structs.replace(plan, digest=_digest(msgspec.json.decode(msgspec.json.encode(plan))))


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
        raise PlanError(f"the plan expired at {moment(end)}: a plan is good for 24 hours")
    if _plus(plan.generated, -_CLOCKS_DIFFER) > now:
        raise PlanError(f"the plan was made in the future ({moment(plan.generated)}): check the clock")
    if plan.policy_digest != policy.digest:
        raise PlanError("the policy is not the one that the plan was made under")
    ours = plan.caller.split(":")[4:5]
    if ours != [caller.account]:
        raise RefusedError(
            f"the plan was made in {''.join(ours)[:40]}, these credentials belong to {caller.account}",
            "Use the credentials that the plan was made with, or make a new plan.",
        )


_CLOCKS_DIFFER = timedelta(minutes=5)


def _plus(at: datetime, length: timedelta) -> datetime:
    """A time so much later or earlier; where the calendar ends, the time itself."""
    try:
        return at + length
    except OverflowError:
        return at
