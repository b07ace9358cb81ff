"""The job by the commands, in this process: what each prints, where, and its exit code."""

import pytest

from support.cli_harness import ACCOUNT, CliHarness


@pytest.mark.slow
def test_audit_plan_apply_undo(sk: CliHarness) -> None:
    said = sk("audit")
    assert said.code == 3
    assert said.err == f"Read as arn:aws:iam::{ACCOUNT}:user/ops. Next: sparekey plan -o plan.json\n"
    assert (
        "3 of 5 users have spare keys.\nRead: 1 account, 5 users, 9 access keys. Not read: nothing."
        in said.out
    )

    said = sk("plan", "-o", sk.plan)
    assert said.code == 0
    assert "3 keys to deactivate, 1 held" in said.out
    assert sk.plan.stat().st_mode & 0o777 == 0o600
    assert sk("plan", "--format", "json").out.startswith('{\n  "schema": "sparekey/plan/1"')

    said = sk("apply", sk.plan, "--yes")
    assert said.code == 0
    assert sk.inactive == {"batch/1", "batch/2", "web/1"}
    assert said.err.index("aws iam update-access-key") < said.err.index("deactivating …")
    assert said.out.startswith("Apply complete: 3 deactivated, 1 held, 0 failed.\n")
    assert "DEACTIVATED" in sk("show", sk.run).out

    said = sk("undo", sk.run, "--key", sk.key("web", 1))
    assert said.code == 0
    assert sk.inactive == {"batch/1", "batch/2"}
    assert sk("undo", sk.run).code == 0
    assert sk.inactive == set()
