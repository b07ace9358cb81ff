"""The printed IAM policies allow what the commands ask for, and nothing that they do not."""

import json

import pytest

from sparekey.sandbox.scenario import Deny
from support.cli_harness import ACCOUNT, CliHarness

# GetCallerIdentity needs no permission, whatever a policy says:
# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
FREE = {"sts:GetCallerIdentity"}
# Asked for only where the caller is a role, to find its path and whom it lets in, or where a probe is an alarm.
ELSEWHERE = {"iam:GetRole", "cloudwatch:DescribeAlarms"}
READING = (
    ("audit",),
    ("audit", "--rule", "unused-key", "--rule", "root-key", "--rule", "old-key"),
    ("audit", "--read", "report"),
    ("plan", "-o", "plan.json"),
    ("plan", "--usage", "history"),
    ("root-keys",),
)
WRITING = (("apply", "plan.json", "--yes"), ("undo", "RUN"), ("runs",), ("show", "RUN"))


def _granted(sk: CliHarness, kind: str) -> set[str]:
    policy = json.loads(sk("iam-policy", kind).out)
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def _restrict(sk: CliHarness, actions: set[str]) -> None:
    """Give the caller these permissions and no others."""
    sk.aws.state.accounts[ACCOUNT].users["ops"].allow = tuple(sorted(actions))


def _asked(sk: CliHarness) -> set[str]:
    assert not [call for call in sk.aws.state.calls if call.error == "AccessDenied"]
    return {call.action for call in sk.aws.state.calls} - FREE


def test_the_audit_policy_is_what_the_reading_commands_ask_for(sk: CliHarness) -> None:
    granted = _granted(sk, "audit")
    _restrict(sk, granted)
    for command in READING:
        assert sk(*command).code in (0, 3), command
    assert _asked(sk) == granted - ELSEWHERE


@pytest.mark.slow
def test_the_apply_policy_is_what_all_commands_ask_for(sk: CliHarness) -> None:
    granted = _granted(sk, "apply")
    _restrict(sk, granted)
    for command in (*READING, *WRITING):
        assert sk(*(sk.run if word == "RUN" else word for word in command)).code in (0, 3), command
    assert _asked(sk) == granted - ELSEWHERE
    assert sk.inactive == set()


@pytest.mark.parametrize("kind", ["audit", "apply", "stackset"])
def test_the_policies_are_json(sk: CliHarness, kind: str) -> None:
    assert json.loads(sk("iam-policy", kind).out)
    assert json.loads(sk("iam-policy", kind, "--org").out)


@pytest.mark.slow
def test_without_simulation_the_preflight_says_that_it_could_not_look(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    sk.fault(Deny(action="iam:SimulatePrincipalPolicy"))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert "permissions could not be checked beforehand: access denied" in result.err
