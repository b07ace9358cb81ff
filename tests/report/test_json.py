"""JSON keeps to its published schemas."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from sparekey import plan as planning
from sparekey import planner
from sparekey.model import Audit, Consumer, Evidence, RunRecord, ServiceUse, Unreadable, Usage
from sparekey.plan import Plan
from sparekey.report import Subject, render
from support import sample_company as company

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def validator(subject: Subject) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{subject}-1.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def as_json(subject: Subject, value: Audit | Plan | RunRecord) -> Any:
    return json.loads("".join(render(subject, value, "json")))


def the_plan() -> Plan:
    snapshot = company.audit().snapshot
    day = timedelta(days=1)
    use = ServiceUse(
        "s3",
        "eu-west-1",
        ("GetObject",),
        3,
        0,
        company.NOW - day,
        company.NOW,
        day,
        None,
        ((company.NOW.date(), 3),),
    )
    usage = Usage(
        "AKIADEMO000000000001",
        "history",
        None,
        company.NOW,
        3,
        0,
        1,
        (Consumer("boto3", "10.1.2.3", (use,)),),
        partial=("cut short",),
        unread=(Unreadable("eu-west-3", "AccessDenied"),),
    )
    return planner.make_plan(snapshot, company.POLICY, company.NOW, usages=[usage])


def the_run() -> RunRecord:
    run = company.run()
    fact = Evidence("iam:GetAccessKeyLastUsed", "never used", "AKIADEMO000000000004", company.NOW)
    return msgspec.structs.replace(
        run, steps=(msgspec.structs.replace(run.steps[0], evidence=(fact,)), *run.steps[1:])
    )


CASES: list[tuple[Subject, Audit | Plan | RunRecord]] = [
    ("audit", company.audit()),
    ("audit", company.audit(cis="")),
    ("plan", the_plan()),
    ("run", the_run()),
]


@pytest.mark.parametrize(("subject", "value"), CASES)
def test_output_keeps_to_its_schema(subject: Subject, value: Audit | Plan | RunRecord) -> None:
    received = as_json(subject, value)
    validator(subject).validate(received)
    with pytest.raises(ValidationError):
        validator(subject).validate({**received, "surprise": 1})


def test_the_schemas_cover_every_part_of_the_output() -> None:
    received = as_json("audit", company.audit())
    assert [account["id"] for account in received["accounts"]] == [
        company.PROD,
        company.DEV,
        company.SHUT,
    ]
    assert received["coverage"]["users_unreadable"] == 1
    assert received["accounts"][2]["unreadable"].startswith("AccessDenied")
    plan = as_json("plan", the_plan())
    assert {step["action"] for step in plan["steps"]} == {"deactivate", "held"}
    assert plan["usages"]
    assert plan["exempt"]
    assert plan["unread"]
    run = as_json("run", the_run())
    assert (run["entries"], run["head"]) == (23, "ab12" * 16)
    assert run["steps"][0]["evidence"][0]["fact"] == "never used"


def test_runs_are_one_to_a_line() -> None:
    text = "".join(render("runs", (the_run(), company.run("settled")), "json"))
    received = json.loads(text)
    assert len(text.splitlines()) == 4
    lines = "".join(render("runs", (the_run(), company.run("settled")), "jsonl")).splitlines()
    assert [json.loads(line) for line in lines] == received
    for run in received:
        validator("run").validate(run)
    assert [run["state"] for run in received] == ["watching", "settled"]
    assert received[0] == as_json("run", the_run())


def test_no_run_is_an_empty_array() -> None:
    assert json.loads("".join(render("runs", (), "json"))) == []


def test_nothing_in_json_moves_a_cursor_and_nothing_is_lost() -> None:
    text = "".join(render("audit", company.audit(), "json"))
    assert all(char.isprintable() or char == "\n" for char in text)
    names = {user["name"] for account in json.loads(text)["accounts"] for user in account["users"]}
    assert {
        company.ESCAPE,
        company.BACKWARDS,
        company.HEBREW,
        company.SCRIPT,
    } <= names


def test_a_shown_plan_is_the_plan() -> None:
    plan = the_plan()
    assert planning.decode("".join(render("plan", plan, "json")).encode()) == plan
