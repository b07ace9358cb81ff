"""The control itself: a user has at most one active access key."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.model import AccessKey, Account, Finding
from sparekey.policy import Policy
from sparekey.rules._users import judge_users
from sparekey.rules.interface import DEFAULT_RULE, Rule

RULE = Rule(
    id=DEFAULT_RULE,
    title="A user has at most one active access key",
    cis={
        **dict.fromkeys(("1.3", "1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1"), "1.13"),
        "5.0": "1.12",
        "6.0": "2.12",
    },
    remedy="Run `sparekey plan` and `sparekey apply`: one working key is kept, the others are deactivated.",
    prowler="iam_user_two_active_access_key",
)


def check(account: Account, policy: Policy, now: datetime) -> Iterator[Finding]:
    """FAIL for every user with two or more active keys."""
    return judge_users(RULE.id, account, policy, now, _message)


def _message(active: tuple[AccessKey, ...]) -> str | None:
    return f"{len(active)} active keys" if len(active) > 1 else None
