"""The credential report: its states, its age and its columns."""

import csv
from datetime import timedelta
from typing import Any

import pytest

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.scenario import Fail, ReportTable


def rows(iam: Any) -> dict[str, dict[str, str]]:
    """The rows of the report by user."""
    content = iam.get_credential_report()["Content"].decode()
    return {row["user"]: row for row in csv.DictReader(content.splitlines())}


def make(iam: Any, clock: SandboxClock) -> dict[str, dict[str, str]]:
    """Have a report made, and read it."""
    iam.generate_credential_report()
    clock.advance(1)
    return rows(iam)


def test_a_report_is_made_kept_and_expires(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    iam = client(company, "iam")
    assert refused(iam.get_credential_report)[:2] == ("ReportNotPresent", 410)
    assert iam.generate_credential_report()["State"] == "STARTED"
    assert iam.generate_credential_report()["State"] == "INPROGRESS"
    assert refused(iam.get_credential_report)[:2] == ("ReportInProgress", 404)
    clock.advance(1)
    assert iam.generate_credential_report()["State"] == "COMPLETE"
    report = iam.get_credential_report()
    assert report["ReportFormat"] == "text/csv"
    assert report["GeneratedTime"] == clock.now().replace(microsecond=0)

    clock.advance(timedelta(hours=3, minutes=59))
    assert iam.generate_credential_report()["State"] == "COMPLETE"
    assert iam.get_credential_report()["GeneratedTime"] == report["GeneratedTime"]
    clock.advance(timedelta(minutes=1))
    assert refused(iam.get_credential_report)[:2] == ("ReportExpired", 410)
    assert iam.generate_credential_report()["State"] == "STARTED"
    clock.advance(1)
    assert iam.get_credential_report()["GeneratedTime"] > report["GeneratedTime"]


def test_a_report_is_blind_to_what_came_after(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    iam = client(company, "iam")
    before = make(iam, clock)
    clock.advance(60)
    key = company.key("web-frontend")
    iam.update_access_key(UserName="web-frontend", AccessKeyId=key.id, Status="Inactive")
    assert rows(iam) == before
    clock.advance(timedelta(hours=4))
    after = make(iam, clock)["web-frontend"]
    assert (before["web-frontend"]["access_key_1_active"], after["access_key_1_active"]) == ("true", "false")
    # Rotated means created or last changed: the old key looks young now.
    assert after["access_key_1_last_rotated"] > before["web-frontend"]["access_key_2_last_rotated"]


def test_the_report_has_the_columns_of_aws(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    report = make(client(company, "iam"), clock)
    assert next(iter(report)) == "<root_account>"
    assert list(report["ops"])[:4] == ["user", "arn", "user_creation_time", "password_enabled"]
    assert list(report["ops"])[-1] == "cert_2_last_rotated"
    assert len(report["ops"]) == 22
    root = report["<root_account>"]
    assert (root["password_enabled"], root["password_last_used"]) == ("not_supported", "no_information")
    assert root["access_key_1_active"] == "false"
    assert report["ops"]["password_last_used"] == "no_information"
    assert report["docs-site"]["password_last_used"] == "N/A"
    mobile = report["mobile-api"]
    assert (mobile["access_key_2_active"], mobile["access_key_2_last_used_date"]) == ("true", "N/A")
    imports = report["data-import"]
    assert imports["access_key_2_last_used_service"] == "N/A"
    assert "additional_credentials_info" not in imports
    created = {
        key["CreateDate"].isoformat()
        for key in client(company, "iam").list_access_keys(UserName="data-import")["AccessKeyMetadata"]
    }
    assert imports["access_key_1_last_rotated"].replace("Z", "+00:00") in created


def test_the_report_may_count_further_keys_and_spell_dates_otherwise(
    company: Sandbox, client: Any, clock: SandboxClock
) -> None:
    company.state.report = ReportTable(further_keys=True, offset_dates=True)
    report = make(client(company, "iam"), clock)
    assert "1" in report["data-import"]["additional_credentials_info"]
    assert report["ops"]["additional_credentials_info"] == ""
    assert report["ops"]["user_creation_time"].endswith("+00:00")


@pytest.mark.parametrize("action", ["iam:GenerateCredentialReport", "iam:*"])
def test_a_report_may_be_refused(company: Sandbox, client: Any, refused: Any, action: str) -> None:
    company.state.faults.append(Fail(action=action, code="LimitExceeded", status=409, times=1))
    iam = client(company, "iam")
    assert refused(iam.generate_credential_report)[:2] == ("LimitExceeded", 409)
    assert iam.generate_credential_report()["State"] == "STARTED"


def test_root_keys_stand_in_the_report(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    session = client(company, "sts").assume_role(
        RoleArn="arn:aws:iam::222233334444:role/SparekeyAudit", RoleSessionName="audit", ExternalId="practice"
    )
    iam = client(company, "iam", session)
    assert make(iam, clock)["<root_account>"]["access_key_1_active"] == "true"
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1
