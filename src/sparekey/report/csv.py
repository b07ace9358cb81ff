"""CSV for a spreadsheet: a cell that would start a formula is shown as text.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping

from sparekey.formatting import clean
from sparekey.model import AccessKey, Audit, RunRecord, Unreadable, UserVerdict
from sparekey.plan import Plan
from sparekey.report.interface import RenderOptions

NAME = "csv"
_AUDIT_COLUMNS = (
    *("account", "alias", "user", "arn", "status", "active_keys", "key", "key_status", "created"),
    *("last_used_state", "last_used_at", "last_used_service", "last_used_region", "findings", "as_of"),
)
_RUN_COLUMNS = (
    *("run", "account", "user", "keep", "key", "state", "changed_at", "before", "after", "decided"),
    *("why", "release", "request_ids", "ledger_head"),
)
_NO_KEY = ("",) * 8
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n")


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """One row a key; a user without keys, and an account that could not be read, has one row too."""
    del options
    yield _empty_row(*_AUDIT_COLUMNS)
    for account in audit.accounts:
        unread = account.account
        as_of = unread.as_of.isoformat()
        if isinstance(unread.users, Unreadable):
            yield _empty_row(unread.id, unread.alias, "", "", "UNREADABLE", *_NO_KEY, unread.users.why, as_of)
        for finding in account.findings:
            text = f"{finding.rule}: {finding.message}"
            yield _empty_row(unread.id, unread.alias, "", "", finding.status, *_NO_KEY, text, as_of)
        for verdict in account.users:
            for key in _keys(verdict):
                yield _empty_row(
                    unread.id, unread.alias, *_user(verdict), *_key(key), _findings(verdict), as_of
                )


def plan(plan: Plan, options: RenderOptions) -> Iterator[str]:
    """One row a step."""
    del options
    yield _empty_row("account", "user", "keep", "key", "action", "reason", "why", "release")
    for step in plan.steps:
        row = (
            step.account,
            step.user,
            step.keep or "",
            step.key,
            step.action,
            step.reason,
            step.why,
            step.release,
        )
        yield _empty_row(*row)


def run(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """One row a step; listings read `key status` with a space, entries parted by a comma."""
    del options
    yield _empty_row(*_RUN_COLUMNS)
    for step in record.steps:
        yield _empty_row(
            record.id,
            step.account,
            step.user,
            step.keep or "",
            step.key,
            step.state,
            step.changed_at.isoformat() if step.changed_at else "",
            _statuses(step.before),
            _statuses(step.after),
            step.decided,
            step.why,
            step.release,
            " ".join(step.request_ids),
            record.head,
        )


def _statuses(listing: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {status}" for key, status in sorted(listing.items()))


def _keys(verdict: UserVerdict) -> Iterable[AccessKey | None]:
    keys = verdict.user.keys
    return (None,) if isinstance(keys, Unreadable) or not keys else keys


def _user(verdict: UserVerdict) -> tuple[str, ...]:
    user = verdict.user
    count = "" if isinstance(user.keys, Unreadable) else str(len(user.active_keys))
    return user.name, user.arn, verdict.status, count


def _key(key: AccessKey | None) -> tuple[str, ...]:
    if key is None:
        return _NO_KEY[1:]
    used = key.last_used
    created = key.created.isoformat() if key.created else ""
    at = used.at.isoformat() if used.at else ""
    return key.id or "", key.status, created, used.state, at, used.service or "", used.region or ""


def _findings(verdict: UserVerdict) -> str:
    return "; ".join(f"{finding.rule}: {finding.message}" for finding in verdict.findings)


def _empty_row(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(_cell(cell) for cell in cells)
    return line.getvalue()


def _cell(text: str) -> str:
    """The text, quoted where a spreadsheet would reckon it, with nothing in it that a terminal acts on."""
    text = f"'{text}" if text.startswith(_FORMULA_START) else text
    return clean(text)
