"""The rules: one module each (`interface.py` has its shape), found by looking into this folder."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import cast

from sparekey.errors import BadInputError
from sparekey.model import (
    Account,
    AccountVerdict,
    Audit,
    Coverage,
    Finding,
    FindingStatus,
    Snapshot,
    Unreadable,
    UserVerdict,
)
from sparekey.plugins import modules_in
from sparekey.policy import Policy
from sparekey.rules.interface import CIS_VERSIONS, DEFAULT_RULE, Check, Rule, RuleModule

__all__ = [
    "CIS_VERSIONS",
    "DEFAULT_RULE",
    "Check",
    "Rule",
    "assess",
    "exit_code",
    "findings",
    "registry",
    "rule",
]


@cache
def registry() -> Mapping[str, tuple[Rule, Check]]:
    """Every rule by its id, sorted."""
    modules = (cast("RuleModule", module) for module in modules_in(__name__, __path__).values())
    return dict(sorted((module.RULE.id, (module.RULE, module.check)) for module in modules))


def rule(name: str) -> tuple[Rule, Check]:
    """One rule and its predicate; raises BadInputError for a name that is none."""
    try:
        return registry()[name]
    except KeyError:
        known = ", ".join(registry())
        raise BadInputError(f"there is no rule {name!r}", f"Rules: {known}.") from None


def findings(account: Account, policy: Policy, now: datetime, names: Iterable[str]) -> tuple[Finding, ...]:
    """What the named rules say of one account, sorted by user, rule and key."""
    all_findings = (finding for name in names for finding in rule(name)[1](account, policy, now))
    return tuple(sorted(all_findings, key=lambda finding: (finding.user, finding.rule, finding.key)))


_BY_SEVERITY: tuple[FindingStatus, ...] = ("UNREADABLE", "FAIL", "EXEMPT", "PASS")


def assess(
    snapshot: Snapshot, policy: Policy, now: datetime, names: Iterable[str] = (DEFAULT_RULE,), cis: str = ""
) -> Audit:
    """Ask the named rules of a whole snapshot."""
    asked = tuple(sorted(set(names)))
    for name in asked:
        rule(name)
    accounts = tuple(_account_verdict(account, policy, now, asked) for account in snapshot.accounts)
    return Audit(snapshot, asked, accounts, _coverage(accounts), cis)


def _account_verdict(account: Account, policy: Policy, now: datetime, asked: Iterable[str]) -> AccountVerdict:
    by_user: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings(account, policy, now, asked):
        by_user[finding.user].append(finding)
    users = () if isinstance(account.users, Unreadable) else account.users
    verdicts = tuple(
        UserVerdict(user, _worst_status(by_user[user.name]), tuple(by_user[user.name])) for user in users
    )
    return AccountVerdict(account, verdicts, tuple(by_user[""]))


def _worst_status(findings: list[Finding]) -> FindingStatus:
    statuses = {finding.status for finding in findings}
    return next((status for status in _BY_SEVERITY if status in statuses), "PASS")


def _coverage(accounts: tuple[AccountVerdict, ...]) -> Coverage:
    users = [verdict for account in accounts for verdict in account.users]
    every = [finding for account in accounts for finding in account.findings]
    every += [finding for verdict in users for finding in verdict.findings]
    unread_accounts = sum(isinstance(verdict.account.users, Unreadable) for verdict in accounts)
    unread_users = sum(isinstance(verdict.user.keys, Unreadable) for verdict in users)
    return Coverage(
        accounts_read=len(accounts) - unread_accounts,
        accounts_unreadable=unread_accounts,
        users_read=len(users) - unread_users,
        users_unreadable=unread_users,
        users_spare=sum(len(verdict.user.active_keys) > 1 for verdict in users),
        users_exempt=sum(verdict.status == "EXEMPT" for verdict in users),
        findings_failed=sum(finding.status == "FAIL" for finding in every),
        accounts_as_of=sum(verdict.account.history is not None for verdict in accounts),
    )


# The exit code of an audit that found something.
FOUND = 3


def exit_code(audit: Audit) -> int:
    """4 where anything could not be read, else 3 where a rule failed, else 0."""
    statuses = {verdict.status for account in audit.accounts for verdict in account.users}
    statuses |= {finding.status for account in audit.accounts for finding in account.findings}
    if "UNREADABLE" in statuses or audit.coverage.accounts_unreadable:
        return 4
    return FOUND if "FAIL" in statuses else 0
