"""The guards: a flat list of refusals over a whole plan, asked before the first write."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from sparekey.errors import BadInputError, RefusedError
from sparekey.model import ACTIVE, Caller, Value
from sparekey.plan import Plan


class Limits(Value, frozen=True):
    """How much one run may deactivate; a limit that a person names binds, None is one that nobody named.

    Where neither `max_keys` nor `max_share` (of the active keys read) is named, the larger of their defaults
    holds, so that a small account can be worked on. `account_keys` and `account_share` bind each account;
    they have no defaults.
    """

    max_keys: int | None = None
    max_share: float | None = None
    account_keys: int | None = None
    account_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse a share that is none: a NaN passes every comparison of a range."""
        for option, share in (
            ("--max-share", self.max_share),
            ("--max-account-share", self.account_share),
        ):
            if share is not None and not 0 <= share <= 1:
                raise BadInputError(f"{option} {share:g} is not a share from 0 to 1", "Such as 0.2.")

    def allowed(self, read: int) -> int:
        """How many keys a run may deactivate where so many active ones were read."""
        named = _binding(self.max_keys, self.max_share, read)
        return max(DEFAULT_KEYS, _share(DEFAULT_SHARE, read)) if named is None else named

    def allowed_in_account(self, read: int) -> int | None:
        """The same in one account where so many active keys were read; None where nothing bounds it."""
        return _binding(self.account_keys, self.account_share, read)

    def needs_key_counts(self, deactivations: int) -> bool:
        """True where the number of active keys that were read can decide whether so many are too many."""
        unnamed = self.max_keys is None and self.max_share is None
        run = self.max_share is not None or (unnamed and deactivations > DEFAULT_KEYS)
        return run or self.account_share is not None


DEFAULT_KEYS = 50
DEFAULT_SHARE = 0.2
# Of each guard's refusals: a plan may be large, and one sentence is enough to know what is wrong with it.
_SHOWN = 5

Guard = Callable[[Plan, Caller, Limits], Iterator[str]]


def _binding(keys: int | None, share: float | None, read: int) -> int | None:
    """The smaller of the limits that were named; None where none was."""
    limits = [limit for limit in (keys, None if share is None else _share(share, read)) if limit is not None]
    return min(limits, default=None)


def _share(share: float, read: int) -> int:
    """So many whole keys: 0.29 of 100 is 29, although it is 28.999… in binary."""
    return int(round(read * share, 6))


def refusals(plan: Plan, caller: Caller, limits: Limits) -> None:
    """Raise RefusedError with what each guard refuses; return where none does."""
    texts = [text for guard in GUARDS for text in _shorten(guard(plan, caller, limits))]
    if texts:
        raise RefusedError(
            "; ".join(texts), "Nothing was changed. docs/explanation/safety.md explains each guard."
        )


def _shorten(refusals: Iterator[str]) -> Iterator[str]:
    yield from islice(refusals, _SHOWN)
    more = sum(1 for _ in refusals)
    if more:
        yield f"and {more:,} more like it"


def _kept_key_is_active(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """The key to keep was read as `Active`, for each key to deactivate."""
    del caller, limits
    for step in plan.deactivations:
        if step.keep is None or step.preconditions.statuses.get(step.keep) != ACTIVE:
            yield f"{step.account}/{step.user}: {step.key} would be deactivated without an active key to keep"


def _kept_key_is_not_deactivated(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """No key that one step keeps is deactivated by another."""
    del caller, limits
    going = {(step.account, step.user, step.key) for step in plan.deactivations}
    for step in plan.deactivations:
        if (step.account, step.user, step.keep) in going:
            yield f"{step.account}/{step.user}: {step.keep} would be both kept and deactivated"


def _each_key_once(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Each key stands in one step only."""
    del caller, limits
    times = Counter((step.account, step.user, step.key) for step in plan.steps)
    for (account, user, key), count in sorted(times.items()):
        if count > 1:
            yield f"{account}/{user}: {key} stands in {count} steps"


def _only_accounts_that_were_read(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Keys go only in accounts that the plan states it read."""
    del caller, limits
    known = {account.id for account in plan.accounts}
    for account in sorted({step.account for step in plan.writes} - known):
        yield f"account {account}: the plan has steps for it but does not list it as read"


def _never_the_callers_own(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """No key of a user that is, or may be, behind sparekey's own credentials is deactivated, forced or not."""
    del limits
    for step in plan.writes:
        listed = (step.key, *step.preconditions.statuses)
        protection = caller.protects(step.account, step.user, listed)
        if protection:
            what = "is" if protection == "caller" else "may be"
            yield f"{step.account}/{step.user}: {step.key} {what} behind the credentials that sparekey runs with"


def _each_account_once(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Each account is named once: its keys count once."""
    del caller, limits
    for account, count in sorted(Counter(account.id for account in plan.accounts).items()):
        if count > 1:
            yield f"account {account}: the plan names it {count:,} times"


def _users_of_their_account(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """Each user's ARN names the user, the account and the partition that the step and the caller name."""
    del limits
    partition = caller.arn.split(":")[1:2]
    for step in plan.writes:
        head, _, rest = step.preconditions.arn.partition(":user/")
        fits = head.split(":") == ["arn", *partition, "iam", "", step.account]
        if not fits or rest.rpartition("/")[2] != step.user:
            yield f"{step.account}/{step.user}: {step.preconditions.arn!r} is not the ARN of this user"


def _not_too_many(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """One run deactivates at most `--max-keys` keys and at most `--max-share` of the active keys read."""
    del caller
    going = len(plan.writes)
    read = sum(account.active_keys for account in plan.accounts)
    allowed = limits.allowed(read)
    if going > allowed:
        yield (
            f"the plan deactivates {going:,} of {read:,} active keys; at most {allowed:,} are allowed "
            f"({_named_limits(limits)})"
        )


def _named_limits(limits: Limits) -> str:
    """The limits that hold, as a person would name them."""
    keys, share = limits.max_keys, limits.max_share
    if keys is None and share is None:
        return (
            f"{DEFAULT_KEYS} keys or {DEFAULT_SHARE:.0%}, whichever is more; --max-keys names another limit"
        )
    named = ("" if keys is None else f"--max-keys {keys}", "" if share is None else f"--max-share {share:g}")
    return " and ".join(filter(None, named))


def _not_too_many_in_one_account(plan: Plan, caller: Caller, limits: Limits) -> Iterator[str]:
    """In each account at most `--max-account-keys` and `--max-account-share`, where they are named."""
    del caller
    going = Counter(step.account for step in plan.writes)
    for account in plan.accounts:
        allowed = limits.allowed_in_account(account.active_keys)
        if allowed is not None and going[account.id] > allowed:
            yield (
                f"account {account.id}: {going[account.id]:,} of {account.active_keys:,} active keys; "
                f"at most {allowed:,} are allowed in one account"
            )


GUARDS: tuple[Guard, ...] = (
    _kept_key_is_active,
    _kept_key_is_not_deactivated,
    _each_key_once,
    _only_accounts_that_were_read,
    _each_account_once,
    _users_of_their_account,
    _never_the_callers_own,
    _not_too_many,
    _not_too_many_in_one_account,
)
