"""AWS has marked a user's key as leaked."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.model import Account, Finding, Unreadable, User
from sparekey.policy import Policy
from sparekey.rules import Rule
from sparekey.rules._users import judge

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
    unread = account.users if isinstance(account.users, Unreadable) else _unread(account)
    if unread is not None:
        yield Finding(RULE.id, account.id, "", "UNREADABLE", unread.why)
    if isinstance(account.users, Unreadable):
        return
    for user in account.users:
        finding = judge(RULE.id, account.id, user, policy, now, _said(user))
        if finding:
            yield finding


def _unread(account: Account) -> Unreadable | None:
    if isinstance(account.quarantine, Unreadable):
        return account.quarantine
    return None if account.quarantine else Unreadable("quarantine", "nobody asked for quarantined users")


def _said(user: User) -> str | Unreadable | None:
    if not user.quarantine or isinstance(user.quarantine, Unreadable):
        return None  # what was not read is the account's finding
    if isinstance(user.keys, Unreadable):
        return user.keys
    names = ", ".join(key.id or "a key" for key in user.active_keys)
    policies = ", ".join(user.quarantine)
    return f"a key is known as leaked ({policies} is attached), and still active: {names}" if names else None
