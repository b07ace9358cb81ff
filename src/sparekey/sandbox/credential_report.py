"""The credential report: a stored snapshot, made at most once in four hours.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
"""

import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.protocols import iso
from sparekey.sandbox.request import ApiCall
from sparekey.sandbox.scenario import ReportTable
from sparekey.sandbox.state import GeneratedReport, SandboxAccount, SandboxKey, SandboxUser

LIFETIME = timedelta(hours=4)
_HEAD = (
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    "access_key_1_active",
    "access_key_1_last_rotated",
    "access_key_1_last_used_date",
    "access_key_1_last_used_region",
    "access_key_1_last_used_service",
    "access_key_2_active",
    "access_key_2_last_rotated",
    "access_key_2_last_used_date",
    "access_key_2_last_used_region",
    "access_key_2_last_used_service",
    "cert_1_active",
    "cert_1_last_rotated",
    "cert_2_active",
    "cert_2_last_rotated",
)
_SLOTS = 2


def generate(call: ApiCall) -> dict[str, Any]:
    """Start a report unless one is young enough or on its way."""
    account = call.account
    _finish_generation(account, call.now)
    if account.next_report is not None:
        return {"State": "INPROGRESS"}
    if account.report is not None and call.now - account.report.ready < LIFETIME:
        return {"State": "COMPLETE"}
    takes = call.company.report.takes
    content = _write(account, call.now, call.company.report)
    account.next_report = GeneratedReport(call.now, call.now + takes, content)
    return {"State": "STARTED", "Description": "No report exists. Starting a new report generation task"}


def get(call: ApiCall) -> dict[str, Any]:
    """The stored report; raises AwsError while there is none that is ready and young enough."""
    account = call.account
    _finish_generation(account, call.now)
    report = account.report
    if report is not None and call.now - report.ready < LIFETIME:
        return {
            "Content": report.content,
            "ReportFormat": "text/csv",
            "GeneratedTime": report.ready.replace(microsecond=0),
        }
    if account.next_report is not None:
        raise ErrorReplyError("ReportInProgress", "Credential report generation is in progress.", 404)
    if report is not None:
        raise ErrorReplyError("ReportExpired", "Credential report has expired. Generate a new one.", 410)
    raise ErrorReplyError("ReportNotPresent", "No report exists. Generate one first.", 410)


def _finish_generation(account: SandboxAccount, now: datetime) -> None:
    """Take over the report that has become ready."""
    if account.next_report is not None and now >= account.next_report.ready:
        account.report, account.next_report = account.next_report, None


def _write(account: SandboxAccount, now: datetime, options: ReportTable) -> bytes:
    tail = ["additional_credentials_info"] if options.further_keys else []
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*_HEAD, *tail])
    date = _offset_date if options.offset_dates else iso
    rows.writerow(_root_row(account, now, date) + ["" for _ in tail])
    for user in sorted(account.users.values(), key=lambda user: user.name):
        keys = [key for key in user.keys if key.exists_at(now)]
        further = [f"{len(keys) - _SLOTS} additional access keys" if len(keys) > _SLOTS else "" for _ in tail]
        rows.writerow(_row(account, user, keys, date) + further)
    return text.getvalue().encode()


def _offset_date(when: datetime) -> str:
    return iso(when).replace("Z", "+00:00")


def _row(
    account: SandboxAccount, user: SandboxUser, keys: list[SandboxKey], date: Callable[[datetime], str]
) -> list[str]:
    created = date(user.created)
    password = ["true", "no_information", created, "N/A"] if user.console else ["false", "N/A", "N/A", "N/A"]
    return [
        user.name,
        account.user_arn(user),
        created,
        *password,
        "true" if user.console else "false",
        *_slots(keys, date),
        *("false", "N/A", "false", "N/A"),
    ]


def _root_row(account: SandboxAccount, now: datetime, date: Callable[[datetime], str]) -> list[str]:
    keys = [key for key in account.root_keys if key.exists_at(now)]
    head = ["<root_account>", account.root_arn, date(account.joined)]
    password = ["not_supported", "no_information", "not_supported", "not_supported", "true"]
    return [*head, *password, *_slots(keys, date), "false", "N/A", "false", "N/A"]


def _slots(keys: list[SandboxKey], date: Callable[[datetime], str]) -> list[str]:
    cells: list[str] = []
    for slot in range(_SLOTS):
        if slot >= len(keys):
            cells += ["false", *["N/A"] * 4]
            continue
        key = keys[slot]
        use = key.uses[-1] if key.uses else None
        used = [date(use.at), use.region, use.service] if use else ["N/A"] * 3
        cells += ["true" if key.status == "Active" else "false", date(key.rotated), *used]
    return cells
