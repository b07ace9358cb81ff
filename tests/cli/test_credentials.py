"""Whoever cannot ask AWS is told why in one sentence, whichever command it was; nothing is changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sparekey.sandbox.scenario import Deny, Fail
from support.aws_servers import free_port
from support.cli_harness import ACCOUNT, ELSEWHERE, CliHarness
from support.recorded_runs import recorded_runs

COMMANDS = (
    ("audit",),
    ("plan", "-o", "new.json"),
    ("apply", "plan.json", "--yes"),
    ("undo", "r-1"),
)


@contextmanager
def unchanged(sk: CliHarness) -> Iterator[None]:
    before, writes = sk.statuses, sk.writes
    yield
    assert (sk.statuses, sk.writes) == (before, writes)
    assert not (sk.folder / "new.json").exists()


def _no_credentials(sk: CliHarness) -> None:
    sk.patch.delenv("AWS_ACCESS_KEY_ID")
    sk.patch.delenv("AWS_SECRET_ACCESS_KEY")


def _half_credentials(sk: CliHarness) -> None:
    sk.patch.delenv("AWS_SECRET_ACCESS_KEY")


def _unknown_profile(sk: CliHarness) -> None:
    sk.patch.setenv("AWS_PROFILE", "nobody")


def _expired(sk: CliHarness) -> None:
    sk.fault(Fail(code="ExpiredToken", status=403, message="The security token included is expired"))


def _wrong_secret(sk: CliHarness) -> None:
    sk.patch.setenv("AWS_SECRET_ACCESS_KEY", sk.aws.key("web").secret)


def _inactive_key(sk: CliHarness) -> None:
    sk.aws.key("ops").status = "Inactive"


def _refusing_endpoint(sk: CliHarness) -> None:
    sk.patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")


def _no_endpoint(sk: CliHarness) -> None:
    sk.patch.setenv("AWS_ENDPOINT_URL", "nonsense")


@pytest.mark.parametrize(
    ("break_it", "received"),
    [
        (_no_credentials, "no AWS credentials were found"),
        (_half_credentials, "no usable AWS credentials"),
        (_unknown_profile, "no usable AWS credentials: The config profile (nobody) could not be found"),
        (_expired, "the credentials have expired"),
        (_wrong_secret, "AWS rejects the credentials: SignatureDoesNotMatch"),
        (_inactive_key, "AWS rejects the credentials: InvalidClientTokenId"),
        (_refusing_endpoint, "no answer to sts:GetCallerIdentity"),
        (_no_endpoint, "Invalid endpoint: nonsense"),
    ],
    ids=[
        *("no-credentials", "half-credentials", "unknown-profile", "expired", "wrong-secret"),
        *("inactive-key", "refusing-endpoint", "no-endpoint"),
    ],
)
def test_no_way_in(sk: CliHarness, break_it: Callable[[CliHarness], None], received: str) -> None:
    sk.make_plan()
    break_it(sk)
    with unchanged(sk):
        for command in COMMANDS:
            result = sk(*command)
            assert (result.code, result.out) == (1, ""), command
            assert received in result.error, command


@pytest.mark.parametrize("break_it", [_no_credentials, _unknown_profile, _expired, _refusing_endpoint])
def test_a_run_is_stopped_without_any_way_in(sk: CliHarness, break_it: Callable[[CliHarness], None]) -> None:
    sk.make_plan("--user", "web", expect=0)
    result = sk("apply", sk.plan, "--yes", "--detach")
    assert result.code == 0, result.err
    break_it(sk)
    result = sk("stop", sk.run)
    assert (result.code, result.err) == (0, "")
    note = next(note for note in recorded_runs()[0].notes if note.startswith("stopped by "))
    assert note.endswith("(not known to AWS): asked")
    assert sk.inactive == set()


def test_a_profile_named_by_hand_that_does_not_exist(sk: CliHarness) -> None:
    assert "(nobody)" in sk("audit", "--profile", "nobody").error


def test_denied_on_the_list_of_users(sk: CliHarness) -> None:
    sk.deny("iam:ListUsers")
    result = sk("audit")
    assert result.code == 4
    assert f"Account {ACCOUNT}" in result.out
    assert "UNREADABLE: access denied: iam:ListUsers" in result.out
    assert "No user could be read: who has spare keys is not known.\nRead: 0 accounts" in result.out
    assert "Not read: 1 account (its users are not counted)." in result.out
    result = sk("plan", "-o", sk.plan)
    assert result.code == 4
    assert "unread  account" in result.out
    assert sk("apply", sk.plan, "--yes").code == 4
    assert sk.writes == 0


def test_denied_on_one_users_keys(sk: CliHarness) -> None:
    sk.deny("iam:ListAccessKeys", target="web")
    result = sk("audit")
    assert result.code == 4
    assert "UNREADABLE  web" in result.out
    assert "FAIL        batch" in result.out
    assert (
        "2 of 4 users have spare keys.\nRead: 1 account, 4 users, 7 access keys. Not read: 1 user."
        in result.out
    )
    result = sk("plan")
    assert result.code == 4
    assert "unread  user web" in result.out
    assert "batch: " in result.out


@pytest.mark.parametrize("target", ["*", "web"])
def test_a_last_use_that_cannot_be_read_is_never_taken_for_never_used(sk: CliHarness, target: str) -> None:
    denied = sk.key("web", 1)
    sk.deny("iam:GetAccessKeyLastUsed", target=target)
    result = sk("audit", "--format", "json")
    assert result.code == 3
    assert f'"id":"{denied}"' in result.out
    assert '"state":"unreadable"' in result.out
    assert '"state":"never"' not in result.out.split('"name":"web"')[1]
    result = sk("plan", "--user", "web")
    assert result.code == 0
    assert "0 keys to deactivate" in result.out


def test_denied_everything_but_who_one_is(sk: CliHarness) -> None:
    sk.deny("iam:*")
    assert sk("audit").code == 4
    assert sk("root-keys").code == 4
    assert sk("audit", "--rule", "root-key").code == 4


def test_missing_permissions_are_named_before_anything_is_written(sk: CliHarness) -> None:
    sk.make_plan()
    sk.fault(Deny(action="iam:UpdateAccessKey"))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert sk.writes == 0
    assert "iam:UpdateAccessKey" in result.error


def test_other_peoples_credentials(sk: CliHarness) -> None:
    sk.make_plan()
    sk.act_as("guest", ELSEWHERE)
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert f"the plan was made in {ACCOUNT}, these credentials belong to {ELSEWHERE}" in result.error
    assert sk.writes == 0
