"""What a run was opened with: plan, policy, options, callers, and the wave of each user."""

from datetime import datetime
from threading import Lock
from typing import Any

import msgspec

from sparekey.errors import BadInputError
from sparekey.ledger.events import (
    RunOpened,
    RunOptions,
    read_event,
)
from sparekey.ledger.records import LedgerEntry
from sparekey.model import Caller, Value
from sparekey.plan import Plan, Step, decode
from sparekey.policy import Policy, decode_policy
from sparekey.runs.key_facts import UserId


class RunHeader(Value, frozen=True):
    """What a run was opened with; `plan_digest` is that of the plan's file.

    `plan` has another digest where it was decided again before the run was opened.
    """

    id: str
    plan: Plan
    plan_digest: str
    caller: Caller
    policy: Policy
    options: RunOptions
    reverse: tuple[str, ...]
    opened: datetime

    def users(self) -> dict[UserId, tuple[Step, ...]]:
        """The users with something to deactivate and their steps, sorted."""
        users: dict[UserId, tuple[Step, ...]] = {}
        for step in self.plan.writes:
            user = (step.account, step.user)
            users[user] = (*users.get(user, ()), step)
        return users

    def wave_of(self) -> dict[UserId, int]:
        """The number of each user's wave, from 1."""
        return _assign_waves(tuple(self.users()), self.options.waves)


def _assign_waves(users: tuple[UserId, ...], sizes: tuple[int | None, ...]) -> dict[UserId, int]:
    wave_of: dict[UserId, int] = {}
    rest = list(users)
    for number, size in enumerate(sizes, 1):
        taken, rest = (rest, []) if size is None else (rest[:size], rest[size:])
        wave_of.update(dict.fromkeys(taken, number))
    # Sizes that do not reach the end are followed by one last wave.
    wave_of.update(dict.fromkeys(rest, len(sizes) + 1))
    return wave_of


PAGE = 1000
_KEPT_RUNS = 8
_opened: dict[str, RunHeader] = {}
_opening = Lock()


def open_run(entry: LedgerEntry) -> RunHeader:
    """A run from its first entry; the last few are kept, for a plan may be large."""
    with _opening:  # the console reads of runs in many threads
        if entry.hash not in _opened:
            while len(_opened) >= _KEPT_RUNS:
                del _opened[next(iter(_opened))]
            _opened[entry.hash] = _read_opening(entry)
        return _opened[entry.hash]


def opened_run(opening: str) -> RunHeader | None:
    """A run by the hash of its first entry, if it is one of the last that were opened here."""
    return _opened.get(opening)


def _read_opening(entry: LedgerEntry) -> RunHeader:
    event = read_event(entry)
    if not isinstance(event, RunOpened):
        raise BadInputError(f"the ledger of run {entry.run} does not begin with its opening")
    return RunHeader(
        id=entry.run,
        plan=decode(event.plan.encode()),
        plan_digest=event.plan_digest,
        caller=event.caller,
        policy=decode_policy(event.policy),
        options=event.options,
        reverse=event.reverse,
        opened=entry.at,
    )


def policy_of(policy: Policy) -> dict[str, Any]:
    """A policy as plain values for the ledger."""
    plain: dict[str, Any] = msgspec.to_builtins(policy, enc_hook=str)
    return plain
