"""The credential report: one call that describes every user, as of when AWS last made it.

It is a stored snapshot, made at most once in four hours, with no key ids and room for two keys a user.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
"""

import contextlib
import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sparekey.aws.errors import AwsError, DeniedError, MalformedResponseError
from sparekey.clock import Clock
from sparekey.model import NEVER_USED, AccessKey, LastUsed, Value

_SLOTS = (1, 2)
_ROOT = "<root_account>"
# What stands where there is no value; `no_information` and `not_supported` are no "never".
_NO_VALUE = frozenset({"", "N/A"})
_NOT_REPORTED = frozenset({"no_information", "not_supported"})
_NO_MORE_COLUMNS = _NO_VALUE | {"0", "false", "none"}
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetCredentialReport.html
_MISSING = frozenset({"ReportNotPresent", "ReportExpired"})
_IN_PROGRESS = "ReportInProgress"
_LIMIT = "LimitExceeded"  # too many report jobs at once
_MAX_POLLS = 60
_POLL_SECONDS = 2.0

Call = Callable[[str], Mapping[str, Any]]


class ReportSlot(Value, frozen=True):
    """One key as the report shows it; `rotated`, its creation or last change, proves no age."""

    active: bool
    rotated: datetime
    last_used: LastUsed


class ReportRow(Value, frozen=True):
    """One user in the report; not `whole` where the user may have keys that the report does not show."""

    name: str
    arn: str
    created: datetime | None
    slots: tuple[ReportSlot, ...]
    complete: bool

    @property
    def active(self) -> int:
        """How many of the shown keys are active."""
        return sum(slot.active for slot in self.slots)


class CredentialReport(Value, frozen=True):
    """Every user as of `generated`, blind to later changes; `root` is the root user, where the report has it."""

    generated: datetime
    rows: tuple[ReportRow, ...]
    root: ReportRow | None = None

    @property
    def root_keys(self) -> tuple[AccessKey, ...]:
        """The root user's keys: without ids, and `created` is when AWS reports that they last changed, or were made."""
        return tuple(
            AccessKey(None, "Active" if slot.active else "Inactive", slot.rotated, slot.last_used)
            for slot in (self.root.slots if self.root else ())
        )


def fetch_report(call: Call, clock: Clock) -> CredentialReport:
    """The stored report, or a new one where there is none; raises AwsError, also when none comes.

    AWS is asked to make one first: where the stored one will do it answers COMPLETE, at the price of one call.
    A caller that may only read gets the last one that was generated.
    """
    with contextlib.suppress(DeniedError):
        _generate(call)
    asked_again = 0
    while True:
        try:
            response = call("GetCredentialReport")
            rows = _rows(response["Content"])
            return CredentialReport(
                response["GeneratedTime"].astimezone(UTC),
                tuple(row for row in rows if row.name != _ROOT),
                next((row for row in rows if row.name == _ROOT), None),
            )
        except AwsError as error:
            missing = error.code in _MISSING
            asked_again += 1
            if asked_again >= _MAX_POLLS or not (missing or error.code == _IN_PROGRESS):
                raise
        if missing:
            _generate(call)
        clock.sleep(_POLL_SECONDS)


def _generate(call: Call) -> None:
    try:
        call("GenerateCredentialReport")  # STARTED, INPROGRESS and COMPLETE all mean: ask for it
    except AwsError as error:
        if error.code != _LIMIT:
            raise


def parse_report(content: bytes) -> tuple[ReportRow, ...]:
    """The users of a report, the root user left out; raises BadAnswerError."""
    return tuple(row for row in _rows(content) if row.name != _ROOT)


def _rows(content: bytes) -> tuple[ReportRow, ...]:
    try:
        lines = csv.reader(io.StringIO(content.decode(), newline=""))
        head = next(lines)
        column = {name: place for place, name in enumerate(head)}
        return tuple(_row(line, column) for line in lines if line)
    except (UnicodeDecodeError, StopIteration, KeyError, IndexError, ValueError, csv.Error) as error:
        raise MalformedResponseError(f"the credential report cannot be understood: {error!r}") from error


def _row(line: Sequence[str], column: Mapping[str, int]) -> ReportRow:
    shown = [slot for number in _SLOTS if (slot := _slot(line, column, f"access_key_{number}_"))]
    further = "additional_credentials_info"
    if further in column:
        whole = line[column[further]].strip().lower() in {text.lower() for text in _NO_MORE_COLUMNS}
    else:
        whole = len(shown) < len(_SLOTS)  # racing creates have made third keys, and there is no room for them
    created = _time(line[column["user_creation_time"]])
    return ReportRow(line[column["user"]], line[column["arn"]], created, tuple(shown), whole)


def _slot(line: Sequence[str], column: Mapping[str, int], prefix: str) -> ReportSlot | None:
    def cell(name: str) -> str:
        return line[column[prefix + name]].strip()

    active = cell("active").lower()
    rotated = _time(cell("last_rotated"))
    if rotated is None:
        if active == "true":
            raise ValueError(f"{prefix}active without {prefix}last_rotated")
        return None
    if active not in {"true", "false"}:
        raise ValueError(f"{prefix}active is {active!r}")
    return ReportSlot(active == "true", rotated, _last_used(cell))


def _last_used(cell: Callable[[str], str]) -> LastUsed:
    date = cell("last_used_date")
    if date in _NOT_REPORTED:
        return LastUsed("unreadable", why=f"the credential report says {date}")
    at = _time(date)
    if at is None:
        return NEVER_USED
    service, region = cell("last_used_service"), cell("last_used_region")
    return LastUsed("used", at, _reported(service), _reported(region))


def _reported(text: str) -> str | None:
    return None if text in _NO_VALUE or text in _NOT_REPORTED else sys.intern(text)


def _time(text: str) -> datetime | None:
    """A time ending in `Z` or `+00:00`; None where there is none."""
    if text in _NO_VALUE or text in _NOT_REPORTED:
        return None
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def last_uses(row: ReportRow, keys: Sequence[AccessKey]) -> dict[str, LastUsed]:
    """The report's last use by key id, for the keys whose slot is beyond doubt.

    A slot is a key's where `last_rotated` is the key's creation to the second, and no other key or slot has
    that time; the order of the slots says nothing.
    """
    slots = Counter(slot.rotated for slot in row.slots)
    created = Counter(key.created for key in keys)
    by_time = {slot.rotated: slot for slot in row.slots if slots[slot.rotated] == 1}
    return {
        key.id: by_time[key.created].last_used
        for key in keys
        if key.id
        and key.created in by_time
        and created[key.created] == 1
        and by_time[key.created].active == key.active
    }
