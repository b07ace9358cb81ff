"""JSON lines: each line is an object, nothing is lost, and what could not be read has a line."""

import json
from datetime import UTC, datetime
from typing import Any

from sparekey import planner
from sparekey.model import RootKeys, Unreadable, Usage
from sparekey.report import Subject, render
from support import sample_company as company

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def lines(subject: Subject, value: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in "".join(render(subject, value, "jsonl")).splitlines()]


def test_an_audit_has_a_line_for_each_user_and_each_account_that_could_not_be_read() -> None:
    audit = company.audit()
    read = lines("audit", audit)
    users = {(account.id, user.name) for account, user in audit.snapshot.users()}
    assert len([line for line in read if "name" in line]) == len(users)
    unread = [line["account"] for line in read if line.get("unreadable")]
    assert unread == [x.id for x in audit.snapshot.accounts if isinstance(x.users, Unreadable)]
    assert unread


def test_a_plan_has_a_line_for_each_step_and_for_what_was_not_read() -> None:
    plan = planner.make_plan(company.audit().snapshot, company.POLICY, company.NOW)
    read = lines("plan", plan)
    assert [line["key"] for line in read if "key" in line] == [step.key for step in plan.steps]
    assert len([line for line in read if line.get("status") == "UNREADABLE"]) == len(plan.unread) > 0


def test_a_run_has_a_line_for_each_step_with_its_run() -> None:
    run = company.run("settled")
    assert [(line["run"], line["key"]) for line in lines("run", run)] == [(run.id, x.key) for x in run.steps]


def test_root_keys_and_usages_have_a_line_each() -> None:
    listing = (
        RootKeys("111122223333", "", 0),
        RootKeys("444455556666", "", Unreadable("root keys", "denied")),
    )
    read = lines("root_keys", (listing, NOW))
    assert [(line["id"], line["unreadable"]) for line in read] == [
        ("111122223333", None),
        ("444455556666", "denied"),
    ]
    usage = Usage("AKIA1", "history", NOW, NOW, 0, 0, 0, (), unread=(Unreadable("eu-west-1", "denied"),))
    key, unread = lines("usage", (usage,))
    assert key["key"] == "AKIA1"
    assert unread == {"status": "UNREADABLE", "place": "eu-west-1", "why": "denied"}
