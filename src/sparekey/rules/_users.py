"""What the rules over users share: unreadable users, exemptions and the verdict on one user."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import assert_never

from sparekey.model import AccessKey, Account, Finding, Unreadable, User
from sparekey.policy import Policy


def judge_users(
    rule: str,
    account: Account,
    policy: Policy,
    now: datetime,
    fails: Callable[[tuple[AccessKey, ...]], str | Unreadable | None],
) -> Iterator[Finding]:
    """A finding for each user that is UNREADABLE, EXEMPT or FAIL (what `fails` says); none for the others.

    Where the users could not be listed, the account itself is UNREADABLE.
    """
    if isinstance(account.users, Unreadable):
        yield Finding(rule, account.id, "", "UNREADABLE", account.users.why)
        return
    for user in account.users:
        message = user.keys if isinstance(user.keys, Unreadable) else fails(user.active_keys)
        finding = judge(rule, account.id, user, policy, now, message)
        if finding:
            yield finding


def judge(
    rule: str, account: str, user: User, policy: Policy, now: datetime, outcome: str | Unreadable | None
) -> Finding | None:
    """The finding for one user by what a rule says of it: a fault, what was not read, or nothing."""
    match outcome:
        case None:
            return None
        case Unreadable(why=why):
            return Finding(rule, account, user.name, "UNREADABLE", why)
        case str(message):
            exempt = policy.exemption(rule, account, user.name, now)
            if exempt:
                message = f"{message}; exempt until {exempt.expires} ({exempt.owner}: {exempt.reason})"
                return Finding(rule, account, user.name, "EXEMPT", message)
            lapsed = policy.expired_exemption(rule, account, user.name, now)
            if lapsed:
                message = f"{message}; its exemption ended on {lapsed.expires} ({lapsed.owner})"
            return Finding(rule, account, user.name, "FAIL", message)
        case _:
            assert_never(outcome)
