"""JSON, versioned and stable: `sparekey/audit/1`, `sparekey/plan/1`, `sparekey/run/1`.

The schemas are docs/reference/schemas/*.json.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import msgspec

from sparekey.errors import BadInputError
from sparekey.formatting import rfc3339
from sparekey.model import (
    AccessKey,
    Account,
    AccountVerdict,
    Audit,
    Caller,
    Coverage,
    Evidence,
    Finding,
    FindingStatus,
    RootKeys,
    RunRecord,
    SkippedAccount,
    Snapshot,
    StepRecord,
    Time,
    Unreadable,
    Usage,
    User,
    UserVerdict,
)
from sparekey.plan import Plan, encode
from sparekey.report.interface import RenderOptions
from sparekey.usage import document

NAME = "json"


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """One account a line, so that ten thousand accounts need the memory of one."""
    del options
    coverage = audit.coverage
    generated = _text(_time(audit.snapshot.generated))
    yield f'{{"schema": "sparekey/audit/1", "generated": {generated},\n'
    yield f'"rules": {_text(audit.rules)}, "cis": {_text(audit.cis or None)}, "caller": '
    yield f'{_text(audit.snapshot.caller.arn)},\n"accounts": ['
    for number, account in enumerate(audit.accounts):
        yield (",\n" if number else "\n") + _text(account_document(account))
    yield f'\n],\n"skipped": {_text(audit.snapshot.skipped)},\n"coverage": {_text(coverage)}}}\n'


def plan(plan: Plan, options: RenderOptions) -> Iterator[str]:
    """The plan's file: what `sparekey apply` takes."""
    del options
    yield encode(plan).decode()


def run(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """What was done, one step a line."""
    del options
    head, steps = _run(record)
    yield f'{_text(head)[:-1]},\n"steps": ['
    for number, step in enumerate(steps):
        yield (",\n" if number else "\n") + _text(step)
    yield "\n]}\n"


def runs(records: tuple[RunRecord, ...], options: RenderOptions) -> Iterator[str]:
    """An array, one run a line."""
    del options
    yield "["
    for number, record in enumerate(records):
        yield (",\n" if number else "\n") + _text(run_document(record))
    yield "\n]\n" if records else "]\n"


def root_keys(listing: tuple[tuple[RootKeys, ...], datetime], options: RenderOptions) -> Iterator[str]:
    """Every account's root keys."""
    del options
    accounts = [root_document(account) for account in listing[0]]
    yield (
        _text({"schema": "sparekey/root-keys/1", "generated": _time(listing[1]), "accounts": accounts}) + "\n"
    )


def root_document(account: RootKeys) -> dict[str, Any]:
    """An account's root keys as plain data."""
    return {
        "id": account.account,
        "name": account.name or None,
        "present": None if isinstance(account.present, Unreadable) else account.present,
        "unreadable": next(
            (x.why for x in (account.present, account.keys) if isinstance(x, Unreadable)), None
        ),
        "keys": [] if isinstance(account.keys, Unreadable) else [_key(key) for key in account.keys],
    }


def usage(usages: tuple[Usage, ...], options: RenderOptions) -> Iterator[str]:
    """Who used each key, as `sparekey/usage/1`."""
    del options
    yield document(usages).decode() + "\n"


def read_audit(content: bytes) -> Audit:
    """An audit's JSON as the audit again; raises BadInputError where it is none, or of another version."""
    try:
        document = msgspec.json.decode(content, type=_AuditDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"this is no audit in JSON: {error}", _AUDIT_HINT) from error
    accounts = tuple(_account_document(account) for account in document.accounts)
    snapshot = Snapshot(
        document.generated,
        Caller("", document.caller),
        tuple(verdict.account for verdict in accounts),
        document.skipped,
    )
    return Audit(snapshot, document.rules, accounts, document.coverage, document.cis or "")


_AUDIT_HINT = "Make one: sparekey audit --format json > audit.json"


class _FindingDocument(msgspec.Struct, frozen=True):
    rule: str
    status: FindingStatus
    message: str


class _UserDocument(msgspec.Struct, frozen=True):
    name: str
    arn: str
    status: FindingStatus
    active_keys: int | None
    keys: tuple[AccessKey, ...]
    findings: tuple[_FindingDocument, ...]


class _AccountDocument(msgspec.Struct, frozen=True):
    id: str
    partition: str
    alias: str | None
    read_by: Literal["list", "report"]
    as_of: Time
    unreadable: str | None
    findings: tuple[_FindingDocument, ...]
    users: tuple[_UserDocument, ...]
    notes: tuple[str, ...] = ()


class _AuditDocument(msgspec.Struct, frozen=True, tag_field="schema", tag="sparekey/audit/1"):
    generated: Time
    rules: tuple[str, ...]
    caller: str
    accounts: tuple[_AccountDocument, ...]
    coverage: Coverage
    cis: str | None = None
    skipped: tuple[SkippedAccount, ...] = ()


def _account_document(document: _AccountDocument) -> AccountVerdict:
    def findings(user: str, documents: tuple[_FindingDocument, ...]) -> tuple[Finding, ...]:
        return tuple(
            Finding(document_.rule, document.id, user, document_.status, document_.message)
            for document_ in documents
        )

    verdicts = tuple(
        UserVerdict(
            User(
                user.name,
                user.arn,
                user.keys
                if user.active_keys is not None
                else Unreadable("keys", next((document_.message for document_ in user.findings), "not read")),
            ),
            user.status,
            findings(user.name, user.findings),
        )
        for user in document.users
    )
    account = Account(
        id=document.id,
        partition=document.partition,
        users=Unreadable("users", document.unreadable)
        if document.unreadable is not None
        else tuple(verdict.user for verdict in verdicts),
        as_of=document.as_of,
        alias=document.alias or "",
        read_by=document.read_by,
        notes=document.notes,
    )
    return AccountVerdict(account, verdicts, findings("", document.findings))


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def account_document(verdict: AccountVerdict) -> dict[str, Any]:
    """An account of an audit as plain data."""
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


def run_document(record: RunRecord) -> dict[str, Any]:
    """A run and its steps as plain data."""
    head, steps = _run(record)
    return {**head, "steps": steps}


def _run(record: RunRecord) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    head = {
        "schema": "sparekey/run/1",
        "id": record.id,
        "state": record.state,
        "plan_digest": record.plan_digest,
        "caller": record.caller,
        "opened": _time(record.opened),
        "updated": _time(record.updated),
        "wave": record.wave,
        "waves": record.waves,
        "watch_until": _time(record.watch_until),
        "notes": record.notes,
        "entries": record.entries,
        "head": record.head,
    }
    return head, [_step(step) for step in record.steps]


def _step(step: StepRecord) -> dict[str, Any]:
    return {
        "account": step.account,
        "user": step.user,
        "keep": step.keep,
        "key": step.key,
        "state": step.state,
        "decided": step.decided,
        "why": step.why,
        "release": step.release,
        "never_reactivate": step.never_reactivate,
        **({"rotation": msgspec.to_builtins(step.rotation)} if step.rotation else {}),
        "request_ids": step.request_ids,
        "before": step.before,
        "after": step.after,
        "changed_at": _time(step.changed_at),
        "evidence": [_evidence(fact) for fact in step.evidence],
    }


def _evidence(fact: Evidence) -> dict[str, str | None]:
    return {"source": fact.source, "fact": fact.fact, "key": fact.key or None, "at": _time(fact.at)}
