"""The credential report as AWS writes it, its states, and which slot is which key."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from sparekey.aws.credential_report import (
    CredentialReport,
    ReportRow,
    ReportSlot,
    fetch_report,
    last_uses,
    parse_report,
)
from sparekey.aws.errors import AwsError, DeniedError, MalformedResponseError
from sparekey.model import NEVER_USED, AccessKey, LastUsed
from support.clocks import VirtualClock
from support.scripted_aws import START

SLOT = ["active", "last_rotated", "last_used_date", "last_used_region", "last_used_service"]
COLUMNS = [
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    *(f"access_key_1_{name}" for name in SLOT),
    *(f"access_key_2_{name}" for name in SLOT),
]
NONE = ["false", "N/A", "N/A", "N/A", "N/A"]
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def report(*rows: list[str], further: str | None = None, order: list[str] | None = None) -> bytes:
    extra = [] if further is None else ["additional_credentials_info"]
    head = order or [*COLUMNS, *extra]
    lines = [dict(zip([*COLUMNS, *extra], [*row, further or ""], strict=False)) for row in rows]
    return "\n".join([",".join(head), *(",".join(line[name] for name in head) for line in lines)]).encode()


def line(name: str, *slots: list[str]) -> list[str]:
    cells = [cell for number in (0, 1) for cell in (slots[number] if number < len(slots) else NONE)]
    return [name, f"arn:aws:iam::111122223333:user/{name}", "2025-01-01T00:00:00+00:00", "false", *cells]


def slot(active: str = "true", rotated: str = "2026-01-01T00:00:00+00:00", used: str = "N/A") -> list[str]:
    received = used not in {"N/A", "no_information"}
    return [active, rotated, used, *(("us-east-1", "s3") if received else ("N/A", "N/A"))]


def test_users_are_read_by_column_name_and_the_root_user_left_out() -> None:
    root = line("<root_account>")
    used = slot("TRUE", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    rows = parse_report(report(root, line("app", used, slot("false")), order=list(reversed(COLUMNS))))
    expected = ReportRow(
        "app",
        "arn:aws:iam::111122223333:user/app",
        datetime(2025, 1, 1, tzinfo=UTC),
        (
            ReportSlot(True, JANUARY, LastUsed("used", FEBRUARY, "s3", "us-east-1")),
            ReportSlot(False, JANUARY, NEVER_USED),
        ),
        complete=False,
    )
    assert rows == (expected,)
    assert rows[0].active == 1


def test_what_the_report_does_not_tell_is_not_never() -> None:
    (row,) = parse_report(report(line("app", slot(used="no_information"))))
    assert row.slots[0].last_used.state == "unreadable"


@pytest.mark.parametrize(
    ("further", "slots", "whole"),
    [
        (None, 1, True),
        (None, 2, False),  # the report has no room for a third key
        ("", 2, True),
        ("N/A", 2, True),
        ("0", 2, True),
        ("1 additional access keys", 2, False),
        ("something new", 0, False),
    ],
)
def test_keys_that_the_report_cannot_show_are_suspected(further: str | None, slots: int, whole: bool) -> None:
    (row,) = parse_report(report(line("app", *[slot()] * slots), further=further))
    assert row.complete is whole


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"name,arn\napp,x",
        report(line("app", slot(rotated="N/A"))),
        report(line("app", slot(active="perhaps"))),
        report(line("app", slot(rotated="yesterday"))),
        report(line("app"))[:-60],
    ],
)
def test_a_report_that_cannot_be_understood_is_an_error(content: bytes) -> None:
    with pytest.raises(MalformedResponseError, match="credential report"):
        parse_report(content)


def key(key_id: str, created: datetime, status: str = "Active") -> AccessKey:
    return AccessKey(key_id, status, created)


def test_a_slot_is_a_key_only_by_its_time() -> None:
    used = "2026-02-01T00:00:00Z"
    (row,) = parse_report(report(line("app", slot(used=used), slot(rotated="2026-02-01T00:00:00Z"))))
    swapped = [key("A2", FEBRUARY), key("A1", JANUARY)]
    assert last_uses(row, swapped) == {"A1": LastUsed("used", FEBRUARY, "s3", "us-east-1"), "A2": NEVER_USED}
    # changed after its creation, replaced since, or switched over since: no slot of the report is this key
    assert last_uses(row, [key("A3", datetime(2025, 6, 1, tzinfo=UTC))]) == {}
    assert last_uses(row, [key("A1", JANUARY, "Inactive")]) == {}


def test_a_tie_is_never_broken_by_the_order() -> None:
    (row,) = parse_report(report(line("app", slot(), slot())))
    assert last_uses(row, [key("A1", JANUARY), key("A2", JANUARY)]) == {}
    (row,) = parse_report(report(line("app", slot())))
    assert last_uses(row, [key("A1", JANUARY), key("A2", JANUARY)]) == {}


class Report:
    """Answers GetCredentialReport and GenerateCredentialReport in turn; a word is an error code."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, action: str) -> Mapping[str, Any]:
        self.asked.append(action.removesuffix("CredentialReport"))
        answer = self.answers.pop(0)
        if answer == "ready":
            return {"Content": report(line("app")), "GeneratedTime": JANUARY}
        if answer in {"STARTED", "INPROGRESS", "COMPLETE"}:
            return {"State": answer}
        raise (DeniedError if answer == "AccessDenied" else AwsError)(answer, code=answer)


@pytest.mark.parametrize("first", ["COMPLETE", "LimitExceeded", "AccessDenied"])
def test_a_stored_report_costs_two_calls_and_may_be_read_by_who_may_make_none(first: str) -> None:
    call = Report(first, "ready")
    found = fetch_report(call, VirtualClock(START))
    assert found == CredentialReport(JANUARY, parse_report(report(line("app"))))
    assert call.asked == ["Generate", "Get"]


def test_the_root_users_keys_are_told_without_ids() -> None:
    root = line("<root_account>", slot(used="2026-02-01T00:00:00Z"), slot("false"))

    def call(_action: str) -> Mapping[str, Any]:
        return {"Content": report(root, line("app", slot())), "GeneratedTime": JANUARY}

    found = fetch_report(call, VirtualClock(START))
    assert [row.name for row in found.rows] == ["app"]
    assert found.root_keys == (
        AccessKey(None, "Active", JANUARY, LastUsed("used", FEBRUARY, "s3", "us-east-1")),
        AccessKey(None, "Inactive", JANUARY, NEVER_USED),
    )
    assert CredentialReport(JANUARY, ()).root_keys == ()


@pytest.mark.parametrize("missing", ["ReportNotPresent", "ReportExpired"])
@pytest.mark.parametrize("state", ["STARTED", "INPROGRESS", "COMPLETE", "LimitExceeded"])
def test_a_missing_report_is_made_and_waited_for(missing: str, state: str) -> None:
    call, clock = Report("STARTED", missing, state, "ReportInProgress", "ready"), VirtualClock(START)
    assert fetch_report(call, clock).rows[0].name == "app"
    assert call.asked == ["Generate", "Get", "Generate", "Get", "Get"]
    assert len(clock.waits) == 2


@pytest.mark.parametrize(
    "answers", [["COMPLETE", "AccessDenied"], ["AccessDenied", "ReportNotPresent", "AccessDenied"]]
)
def test_a_denied_report_is_denied(answers: list[str]) -> None:
    with pytest.raises(DeniedError):
        fetch_report(Report(*answers), VirtualClock(START))


def test_a_report_that_never_comes_is_an_error() -> None:
    with pytest.raises(AwsError, match="ReportInProgress"):
        fetch_report(Report("STARTED", *["ReportInProgress"] * 60), VirtualClock(START))
