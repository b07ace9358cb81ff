"""JSON lines, for `jq` and log pipelines: a line for each user, step, run, account or key."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from sparekey.model import Audit, RootKeys, RunRecord, Unreadable, Usage
from sparekey.plan import Plan
from sparekey.report.interface import RenderOptions
from sparekey.report.json import account_document, root_document, run_document
from sparekey.usage import document

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


def root_keys(listing: tuple[tuple[RootKeys, ...], datetime], options: RenderOptions) -> Iterator[str]:
    """One account a line."""
    del options
    for account in listing[0]:
        yield _line(root_document(account))


def usage(usages: tuple[Usage, ...], options: RenderOptions) -> Iterator[str]:
    """One key a line, and one line for each place that could not be read."""
    del options
    whole = msgspec.json.decode(document(usages))
    for key in whole["keys"]:
        yield _line(key)
    for unread in whole["unread"]:
        yield _line({"status": "UNREADABLE", **unread})


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"
