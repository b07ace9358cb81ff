"""An audit as finding formats want it: one point for each account, user and rule."""

from collections import defaultdict
from collections.abc import Iterator

from sparekey import rules
from sparekey.model import Account, AccountVerdict, Audit, Finding, FindingStatus, User, Value
from sparekey.rules import Rule

_WORST_FIRST: tuple[FindingStatus, ...] = ("UNREADABLE", "FAIL", "EXEMPT")


class FindingRecord(Value, frozen=True):
    """One rule's finding on one user, or of the account where `user` is None."""

    account: Account
    user: User | None
    rule: Rule
    status: FindingStatus
    message: str

    @property
    def uid(self) -> str:
        """The same in every audit of this account, user and rule."""
        whom = f"user/{self.user.name}" if self.user else "account"
        return f"{generator(self.rule.id)}/{self.account.id}/{whom}"

    @property
    def title(self) -> str:
        """The rule and the user it concerns, in one line."""
        return f"{self.rule.title}: {self.user.name if self.user else f'account {self.account.id}'}"

    def controls(self, version: str = "") -> tuple[tuple[str, str], ...]:
        """The benchmark versions that number this rule, with the number; or `version` alone."""
        numbers = ((known, self.rule.cis_number(known)) for known in rules.CIS_VERSIONS)
        return tuple((known, number) for known, number in numbers if number and version in ("", known))


def generator(rule: str) -> str:
    """The name of a rule outside of this house."""
    return f"sparekey/{rule}"


def finding_records(audit: Audit, *, passes: bool = False) -> Iterator[FindingRecord]:
    """Every point that is not fine, in order, and with `passes` the others, too."""
    for account in audit.accounts:
        yield from records_of_account(audit, account, passes=passes)


def records_of_account(
    audit: Audit, verdict: AccountVerdict, *, passes: bool = False
) -> Iterator[FindingRecord]:
    """The points of one account."""
    account = verdict.account
    for name in audit.rules:
        rule = rules.rule(name)[0]
        over_users = rule.needs != "summary"
        if not over_users or any(finding.rule == name for finding in verdict.findings):
            yield from _finding_record(account, None, rule, verdict.findings, passes)
        if over_users:
            for user in verdict.users:
                yield from _finding_record(account, user.user, rule, user.findings, passes)


def _finding_record(
    account: Account, user: User | None, rule: Rule, findings: tuple[Finding, ...], passes: bool
) -> Iterator[FindingRecord]:
    messages: dict[FindingStatus, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.rule == rule.id:
            messages[finding.status].append(finding.message)
    status: FindingStatus = next((status for status in _WORST_FIRST if status in messages), "PASS")
    if passes or status != "PASS":
        yield FindingRecord(account, user, rule, status, "; ".join(messages[status]))
