"""CSV for a spreadsheet: a cell that would start a formula is shown as text.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import io
from collections.abc import Iterable, Iterator

from sparekey.model import AccessKey, Audit, Unreadable, UserVerdict
from sparekey.plan import Plan
from sparekey.report import Look

NAME = "csv"
_AUDIT_COLUMNS = (
    *("account", "alias", "user", "arn", "status", "active_keys", "key", "key_status", "created"),
    *("last_used_state", "last_used_at", "last_used_service", "last_used_region", "findings", "as_of"),
)
_NO_KEY = ("",) * 8
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def audit(audit: Audit, look: Look) -> Iterator[str]:
    """One row a key; a user without keys, and an account that could not be read, has one row too."""
    del look
    yield _row(*_AUDIT_COLUMNS)
    for account in audit.accounts:
        told = account.account
        as_of = told.as_of.isoformat()
        if isinstance(told.users, Unreadable):
            yield _row(told.id, told.alias, "", "", "UNREADABLE", *_NO_KEY, told.users.why, as_of)
        for finding in account.findings:
            text = f"{finding.rule}: {finding.message}"
            yield _row(told.id, told.alias, "", "", finding.status, *_NO_KEY, text, as_of)
        for verdict in account.users:
            for key in _keys(verdict):
                yield _row(told.id, told.alias, *_user(verdict), *_key(key), _findings(verdict), as_of)


def plan(plan: Plan, look: Look) -> Iterator[str]:
    """One row a step."""
    del look
    yield _row("account", "user", "keep", "key", "action", "reason", "why", "release")
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
        yield _row(*row)


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


def _row(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(f"'{cell}" if cell.startswith(_STARTS_A_FORMULA) else cell for cell in cells)
    return line.getvalue()
