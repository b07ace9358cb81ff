"""The printed policies, as CloudFormation's own linter sees them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparekey.aws.iam_policies import apply_policy, audit_policy, delete_policy, stackset_template


@pytest.mark.slow
def test_the_template_is_valid_to_cfn_lint(tmp_path: Path) -> None:
    path = tmp_path / "roles.json"
    path.write_text(json.dumps(stackset_template(), indent=2))
    run = subprocess.run(
        [sys.executable, "-c", "import cfnlint.runner.cli; cfnlint.runner.cli.main()", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "")


def test_the_roles_do_no_more_than_the_policies_and_trust_one_principal_with_its_external_id() -> None:
    roles = stackset_template()["Resources"]
    for name, policy in (("SparekeyAudit", audit_policy()), ("SparekeyApply", apply_policy())):
        role = roles[name]["Properties"]
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert set(trust["Condition"]["StringEquals"]) == {"sts:ExternalId", "aws:PrincipalOrgID"}
        assert trust["Principal"] == {"AWS": {"Ref": "TrustedPrincipal"}}
        (inline,) = role["Policies"]
        granted = [statement["Action"] for statement in inline["PolicyDocument"]["Statement"]]
        # Alarms, and the role that sparekey runs as, are asked with the base credentials.
        base = {"AskAlarms", "ReadOwnRole"}
        wanted = [statement["Action"] for statement in policy["Statement"] if statement["Sid"] not in base]
        assert granted == wanted


def test_root_access_is_for_keys_alone_and_deleting_is_asked_for_by_name() -> None:
    for policy, tasks in ((audit_policy(organization=True), 1), (delete_policy(organization=True), 2)):
        (root,) = (statement for statement in policy["Statement"] if statement["Sid"] == "EnterAsRoot")
        allowed = root["Condition"]["StringLike"]["sts:TaskPolicyArn"]
        assert [name.endswith("RootUserCredentials") for name in allowed] == [True] * tasks
        assert any("Delete" in name for name in allowed) == (tasks == 2)
    assert not any(
        "AssumeRoot" in str(policy) for policy in (audit_policy(), apply_policy(), delete_policy())
    )


def test_only_the_apply_policy_writes_and_only_a_keys_status() -> None:
    writes = {
        action
        for statement in apply_policy(organization=True)["Statement"]
        for action in statement["Action"]
        if not action.partition(":")[2].startswith(
            ("Get", "List", "Describe", "Lookup", "Generate", "Simulate", "Assume")
        )
    }
    assert writes == {"iam:UpdateAccessKey"}
