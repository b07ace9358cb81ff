"""The job by the commands, in this process: what each prints, where, and its exit code."""

import pytest

from support.cli_harness import ACCOUNT, CliHarness


@pytest.mark.slow
def test_audit_plan_apply_undo(sk: CliHarness) -> None:
    result = sk("audit")
    assert result.code == 3
    assert result.err == f"Read as arn:aws:iam::{ACCOUNT}:user/ops. Next: sparekey plan -o plan.json\n"
    assert (
        "3 of 5 users have spare keys.\nRead: 1 account, 5 users, 9 access keys. Not read: nothing."
        in result.out
    )

    result = sk("plan", "-o", sk.plan)
    assert result.code == 0
    assert "3 keys to deactivate, 1 held" in result.out
    assert sk.plan.stat().st_mode & 0o777 == 0o600
    assert sk("plan", "--format", "json").out.startswith('{\n  "schema": "sparekey/plan/1"')

    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert sk.inactive == {"batch/1", "batch/2", "web/1"}
    assert result.err.index("aws iam update-access-key") < result.err.index("deactivating …")
    assert result.out.startswith("Apply complete: 3 deactivated, 1 held, 0 failed.\n")
    assert "DEACTIVATED" in sk("show", sk.run).out

    result = sk("undo", sk.run, "--key", sk.key("web", 1))
    assert result.code == 0
    assert sk.inactive == {"batch/1", "batch/2"}
    assert sk("undo", sk.run).code == 0
    assert sk.inactive == set()
