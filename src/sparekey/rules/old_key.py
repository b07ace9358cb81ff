"""An active key is 90 days old or older."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.model import AccessKey, Account, Finding, Unreadable
from sparekey.policy import Policy
from sparekey.rules._users import judge_users
from sparekey.rules.interface import Rule

RULE = Rule(
    id="old-key",
    title="Active access keys are less than 90 days old",
    cis={
        **dict.fromkeys(("1.3", "1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1"), "1.14"),
        "5.0": "1.13",
        "6.0": "2.13",
        "7.0": "2.12",
    },
    needs="age",
    remedy="Create a new access key, move the application to it, then run `sparekey plan`.",
    prowler="iam_rotate_access_key_90_days",
)


def check(account: Account, policy: Policy, now: datetime) -> Iterator[Finding]:
    """FAIL for every user with an active key of `max_key_age` or more; at exactly that age a key is old."""

    def fails(active: tuple[AccessKey, ...]) -> str | Unreadable | None:
        ages = [(key.id or "a key", now - key.created) for key in active if key.created]
        old = [f"{name} is {age.days} days old" for name, age in sorted(ages) if age >= policy.max_key_age]
        if old:
            return ", ".join(old)
        if any(key.created is None for key in active):
            return Unreadable("age", "the age of a key was not read: the credential report does not have it")
        return None

    return judge_users(RULE.id, account, policy, now, fails)
