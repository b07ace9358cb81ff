"""The account's root user has an access key."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.formatting import key_age, last_use, plural
from sparekey.model import Account, Finding, Unreadable
from sparekey.policy import Policy
from sparekey.rules.interface import Rule

RULE = Rule(
    id="root-key",
    title="The account's root user has no access key",
    cis={
        **dict.fromkeys(("1.3", "1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1"), "1.4"),
        "5.0": "1.3",
        "6.0": "2.3",
        "7.0": "2.4",
    },
    needs="summary",
    severity="critical",
    remedy="Sign in as the root user and delete its access key.",
    prowler="iam_no_root_access_key",
)


def check(account: Account, policy: Policy, now: datetime) -> Iterator[Finding]:
    """FAIL for the account (a finding without a user) where the root user has an access key."""
    del policy  # no threshold, and no exemption, makes a root key right
    match account.root_keys:
        case Unreadable(why=why):
            yield Finding(RULE.id, account.id, "", "UNREADABLE", why)
        case None:
            yield Finding(RULE.id, account.id, "", "UNREADABLE", "the account summary was not read")
        case 0:
            return
        case _:
            message = f"the root user has an access key: delete it as root{_message(account, now)}"
            yield Finding(RULE.id, account.id, "", "FAIL", message)


def _message(account: Account, now: datetime) -> str:
    """What the credential report has of the keys, where it was read."""
    if isinstance(account.root, Unreadable):
        return f" (age and last use could not be read: {account.root.why})"
    keys = [f"{key.status}, {key_age(key, now)}, {last_use(key, now)}" for key in account.root]
    return f" ({plural(len(keys), 'key')}: {'; '.join(keys)})" if keys else ""
