"""The cases are files: what was read, by which policy, at which time; what is found and what is planned."""

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.errors import BadInputError
from sparekey.model import Account, Caller, Snapshot, Usage
from sparekey.plan import decode, encode
from sparekey.planner import make_plan
from sparekey.policy import parse_policy
from sparekey.rules import DEFAULT_RULE, assess, exit_code, findings, registry

CASES = Path(__file__).parent / "cases"
FILES = sorted(CASES.glob("*/*.json"))
ROLE = Caller("999999999999", "arn:aws:sts::999999999999:assumed-role/ops/session")


class ExpectedFinding(msgspec.Struct, forbid_unknown_fields=True):
    """One finding; `says` are parts of its message. Of a user who passes there is none."""

    account: str
    user: str
    status: Literal["FAIL", "EXEMPT", "UNREADABLE"]
    says: tuple[str, ...] = ()


class ExpectedStep(msgspec.Struct, forbid_unknown_fields=True):
    """One step; `says` are parts of its why or its release."""

    account: str
    user: str
    key: str
    action: Literal["deactivate", "held"]
    keep: str | None
    reason: str
    says: tuple[str, ...] = ()


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """One file; what it leaves out is not looked at."""

    why: str
    now: datetime
    accounts: tuple[Account, ...]
    policy: str = ""
    asked: Overrides = NO_OVERRIDES
    caller: Caller = ROLE
    usages: tuple[Usage, ...] = ()
    findings: tuple[ExpectedFinding, ...] | None = None
    steps: tuple[ExpectedStep, ...] | None = None
    exempt: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    refused: str = ""


def read(path: Path) -> Case:
    return msgspec.json.decode(path.read_bytes(), type=Case)


def check_findings(case: Case, rule: str) -> None:
    assert case.findings is not None
    policy = parse_policy(case.policy)
    result = [one for account in case.accounts for one in findings(account, policy, case.now, [rule])]
    got = [(one.account, one.user, one.status) for one in result]
    assert got == [(one.account, one.user, one.status) for one in case.findings]
    for finding, expected in zip(result, case.findings, strict=True):
        assert finding.rule == rule
        for part in expected.says:
            assert part in finding.message
    audit = assess(Snapshot(case.now, case.caller, case.accounts), policy, case.now, [rule])
    statuses = {(account, user): status for account, user, status in got}
    for account in audit.accounts:
        for verdict in account.users:
            assert verdict.status == statuses.get((account.account.id, verdict.user.name), "PASS")
    said_of_users = [status for _, user, status in got if user]
    assert audit.coverage.users_exempt == said_of_users.count("EXEMPT")
    assert audit.coverage.findings_failed == sum(status == "FAIL" for _, _, status in got)
    if rule == DEFAULT_RULE:
        assert audit.coverage.users_spare == sum(status in ("FAIL", "EXEMPT") for status in said_of_users)
    assert exit_code(audit) == (4 if "UNREADABLE" in statuses.values() else 3 * ("FAIL" in statuses.values()))


def check_steps(case: Case) -> None:
    assert case.steps is not None
    plan = make_plan(
        Snapshot(case.now, case.caller, case.accounts),
        parse_policy(case.policy),
        case.now,
        overrides=case.asked,
        usages=case.usages,
    )
    got = [
        ExpectedStep(step.account, step.user, step.key, step.action, step.keep, step.reason)
        for step in plan.steps
        if step.action != "rotate"
    ]
    assert got == [msgspec.structs.replace(one, says=()) for one in case.steps]
    for step, expected in zip(plan.steps, case.steps, strict=True):
        for part in expected.says:
            assert part in f"{step.why}\n{step.release}"
    assert [entry.user for entry in plan.exempt] == list(case.exempt)
    assert [entry.what for entry in plan.unread] == list(case.unread)
    assert decode(encode(plan)) == plan


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(path: Path) -> None:
    case = read(path)
    rule = path.parent.name if path.parent.name != "choose" else DEFAULT_RULE
    assert case.findings is not None or case.steps is not None or case.refused, "the case expects nothing"
    if case.findings is not None:
        check_findings(case, rule)
    if case.steps is not None:
        check_steps(case)
    if case.refused:
        snapshot = Snapshot(case.now, case.caller, case.accounts)
        with pytest.raises(BadInputError) as refusal:
            make_plan(snapshot, parse_policy(case.policy), case.now, overrides=case.asked, usages=case.usages)
        assert case.refused in refusal.value.message
        assert refusal.value.hint


@pytest.mark.parametrize("rule", registry())
def test_each_rule_has_a_case_that_finds_nothing_and_one_that_does(rule: str) -> None:
    cases = [read(path).findings for path in FILES if path.parent.name == rule]
    assert () in cases
    assert any(one.status == "FAIL" for case in cases for one in case or ())


def test_each_folder_is_a_rule() -> None:
    assert {path.parent.name for path in FILES} == {*registry(), "choose"}
