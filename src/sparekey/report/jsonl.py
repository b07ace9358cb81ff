"""JSON lines: one user of an audit, one step of a plan or run, one run a line, for `jq` and log pipelines."""

from collections.abc import Iterator
from typing import Any

import msgspec

from sparekey.model import Audit, RunRecord, Unreadable
from sparekey.plan import Plan
from sparekey.report.interface import RenderOptions
from sparekey.report.json import account_document, run_document

NAME = "jsonl"


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """One user a line with the account's id, and a line for an account that could not be read."""
    del options
    for verdict in audit.accounts:
        document = account_document(verdict)
        if isinstance(verdict.account.users, Unreadable):
            yield _line(
                {"account": document["id"], "status": "UNREADABLE", "unreadable": document["unreadable"]}
            )
        for finding in document["findings"]:
            yield _line({"account": document["id"], **finding})
        for user in document["users"]:
            yield _line({"account": document["id"], **user})


def plan(plan: Plan, options: RenderOptions) -> Iterator[str]:
    """One step a line, and one line for each thing that could not be read."""
    del options
    for step in plan.steps:
        yield _line(step)
    for unread in plan.unread:
        yield _line({"status": "UNREADABLE", "what": unread.what, "why": unread.why})


def run(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """One step a line with the run's id."""
    del options
    for step in run_document(record)["steps"]:
        yield _line({"run": record.id, **step})


def runs(records: tuple[RunRecord, ...], options: RenderOptions) -> Iterator[str]:
    """One run a line."""
    del options
    for record in records:
        yield _line(run_document(record))


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"
