"""The guards: a flat list of refusals over a whole plan, asked before the first write."""

from collections import Counter
from collections.abc import Callable, Iterator

from sparekey.errors import RefusedError
from sparekey.model import ACTIVE, Caller, Value
from sparekey.plan import Plan


class Limits(Value, frozen=True):
    """How much one run may deactivate: the larger of `max_keys` and `max_share` of the active keys read.

    `account_keys` and `account_share` bind each account in the same way; None leaves accounts unbounded
    beyond the run's own limit.
    """

    max_keys: int = 50
    max_share: float = 0.2
    account_keys: int | None = None
    account_share: float | None = None


Guard = Callable[[Plan, Caller, Limits], Iterator[str]]


def refuse(plan: Plan, caller: Caller, limits: Limits) -> None:
    """Raise RefusedError with every refusal; return where there is none."""
    said = [text for guard in GUARDS for text in guard(plan, caller, limits)]
    if said:
        raise RefusedError("; ".join(said), "Nothing was changed. docs/safety.md explains each guard.")


def _kept_key_is_active(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """The key that stays was read as `Active`, for each key that goes."""
    del caller, limits
    for step in plan.deactivations:
        if step.keep is None or step.preconditions.statuses.get(step.keep) != ACTIVE:
            yield f"{step.account}/{step.user}: {step.key} would go without an active key to stay"


def _kept_key_never_goes(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """No key that stays in one step goes in another."""
    del caller, limits
    going = {(step.account, step.user, step.key) for step in plan.deactivations}
    for step in plan.deactivations:
        if (step.account, step.user, step.keep) in going:
            yield f"{step.account}/{step.user}: {step.keep} would both stay and go"


def _each_key_once(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Each key stands in one step only."""
    del caller, limits
    times = Counter((step.account, step.user, step.key) for step in plan.steps)
    for (account, user, key), count in sorted(times.items()):
        if count > 1:
            yield f"{account}/{user}: {key} stands in {count} steps"


def _only_accounts_that_were_read(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Keys go only in accounts that the plan says it read."""
    del caller, limits
    known = {account.id for account in plan.accounts}
    for account in sorted({step.account for step in plan.deactivations} - known):
        yield f"account {account}: the plan has steps for it and does not say that it was read"


def _never_the_callers_own(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """No key of a user that is, or may be, behind the credentials that sparekey runs with goes, forced or not."""
    del limits
    for step in plan.deactivations:
        listed = (step.key, *step.preconditions.statuses)
        found = caller.protects(step.account, step.user, listed)
        if found:
            what = "is" if found == "caller" else "may be"
            yield f"{step.account}/{step.user}: {step.key} {what} behind the credentials that sparekey runs with"


def _not_too_many(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """One run deactivates at most `--max-keys` keys or `--max-share` of those read, whichever is more."""
    del caller
    going = len(plan.deactivations)
    read = sum(account.active_keys for account in plan.accounts)
    allowed = max(limits.max_keys, int(read * limits.max_share))
    if going > allowed:
        yield (
            f"the plan deactivates {going} of {read} active keys; at most {allowed} are allowed "
            f"(--max-keys {limits.max_keys}, --max-share {limits.max_share:g})"
        )


def _not_too_many_in_one_account(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """The same in each account, where a limit for accounts is set."""
    del caller
    if limits.account_keys is None and limits.account_share is None:
        return
    going = Counter(step.account for step in plan.deactivations)
    for account in plan.accounts:
        allowed = max(limits.account_keys or 0, int(account.active_keys * (limits.account_share or 0)))
        if going[account.id] > allowed:
            yield (
                f"account {account.id}: {going[account.id]} of {account.active_keys} active keys; "
                f"at most {allowed} are allowed in one account"
            )


GUARDS: tuple[Guard, ...] = (
    _kept_key_is_active,
    _kept_key_never_goes,
    _each_key_once,
    _only_accounts_that_were_read,
    _never_the_callers_own,
    _not_too_many,
    _not_too_many_in_one_account,
)
