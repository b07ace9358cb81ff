"""AWS Security Finding Format, and how findings get into Security Hub.

https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html

What people set in Security Hub (workflow status, note, their own severity) is never sent, so never touched:
severity and types go by `FindingProviderFields`, as finding providers are asked to.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from sparekey.clock import Clock
from sparekey.errors import SparekeyError, UnreadError
from sparekey.model import Account, AccountVerdict, Audit, FindingStatus, Unreadable, User, Value
from sparekey.report._finding_records import FindingRecord, generator, records_of_account
from sparekey.report.interface import RenderOptions

NAME = "asff"

BATCH = 100  # https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
_ATTEMPTS = 3
_PAGE = 100
_MAX_PAGES = 20_000
_TYPE = "Software and Configuration Checks/Industry and Regulatory Standards/CIS AWS Foundations Benchmark"
_COMPLIANCE: Mapping[FindingStatus, str] = {
    "PASS": "PASSED",
    "FAIL": "FAILED",
    "EXEMPT": "WARNING",
    "UNREADABLE": "NOT_AVAILABLE",
}
# Where an account's findings go if nobody names a region.
_MAIN_REGION = {
    "aws": "us-east-1",
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-eusc": "eusc-de-east-1",
}
# What a provider may send again of a finding that Security Hub reports: the rest is theirs or a person's.
_OUR_FINDINGS = (
    "SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt", "FirstObservedAt",
    "LastObservedAt", "Title", "Description", "Remediation", "Resources", "Compliance",
    "FindingProviderFields",
)  # fmt: skip

Finding = dict[str, Any]


class SecurityHubApi(Protocol):
    """Security Hub in one account and region, with that account's own credentials; raises SparekeyError."""

    @property
    def region(self) -> str:
        """Where it is."""
        ...

    def get_findings(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """One page: `Findings` and, where there are more, `NextToken`."""
        ...

    def batch_import_findings(self, findings: Sequence[Finding]) -> Mapping[str, Any]:
        """At most 100 findings in; `SuccessCount` and `FailedFindings` out."""
        ...


class RejectedFinding(Value, frozen=True):
    """A finding that Security Hub did not take, after every attempt."""

    id: str
    code: str
    why: str


class SecurityHubResult(Value, frozen=True):
    """What became of one account's findings; `error` is why not all of them were sent."""

    account: str
    imported: int = 0
    passed: int = 0
    archived: int = 0
    refused: tuple[RejectedFinding, ...] = ()
    error: str = ""

    @property
    def complete(self) -> bool:
        """True where Security Hub now shows what the audit shows."""
        return not self.refused and not self.error


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """A JSON array of findings, one a line; with `show_all` those that pass, too."""
    separator = "[\n"
    for verdict in audit.accounts:
        region = options.region or _MAIN_REGION.get(verdict.account.partition, "us-east-1")
        for record in records_of_account(audit, verdict, passes=options.show_all):
            yield separator + msgspec.json.encode(finding(record, audit, region)).decode()
            separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def finding(record: FindingRecord, audit: Audit, region: str, before: Finding | None = None) -> Finding:
    """One point as a finding; `before` is the same finding as Security Hub has it."""
    account, now = record.account, _time(audit.snapshot.generated)
    created = before["CreatedAt"] if before else now
    label = record.rule.severity if record.status in ("FAIL", "UNREADABLE") else "informational"
    requirements = [
        f"CIS AWS Foundations Benchmark v{version}/{number}" for version, number in record.controls(audit.cis)
    ]
    return {
        "SchemaVersion": "2018-10-08",
        "Id": record.uid,
        "ProductArn": _product(account, region),
        "GeneratorId": generator(record.rule.id),
        "AwsAccountId": account.id,
        "CreatedAt": created,
        "UpdatedAt": now,
        "FirstObservedAt": before.get("FirstObservedAt", created) if before else now,
        "LastObservedAt": _time(account.as_of),
        "Title": _truncate(record.title, 256),
        "Description": _truncate(f"{record.status}: {record.message or record.rule.title}", 1024),
        "Remediation": {"Recommendation": {"Text": _truncate(record.rule.remedy or record.rule.title, 512)}},
        "Resources": [_resource(account, record.user)],
        "Compliance": {"Status": _COMPLIANCE[record.status], "RelatedRequirements": requirements},
        "FindingProviderFields": {
            "Severity": {"Label": label.upper(), "Original": record.rule.severity},
            "Types": [_TYPE],
        },
        "RecordState": "ACTIVE",
    }


def _resource(account: Account, user: User | None) -> dict[str, Any]:
    if user is None:
        return {"Type": "AwsAccount", "Id": f"AWS::::Account:{account.id}", "Partition": account.partition}
    details = {"UserName": user.name, "Path": _path(user)}
    if user.created:
        details["CreateDate"] = _time(user.created)
    return {
        "Type": "AwsIamUser",
        "Id": user.arn,
        "Partition": account.partition,
        "Details": {"AwsIamUser": details},
    }


def _path(user: User) -> str:
    return user.arn.partition(":user")[2].removesuffix(user.name) or "/"


def _product(account: Account, region: str) -> str:
    return f"arn:{account.partition}:securityhub:{region}:{account.id}:product/{account.id}/default"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def send(
    audit: Audit, hub_of: Callable[[Account], SecurityHubApi], clock: Clock
) -> tuple[SecurityHubResult, ...]:
    """Bring Security Hub to what the audit shows, account by account; one account's failure stops no other.

    What was open there and is fixed becomes PASSED; of a user who is gone, ARCHIVED. Where an account's users
    could not be read, nothing is known of its findings and they are left as they are.
    """
    return tuple(_send_account(audit, verdict, hub_of, clock) for verdict in audit.accounts)


def _send_account(
    audit: Audit, verdict: AccountVerdict, hub_of: Callable[[Account], SecurityHubApi], clock: Clock
) -> SecurityHubResult:
    account = verdict.account
    sent = SecurityHubResult(account.id)
    try:
        hub = hub_of(account)
        before = {item["Id"]: item for item in previous_findings(hub, account, audit.rules)}
        changes = tuple(reconcile(audit, verdict, hub.region, before))
        for start in range(0, len(changes), BATCH):
            sent = _import_batch(hub, changes[start : start + BATCH], sent, clock)
    except SparekeyError as error:
        return msgspec.structs.replace(sent, error=error.message)
    return sent


def previous_findings(hub: SecurityHubApi, account: Account, rules: Iterable[str]) -> Iterator[Finding]:
    """What Security Hub shows as active of these rules in this account, page by page."""
    filters = {
        "ProductArn": [_equals(_product(account, hub.region))],
        "AwsAccountId": [_equals(account.id)],
        "GeneratorId": [_equals(generator(rule)) for rule in rules],
        "RecordState": [_equals("ACTIVE")],
    }
    params: dict[str, Any] = {"Filters": filters, "MaxResults": _PAGE}
    seen: set[str] = set()
    while True:
        page = hub.get_findings(params)
        yield from page["Findings"]
        token = page.get("NextToken")
        if not token:
            return
        if token in seen or len(seen) >= _MAX_PAGES:
            raise UnreadError("the pages of securityhub:GetFindings have no end")
        seen.add(token)
        params = {**params, "NextToken": token}


def _equals(value: str) -> dict[str, str]:
    return {"Value": value, "Comparison": "EQUALS"}


def reconcile(
    audit: Audit, verdict: AccountVerdict, region: str, before: Mapping[str, Finding]
) -> Iterator[Finding]:
    """The findings to send: what is not fine, what was and now is, and what has no user any more."""
    known = {record.uid: record for record in records_of_account(audit, verdict, passes=True)}
    for uid, record in known.items():
        if record.status != "PASS" or _open_finding(before.get(uid)):
            yield finding(record, audit, region, before.get(uid))
    if isinstance(verdict.account.users, Unreadable):
        return
    for uid, existing in before.items():
        if uid not in known:
            yield _archived_finding(existing, audit)


def _open_finding(existing: Finding | None) -> bool:
    return existing is not None and existing.get("Compliance", {}).get("Status") != "PASSED"


def _archived_finding(existing: Finding, audit: Audit) -> Finding:
    ours = {name: existing[name] for name in _OUR_FINDINGS if name in existing}
    return {**ours, "UpdatedAt": _time(audit.snapshot.generated), "RecordState": "ARCHIVED"}


def _import_batch(
    hub: SecurityHubApi, batch: Sequence[Finding], sent: SecurityHubResult, clock: Clock
) -> SecurityHubResult:
    """Send one batch, and again what was refused of it: Security Hub refuses some for a moment only."""
    left: Sequence[Finding] = batch
    refused: dict[str, RejectedFinding] = {}
    for attempt in range(_ATTEMPTS):
        if attempt:
            clock.sleep(2.0**attempt)
        answer = hub.batch_import_findings(left)
        refused = {
            item["Id"]: RejectedFinding(item["Id"], item["ErrorCode"], item["ErrorMessage"])
            for item in answer["FailedFindings"]
        }
        left = [item for item in left if item["Id"] in refused]
        if not left:
            break
    taken = [item for item in batch if item["Id"] not in refused]
    active = [item for item in taken if item["RecordState"] == "ACTIVE"]
    return msgspec.structs.replace(
        sent,
        imported=sent.imported + len(taken),
        passed=sent.passed + sum(item["Compliance"]["Status"] == "PASSED" for item in active),
        archived=sent.archived + len(taken) - len(active),
        refused=(*sent.refused, *refused.values()),
    )
