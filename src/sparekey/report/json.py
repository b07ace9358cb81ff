"""JSON, versioned and stable: `sparekey/audit/1`, `sparekey/plan/1`, `sparekey/run/1`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from sparekey.model import AccessKey, AccountVerdict, Audit, Finding, RunRecord, Unreadable, UserVerdict
from sparekey.plan import Plan, encode
from sparekey.report import Look

NAME = "json"


def audit(audit: Audit, look: Look) -> Iterator[str]:
    """One account a line, so that ten thousand accounts need the memory of one."""
    del look
    coverage = audit.coverage
    generated = _text(_time(audit.snapshot.generated))
    yield f'{{"schema": "sparekey/audit/1", "generated": {generated},\n'
    yield f'"rules": {_text(audit.rules)}, "cis": {_text(audit.cis or None)}, "caller": '
    yield f'{_text(audit.snapshot.caller.arn)},\n"accounts": ['
    for number, account in enumerate(audit.accounts):
        yield (",\n" if number else "\n") + _text(_account(account))
    yield f'\n],\n"coverage": {_text(coverage)}}}\n'


def plan(plan: Plan, look: Look) -> Iterator[str]:
    """Exactly the plan's file."""
    del look
    yield encode(plan).decode()


def run(record: RunRecord, look: Look) -> Iterator[str]:
    """One run as its ledger tells it."""
    del look
    yield (
        msgspec.json.format(_text({"schema": "sparekey/run/1", **msgspec.to_builtins(record)}), indent=2)
        + "\n"
    )


def runs(records: tuple[RunRecord, ...], look: Look) -> Iterator[str]:
    """One run a line."""
    del look
    for record in records:
        yield _text({"schema": "sparekey/run/1", **msgspec.to_builtins(record)}) + "\n"


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _account(verdict: AccountVerdict) -> dict[str, Any]:
    account = verdict.account
    return {
        "id": account.id,
        "partition": account.partition,
        "alias": account.alias or None,
        "read_by": account.read_by,
        "as_of": _time(account.as_of),
        "unreadable": account.users.why if isinstance(account.users, Unreadable) else None,
        "notes": account.notes,
        "findings": [_finding(finding) for finding in verdict.findings],
        "users": [_user(user) for user in verdict.users],
    }


def _user(verdict: UserVerdict) -> dict[str, Any]:
    user = verdict.user
    keys = () if isinstance(user.keys, Unreadable) else user.keys
    return {
        "name": user.name,
        "arn": user.arn,
        "status": verdict.status,
        "active_keys": None if isinstance(user.keys, Unreadable) else len(user.active_keys),
        "keys": [_key(key) for key in keys],
        "findings": [_finding(finding) for finding in verdict.findings],
    }


def _key(key: AccessKey) -> dict[str, Any]:
    used = key.last_used
    last_used = {"state": used.state, "at": _time(used.at), "service": used.service, "region": used.region}
    if used.state == "unreadable":
        last_used["why"] = used.why
    return {"id": key.id, "status": key.status, "created": _time(key.created), "last_used": last_used}


def _finding(finding: Finding) -> dict[str, str]:
    return {"rule": finding.rule, "status": finding.status, "message": finding.message}
