"""`sparekey rotate`, `plan --rotate`, and what apply, show, undo and delete make of a rotation."""

import json
import re
from datetime import timedelta

import pytest

from sparekey.sandbox import secretsmanager
from sparekey.sandbox.scenario import Fail
from sparekey.sandbox.state import LastUseRecord
from support.cli_harness import ACCOUNT, CliHarness

POLICY = """
max_key_age = "20d"
rotate_before = "1d"
[[handover]]
user = "one"
store = "secretsmanager:prod/one"
"""


@pytest.fixture
def old(sk: CliHarness) -> str:
    """The user "one" has one key, which policy calls old, and a secret that has it; returns the key."""
    sk.policy(POLICY)
    key = sk.aws.key("one", account=ACCOUNT)
    key.uses = [LastUseRecord(sk.aws.clock.now() - timedelta(hours=1), "s3", "us-east-1")]
    text = json.dumps({"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret})
    secretsmanager.add_secret(sk.aws.state, f"{ACCOUNT}/us-east-1", "prod/one", text, sk.aws.clock.now())
    return key.id


def stored(sk: CliHarness) -> str:
    secret = sk.aws.state.secrets[f"{ACCOUNT}/us-east-1"]["prod/one"]
    current = next(version for version in secret.versions.values() if "AWSCURRENT" in version.stages)
    return str(json.loads(current.text)["AWS_ACCESS_KEY_ID"])


def test_a_check_says_of_each_handover_whether_it_is_ready(sk: CliHarness, old: str) -> None:
    result = sk("rotate", "--check")
    assert (result.code, result.out) == (0, f"{ACCOUNT}  one  secretsmanager:prod/one: ready\n")
    sk.deny("secretsmanager:PutSecretValue")
    result = sk("rotate", "--check", "--user", "one")
    assert result.code == 1
    assert "these credentials lack secretsmanager:PutSecretValue" in result.out
    assert (stored(sk), sk.writes) == (old, 0)
    assert "no [[handover]] of the policy covers user web" in sk("rotate", "--check", "--user", "web").error
    assert "there is no IAM user 'nobody'" in sk("rotate", "--check", "--user", "nobody").error
    sk.policy("")
    assert "docs/how-to/rotate.md" in sk("rotate", "--check").err


def test_one_user_is_rotated_shown_and_undone(sk: CliHarness, old: str) -> None:
    sk.answer("y\n")
    result = sk("rotate", "--user", "one")
    assert result.code == 0, result.err
    assert "Rotate 1 key?" in result.err
    assert "1 being rotated" in result.out
    assert "waiting for applications to move" in result.out
    new, run = stored(sk), re.search(r"Run (r-\w+)", result.out)[1]  # type: ignore[index]
    assert new != old
    shown = sk("show", run).out
    assert f"New key {new} in secretsmanager:prod/one" in shown
    assert "NEW KEY PUBLISHED, APPLICATIONS MOVING" in shown
    assert json.loads(sk("show", run, "--format", "json").out)["steps"][0]["rotation"]["new_key"] == new
    assert "its handover would be reverted" in sk("undo", run, "--dry-run").out
    undone = sk("undo", run)
    assert (undone.code, stored(sk)) == (0, old)
    assert "1 handed back" in undone.out
    secret = sk.aws.state.keys[new].secret
    assert secret not in result.out + result.err + shown + undone.out + undone.err


def test_a_person_who_says_no_changes_nothing(sk: CliHarness, old: str) -> None:
    sk.answer("n\n")
    result = sk("rotate", "--user", "one")
    assert (result.code, stored(sk), sk.writes) == (1, old, 0)
    assert "Cancelled. Nothing was changed." in result.err


def test_a_user_without_a_handover_is_held_and_told_how_to_write_one(sk: CliHarness, old: str) -> None:
    result = sk("rotate", "--user", "busy")
    assert result.code == 3
    assert "[no-slot]" in result.out or "[no-handover]" in result.out
    assert stored(sk) == old
    assert "no user is named" in sk("rotate").error


def test_a_destination_that_cannot_take_the_key_is_refused_before_anything_is_written(
    sk: CliHarness, old: str
) -> None:
    plan = sk.make_plan("--rotate", "--user", "one")
    sk.deny("secretsmanager:UpdateSecretVersionStage")
    result = sk("apply", plan, "--yes")
    assert result.code == 1
    assert "lack secretsmanager:UpdateSecretVersionStage" in result.error
    assert "No key was created" in result.err
    assert (stored(sk), sk.writes) == (old, 0)


def test_a_lost_key_is_named_and_deleted_by_its_name_alone(sk: CliHarness, old: str) -> None:
    plan = sk.make_plan("--rotate", "--user", "one")
    sk.fault(Fail(action="secretsmanager:PutSecretValue", code="InternalServiceError", status=400))
    result = sk("apply", plan, "--yes")
    assert result.code == 1
    orphan = next(key.id for key in sk.aws.state.keys.values() if key.user == "one" and key.id != old)
    assert f"sparekey delete --orphan {orphan}" in sk("show", sk.run).out
    assert "name --older-than TIME, or --orphan KEY" in sk("delete").error
    sk.answer(f"{ACCOUNT} {orphan}\n")
    deleted = sk("delete", "--orphan", orphan)
    assert (deleted.code, deleted.out) == (0, f"{ACCOUNT}  one  {orphan}: deleted\n")


@pytest.mark.parametrize(
    ("window", "inactive"), [("any time", {"web/1"}), ("Sat 03:00-04:00", set()), ("Sun 03:00-04:00", set())]
)
def test_change_windows_of_one_run_replace_the_policys(
    sk: CliHarness, window: str, inactive: set[str]
) -> None:
    sk.policy('windows = ["Sat 01:00-02:00"]\n')
    plan = sk.make_plan("--user", "web")
    result = sk("apply", plan, "--yes", "--window", window)
    now = sk.aws.clock.now()
    if f"{now:%a}" not in window or not 3 <= now.hour < 4:
        assert sk.inactive == inactive, result.err
    assert "is not a change window" in sk("apply", plan, "--yes", "--window", "soon").error
