"""An active key has not been used for 45 days."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.model import AccessKey, Account, Finding, Unreadable
from sparekey.policy import Policy
from sparekey.rules._users import judge_users
from sparekey.rules.interface import Rule

RULE = Rule(
    id="unused-key",
    title="Active access keys were used within 45 days",
    cis={
        **dict.fromkeys(("1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1"), "1.12"),
        "5.0": "1.11",
        **dict.fromkeys(("6.0", "7.0"), "2.11"),
    },
    needs="last_use",
    remedy="Deactivate the access key if no application needs it.",
    prowler="iam_user_accesskey_unused",
)


def check(account: Account, policy: Policy, now: datetime) -> Iterator[Finding]:
    """FAIL for every user with an active key that is `quiet` old or older and was not used within `quiet`."""

    def fails(active: tuple[AccessKey, ...]) -> str | Unreadable | None:
        messages = [_message(key, policy, now) for key in active]
        unused = [text for text in messages if isinstance(text, str)]
        unread = [text for text in messages if isinstance(text, Unreadable)]
        return ", ".join(unused) or (unread[0] if unread else None)

    return judge_users(RULE.id, account, policy, now, fails)


def _message(key: AccessKey, policy: Policy, now: datetime) -> str | Unreadable | None:
    name = key.id or "a key"
    used = key.last_used
    match used.state:
        case "used" if used.at is not None:
            return f"{name} unused for {(now - used.at).days} days" if now - used.at >= policy.quiet else None
        case "never" if key.created is not None:
            return f"{name} never used" if now - key.created >= policy.quiet else None
        case "never":
            return Unreadable("age", f"{name} was never used, and its age was not read")
        case _:
            return Unreadable("last use", used.why or f"the last use of {name} was not read")
