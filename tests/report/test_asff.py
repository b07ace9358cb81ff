"""Findings as Security Hub takes them: judged by botocore's model of the service and by moto's."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import boto3
import botocore.session
import msgspec
import pytest
from botocore.validate import ParamValidator
from moto import mock_aws

from sparekey.errors import UnreadError
from sparekey.model import Account, Audit, Unreadable
from sparekey.report import RenderOptions, asff, render
from support import sample_company as company
from support.clocks import VirtualClock

MODEL = botocore.session.Session().get_service_model("securityhub")


def judge(findings: Sequence[asff.Finding]) -> None:
    """Raise where botocore would not send it."""
    for start in range(0, len(findings), asff.BATCH):
        shape = MODEL.shape_for("BatchImportFindingsRequest")
        report = ParamValidator().validate({"Findings": list(findings[start : start + asff.BATCH])}, shape)
        assert not report.has_errors(), report.generate_report()


class Hub:
    """A Security Hub of ten lines: pages of two, filters honoured, refusals on request."""

    region = "eu-central-1"

    def __init__(self, refuse: Mapping[str, int] | None = None) -> None:
        self.held: dict[str, asff.Finding] = {}
        self.calls: list[int] = []
        self.pages = 0
        self.refuse = dict(refuse or {})

    def get_findings(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        shape = MODEL.shape_for("GetFindingsRequest")
        assert not ParamValidator().validate(dict(params), shape).has_errors()
        self.pages += 1
        found = [received for received in self.held.values() if self._matches(received, params["Filters"])]
        start = int(params.get("NextToken", 0))
        more = {"NextToken": str(start + 2)} if start + 2 < len(found) else {}
        return {"Findings": found[start : start + 2], **more}

    def _matches(self, received: asff.Finding, filters: Mapping[str, Any]) -> bool:
        return all(
            any(received[name] == entry["Value"] for entry in wanted) for name, wanted in filters.items()
        )

    def batch_import_findings(self, findings: Sequence[asff.Finding]) -> Mapping[str, Any]:
        judge(findings)
        self.calls.append(len(findings))
        failed = []
        for received in findings:
            if self.refuse.get(received["Id"], 0) > 0:
                self.refuse[received["Id"]] -= 1
                failed.append(
                    {"Id": received["Id"], "ErrorCode": "InternalError", "ErrorMessage": "try later"}
                )
                continue
            workflow = self.held.get(received["Id"], {}).get("Workflow", {"Status": "NEW"})
            self.held[received["Id"]] = {**received, "Workflow": workflow}
        return {
            "FailedFindings": failed,
            "FailedCount": len(failed),
            "SuccessCount": len(findings) - len(failed),
        }


def later(audit: Audit, *accounts: Account) -> Audit:
    """The same company a day later, with other accounts."""
    new = company.audit(*accounts)
    generated = company.NOW + timedelta(days=1)
    return msgspec.structs.replace(new, snapshot=msgspec.structs.replace(new.snapshot, generated=generated))


def spare(name: str, number: int) -> Any:
    return company.user(company.PROD, name, company.key(number, 5, 1), company.key(number + 1, 6, 1))


def single(name: str, number: int) -> Any:
    return company.user(company.PROD, name, company.key(number, 5, 1))


UID = f"sparekey/two-active-keys/{company.PROD}/user/"


def test_the_rendered_array_is_what_security_hub_takes() -> None:
    findings = json.loads("".join(render("audit", company.audit(), "asff")))
    judge(findings)
    by_id = {received["Id"]: received for received in findings}
    assert len(by_id) == len(findings) > 30
    received = by_id[f"{UID}data-export"]
    assert (
        received["ProductArn"]
        == f"arn:aws:securityhub:us-east-1:{company.PROD}:product/{company.PROD}/default"
    )
    assert received["Resources"][0]["Id"] == f"arn:aws:iam::{company.PROD}:user/batch/data-export"
    assert received["Resources"][0]["Details"]["AwsIamUser"]["Path"] == "/batch/"
    assert received["Compliance"] == {
        "Status": "FAILED",
        "RelatedRequirements": ["CIS AWS Foundations Benchmark v4.0/1.13"],
    }
    assert received["FindingProviderFields"]["Severity"]["Label"] == "MEDIUM"
    assert not {"Workflow", "Severity", "Types", "Note", "UserDefinedFields"} & set(received)
    assert by_id[f"{UID}vault-root"]["Compliance"]["Status"] == "WARNING"
    denied = by_id[f"sparekey/two-active-keys/{company.DEV}/user/no-entry"]
    assert denied["Compliance"]["Status"] == "NOT_AVAILABLE"
    assert (
        by_id[f"sparekey/root-key/{company.DEV}/account"]["FindingProviderFields"]["Severity"]["Label"]
        == "CRITICAL"
    )
    shut = by_id[f"sparekey/two-active-keys/{company.SHUT}/account"]
    assert shut["Resources"] == [
        {"Type": "AwsAccount", "Id": f"AWS::::Account:{company.SHUT}", "Partition": "aws"}
    ]


def test_what_passes_is_told_on_request_and_an_empty_array_is_one() -> None:
    fine = company.audit(company.account(company.PROD, single("one", 1)), rules=("two-active-keys",))
    assert json.loads("".join(render("audit", fine, "asff"))) == []
    (received,) = json.loads(
        "".join(render("audit", fine, "asff", RenderOptions(show_all=True, region="eu-west-1")))
    )
    judge([received])
    assert received["Compliance"]["Status"] == "PASSED"
    assert received["FindingProviderFields"]["Severity"]["Label"] == "INFORMATIONAL"
    assert ":eu-west-1:" in received["ProductArn"]


def test_long_texts_are_cut_to_what_security_hub_takes() -> None:
    long = Unreadable("keys", "x" * 5000)
    user = msgspec.structs.replace(single("u" * 64, 1), keys=long)
    findings = json.loads(
        "".join(render("audit", company.audit(company.account(company.PROD, user)), "asff"))
    )
    assert {len(received["Description"]) for received in findings} == {1024}
    assert all(len(received["Title"]) <= 256 for received in findings)


def test_every_partition_names_its_own_hub() -> None:
    account = msgspec.structs.replace(company.account(company.PROD, spare("one", 1)), partition="aws-cn")
    (received,) = json.loads(
        "".join(render("audit", company.audit(account, rules=("two-active-keys",)), "asff"))
    )
    assert received["ProductArn"].startswith("arn:aws-cn:securityhub:cn-north-1:")


@pytest.fixture
def hub() -> Hub:
    return Hub()


def send(audit: Audit, hub: Hub) -> asff.SecurityHubResult:
    (sent,) = asff.send(audit, lambda account: hub, VirtualClock())
    return sent


def test_fixed_becomes_passed_gone_archived_and_workflow_stays(hub: Hub) -> None:
    users = [spare("stays", 1), spare("fixed", 3), spare("gone", 5), spare("ignored", 7), single("fine", 9)]
    first = company.audit(company.account(company.PROD, *users))
    assert send(first, hub) == asff.SecurityHubResult(company.PROD, imported=4)
    hub.held[f"{UID}ignored"]["Workflow"] = {"Status": "SUPPRESSED"}
    hub.held[f"{UID}ignored"]["ProductFields"] = {"aws/securityhub/CompanyName": "theirs"}
    hub.held[f"{UID}gone"]["ProcessedAt"] = "2026-03-01T12:00:01.000Z"

    users = [spare("stays", 1), single("fixed", 3), spare("ignored", 7), single("fine", 9)]
    second = later(first, company.account(company.PROD, *users))
    assert send(second, hub) == asff.SecurityHubResult(company.PROD, imported=4, passed=1, archived=1)
    assert hub.pages == 1 + 2  # four findings, two a page
    received = {
        uid.removeprefix(UID): (f["Compliance"]["Status"], f["RecordState"]) for uid, f in hub.held.items()
    }
    assert received == {
        "stays": ("FAILED", "ACTIVE"),
        "fixed": ("PASSED", "ACTIVE"),
        "gone": ("FAILED", "ARCHIVED"),
        "ignored": ("FAILED", "ACTIVE"),
    }
    assert hub.held[f"{UID}ignored"]["Workflow"] == {"Status": "SUPPRESSED"}
    assert "ProcessedAt" not in hub.held[f"{UID}gone"]
    stays = hub.held[f"{UID}stays"]
    assert (stays["CreatedAt"], stays["FirstObservedAt"]) == ("2026-03-01T12:00:00.000Z",) * 2
    assert stays["UpdatedAt"] == "2026-03-02T12:00:00.000Z"

    # What has passed is not sent again, unless its user goes; what is archived stays so.
    assert send(
        later(second, company.account(company.PROD, spare("stays", 1), single("fixed", 3))), hub
    ) == asff.SecurityHubResult(company.PROD, imported=2, archived=1)
    third = send(later(second, company.account(company.PROD, spare("stays", 1))), hub)
    assert third == asff.SecurityHubResult(company.PROD, imported=2, archived=1)
    assert hub.held[f"{UID}fixed"]["RecordState"] == "ARCHIVED"

    # A user who comes back is open again under the same id.
    send(later(second, company.account(company.PROD, spare("gone", 1))), hub)
    assert hub.held[f"{UID}gone"]["RecordState"] == "ACTIVE"


def test_only_the_rules_that_were_asked_are_touched(hub: Hub) -> None:
    old = company.user(company.PROD, "old", company.key(1, 300, 1))
    send(company.audit(company.account(company.PROD, old)), hub)
    fresh = company.account(company.PROD, single("old", 2))
    assert send(company.audit(fresh, rules=("two-active-keys",)), hub).passed == 0
    assert send(company.audit(fresh, rules=("old-key",)), hub).passed == 1


def test_nothing_is_concluded_from_what_was_not_read(hub: Hub) -> None:
    first = company.audit(company.account(company.PROD, spare("one", 1), spare("two", 3)))
    send(first, hub)
    shut = Account(company.PROD, "aws", Unreadable("users", "AccessDenied"), company.NOW, root_keys=0)
    assert send(later(first, shut), hub) == asff.SecurityHubResult(company.PROD, imported=2)
    assert {hub.held[f"{UID}{name}"]["RecordState"] for name in ("one", "two")} == {"ACTIVE"}
    assert hub.held[f"{UID}one"]["Compliance"]["Status"] == "FAILED"
    account = hub.held[f"sparekey/two-active-keys/{company.PROD}/account"]
    assert account["Compliance"]["Status"] == "NOT_AVAILABLE"
    denied = msgspec.structs.replace(spare("one", 1), keys=Unreadable("access keys", "AccessDenied"))
    send(later(first, company.account(company.PROD, denied, spare("two", 3))), hub)
    assert hub.held[f"{UID}one"]["Compliance"]["Status"] == "NOT_AVAILABLE"
    assert account["Id"] in hub.held
    assert hub.held[account["Id"]]["RecordState"] == "ARCHIVED"


def test_findings_go_in_batches_and_refused_ones_again() -> None:
    users = [spare(f"user-{number:03d}", number * 2) for number in range(205)]
    stubborn, moody = f"{UID}user-001", f"{UID}user-150"
    hub, clock = Hub({stubborn: 9, moody: 1}), VirtualClock()
    (sent,) = asff.send(company.audit(company.account(company.PROD, *users)), lambda account: hub, clock)
    assert hub.calls == [100, 1, 1, 100, 1, 5]
    assert sent.imported == 204
    assert sent.refused == (asff.RejectedFinding(stubborn, "InternalError", "try later"),)
    assert not sent.complete
    assert clock.waits == [2.0, 4.0, 2.0]
    assert moody in hub.held


def test_one_accounts_failure_stops_no_other_and_is_told() -> None:
    hub = Hub()

    def hub_of(account: Account) -> Hub:
        if account.id == company.SHUT:
            raise UnreadError("no credentials for 777788889999")
        return hub

    asked = company.audit()
    sent = asff.send(asked, hub_of, VirtualClock())
    assert [received.account for received in sent] == [company.PROD, company.DEV, company.SHUT]
    assert [received.complete for received in sent] == [True, True, False]
    assert sent[2].error == "no credentials for 777788889999"
    assert {received["AwsAccountId"] for received in hub.held.values()} == {company.PROD, company.DEV}


class Moto:
    """moto's Security Hub through boto3."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.client = boto3.client(
            "securityhub", region, aws_access_key_id="testing", aws_secret_access_key="testing"
        )

    def get_findings(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(self.client.get_findings(**params))

    def batch_import_findings(self, findings: Sequence[asff.Finding]) -> Mapping[str, Any]:
        return dict(self.client.batch_import_findings(Findings=list(findings)))


@pytest.fixture
def moto() -> Iterator[Moto]:
    with mock_aws():
        hub = Moto("us-east-1")
        hub.client.enable_security_hub()
        yield hub


def test_moto_takes_what_is_sent_page_after_page(moto: Moto) -> None:
    # moto filters nothing, so it stands for one account; paging and the wire are real.
    users = [spare(f"user-{number:03d}", number * 2) for number in range(130)]
    first = company.audit(company.account(company.PROD, *users))
    (sent,) = asff.send(first, lambda account: moto, VirtualClock())
    assert (sent.imported, sent.complete) == (130, True)
    fixed = [single(f"user-{number:03d}", number) for number in range(120)]
    (sent,) = asff.send(
        later(first, company.account(company.PROD, *fixed)),
        lambda account: moto,
        VirtualClock(),
    )
    assert (sent.passed, sent.archived, sent.complete) == (120, 10, True)
    pages = moto.client.get_paginator("get_findings").paginate()
    held = {received["Id"]: received for page in pages for received in page["Findings"]}
    assert len(held) == 130
    assert held[f"{UID}user-000"]["Compliance"]["Status"] == "PASSED"
    assert held[f"{UID}user-129"]["RecordState"] == "ARCHIVED"


def test_pages_of_findings_without_an_end_are_an_error() -> None:
    class Circle(Hub):
        def get_findings(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"Findings": [], "NextToken": {"1": "2"}.get(str(params.get("NextToken")), "1")}

    account = company.audit().snapshot.accounts[0]
    with pytest.raises(UnreadError, match="have no end"):
        list(asff.previous_findings(Circle(), account, ["two-active-keys"]))
