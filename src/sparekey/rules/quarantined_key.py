"""AWS has marked a user's key as leaked."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.model import Account, Finding, Unreadable, User
from sparekey.policy import Policy
from sparekey.rules._users import judge
from sparekey.rules.interface import Rule

RULE = Rule(
    id="quarantined-key",
    title="No user with an active access key is quarantined by AWS for a leaked one",
    cis={},
    needs="quarantine",
    severity="critical",
    remedy="Rotate every access key of the user at once, then follow AWS's support case before you detach the policy.",
)


def check(account: Account, policy: Policy, now: datetime) -> Iterator[Finding]:
    """FAIL for every user with an active key to whom a policy `AWSCompromisedKeyQuarantine…` is attached.

    Source: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCompromisedKeyQuarantineV3.html
    """
    if isinstance(account.users, Unreadable):
        yield Finding(RULE.id, account.id, "", "UNREADABLE", account.users.why)
        return
    unread = _unread_finding(account)
    for user in account.users:
        # Each user is unreadable where the account is: a finding that was open is not closed by a refusal.
        finding = judge(RULE.id, account.id, user, policy, now, _message(user, unread))
        if finding:
            yield finding


def _unread_finding(account: Account) -> Unreadable | None:
    if isinstance(account.quarantine, Unreadable):
        return account.quarantine
    return None if account.quarantine else Unreadable("quarantine", "quarantined users were not requested")


def _message(user: User, unread: Unreadable | None) -> str | Unreadable | None:
    if not isinstance(user.keys, Unreadable) and not user.active_keys:
        return None  # what leaked works no longer
    if unread is not None or not user.quarantine:
        return unread
    if isinstance(user.quarantine, Unreadable):
        return user.quarantine
    if isinstance(user.keys, Unreadable):
        return user.keys
    names = ", ".join(key.id or "a key" for key in user.active_keys)
    policies = ", ".join(user.quarantine)
    return f"a key is known as leaked ({policies} is attached), and still active: {names}"
