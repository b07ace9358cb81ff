"""What happens between plan and apply, and when AWS misbehaves meanwhile."""

import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from sparekey.sandbox.scenario import Fail, Ignored, Stale, Throttle
from sparekey.sandbox.state import LastUseRecord
from support.cli_harness import ACCOUNT, CliHarness


def _delete_user(sk: CliHarness) -> None:
    with sk.aws.state.lock:
        user = sk.aws.state.accounts[ACCOUNT].users.pop("web")
        user.deleted = sk.aws.clock.now()
        for key in user.keys:  # AWS deletes no user who has keys
            key.deleted = user.deleted


def _deactivate_the_key(sk: CliHarness) -> None:
    sk.aws.key("web", account=ACCOUNT, number=1).change("Inactive", sk.aws.clock.now())


def _deactivate_the_kept_key(sk: CliHarness) -> None:
    sk.aws.key("web", account=ACCOUNT, number=2).change("Inactive", sk.aws.clock.now())


def _delete_the_key(sk: CliHarness) -> None:
    sk.aws.key("web", account=ACCOUNT, number=1).deleted = sk.aws.clock.now()


def _rename_the_user(sk: CliHarness) -> None:
    with sk.aws.state.lock:
        account = sk.aws.state.accounts[ACCOUNT]
        user = account.users.pop("web")
        user.rename("web2", "/moved/", sk.aws.clock.now())
        account.users["web2"] = user


def _use_the_key(sk: CliHarness) -> None:
    key = sk.aws.key("web", account=ACCOUNT, number=1)
    key.uses = [LastUseRecord(sk.aws.clock.now() - timedelta(minutes=20), "s3", "us-east-1")]


def _use_the_kept_key(sk: CliHarness) -> None:
    key = sk.aws.key("web", account=ACCOUNT, number=2)
    key.uses = [LastUseRecord(sk.aws.clock.now() - timedelta(minutes=20), "s3", "us-east-1")]


@pytest.mark.parametrize(
    ("change", "code", "state", "inactive"),
    [
        (_delete_user, 0, "NO LONGER EXISTS", set()),
        (_delete_the_key, 0, "NO LONGER EXISTS", set()),
        (_rename_the_user, 0, "HELD", set()),
        (_deactivate_the_key, 0, "ALREADY INACTIVE", {"web/1"}),
        (_deactivate_the_kept_key, 0, "HELD", {"web/2"}),
        (_use_the_key, 0, "HELD", set()),
        (_use_the_kept_key, 0, "DEACTIVATED", {"web/1"}),
    ],
    ids=[
        *("user-gone", "key-gone", "user-renamed", "key-inactive-already", "kept-key-inactive"),
        *("key-used-since", "kept-key-used-since"),
    ],
)
def test_what_changed_since_the_plan(
    sk: CliHarness, change: Callable[[CliHarness], None], code: int, state: str, inactive: set[str]
) -> None:
    sk.make_plan("--user", "web", expect=0)
    goes = sk.key("web", 1)
    change(sk)
    result = sk("apply", sk.plan, "--yes")
    assert result.code == code, result.err
    assert f"{goes}: {state}" in sk("show", sk.run).out
    assert sk.inactive == inactive
    assert sk.writes == (1 if state == "DEACTIVATED" else 0)


@pytest.mark.slow
def test_an_undo_follows_a_renamed_user_and_fails_where_aws_does_not_say_where_the_key_is(
    sk: CliHarness,
) -> None:
    sk.make_plan("--user", "web", expect=0)
    goes = sk.aws.key("web", account=ACCOUNT, number=1)
    assert sk("apply", sk.plan, "--yes").code == 0
    run = re.search(r"r-[0-9a-f]{8}", sk("runs").out)[0]  # type: ignore[index]
    _rename_the_user(sk)
    sk.deny("iam:GetAccessKeyLastUsed")
    sk.deny("iam:ListUsers")
    result = sk("undo", run)
    assert result.code == 1, result.out + result.err
    assert (
        "AWS does not show whether it was deleted or belongs to another user now" in result.out + result.err
    )
    assert goes.status == "Inactive"
    sk.aws.state.faults.clear()
    result = sk("undo", run)
    assert result.code == 0, result.out + result.err
    assert "is called web2 now" in result.out + result.err
    assert goes.status == "Active"


@pytest.mark.slow
def test_an_update_that_never_takes_effect_is_an_error(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    sk.fault(Ignored())
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert result.out.startswith("Apply ended with failures: 0 deactivated, 0 held, 1 failed.\n")
    assert "60 s after it was set Inactive, listings still show it Active" in result.out
    assert sk.inactive == set()


@pytest.mark.slow
def test_an_update_that_aws_refuses_is_an_error_and_the_rest_goes_on(sk: CliHarness) -> None:
    sk.make_plan()
    sk.fault(Fail(action="iam:UpdateAccessKey", target="web", code="ServiceFailure", status=500))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert result.out.startswith("Apply ended with failures: 2 deactivated, 1 held, 1 failed.\n")
    assert f"{sk.key('web', 1)}: FAILED" in sk("show", sk.run).out
    assert sk.inactive == {"batch/1", "batch/2"}


@pytest.mark.slow
def test_reads_that_lag_behind_are_waited_for(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    sk.fault(Stale(action="iam:ListAccessKeys", seconds=7))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert sk.inactive == {"web/1"}
    assert "confirmed Inactive (3 consistent reads)" in result.err


def test_lost_answers_are_resolved_by_reading(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    sk.fault(Fail(action="iam:UpdateAccessKey", times=1, after=True))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert sk.inactive == {"web/1"}


@pytest.mark.slow
def test_a_throttled_account_is_read_whole(sk: CliHarness) -> None:
    sk.fault(Throttle(action="iam:*", rate=20, burst=2))
    result = sk("audit")
    assert result.code == 3
    assert "3 of 5 users have spare keys." in result.out
    assert "Not read: nothing." in result.out
    assert any(call.error == "Throttling" for call in sk.aws.state.calls)
    sk.make_plan()
    assert sk("apply", sk.plan, "--yes").code == 0
    assert sk.inactive == {"batch/1", "batch/2", "web/1"}


@pytest.mark.slow
def test_an_account_that_is_throttled_for_good_is_unreadable(sk: CliHarness) -> None:
    sk.fault(Fail(action="iam:ListUsers", code="Throttling", status=400, message="Rate exceeded"))
    result = sk("audit")
    assert result.code == 4
    assert "UNREADABLE: too many requests: iam:ListUsers" in result.out


def test_a_full_disk_is_noticed_before_the_first_write(sk: CliHarness) -> None:
    sk.make_plan()
    sk.patch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100 * 1024))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert result.error.startswith(f"100 KiB are free under {sk.home}")
    assert sk.writes == 0
    assert "No run yet" in sk("runs").out


@pytest.mark.parametrize("home", ["file", "file/below", "/proc/nowhere"])
def test_a_state_directory_that_cannot_be(sk: CliHarness, home: str) -> None:
    sk.make_plan()
    (sk.folder / "file").touch()
    sk.patch.setenv("SPAREKEY_HOME", str(sk.folder / home))
    for command in (("apply", str(sk.plan), "--yes"), ("runs",), ("undo", "r-1"), ("show", "r-1")):
        result = sk(*command)
        assert result.code in (1, 2), command
        assert result.error
    assert sk.writes == 0


def test_a_state_that_is_no_database(sk: CliHarness) -> None:
    sk.make_plan()
    sk.home.mkdir(mode=0o700, exist_ok=True)
    (sk.home / "sparekey.db").write_bytes(b"this is no database, and was never meant to be one" * 100)
    for command in (("apply", str(sk.plan), "--yes"), ("runs",)):
        result = sk(*command)
        assert (result.code, result.out) == (1, ""), command
        assert result.error
    assert sk.writes == 0


def test_the_state_is_closed_to_others(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    assert sk("apply", sk.plan, "--yes").code == 0
    for path in sk.home.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_way_back_is_on_paper_before_the_first_write(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    seen: list[str] = []
    sk.before_each("UpdateAccessKey", lambda: seen.extend(_paper(sk)))
    assert sk("apply", sk.plan, "--yes").code == 0
    assert len(seen) == 1
    assert f"--user-name web --access-key-id {sk.key('web', 1)} --status Active" in seen[0]


def _paper(sk: CliHarness) -> list[str]:
    assert sk.inactive == set()
    return [path.read_text() for path in (sk.home / "reverse").glob("*.sh")]


@pytest.mark.slow
def test_a_settled_or_undone_plan_needs_a_new_one(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    assert sk("apply", sk.plan, "--yes").code == 0
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert "it needs a new plan" in result.error
    assert sk("undo", sk.run).code == 0
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert "which is undone: it needs a new plan" in result.error
    assert sk.writes == 2


@pytest.mark.slow
def test_undo_leaves_alone_what_somebody_else_has_changed_since(sk: CliHarness) -> None:
    sk.make_plan()
    assert sk("apply", sk.plan, "--yes").code == 0
    _delete_the_key(sk)
    result = sk("undo", sk.run)
    assert result.code == 0
    assert f"{sk.key('web', 1)}: NO LONGER EXISTS" in result.out
    assert sk.inactive == set()


@pytest.mark.slow
def test_runs_are_named_and_explained(sk: CliHarness) -> None:
    assert "No run yet" in sk("runs").out
    sk.make_plan("--user", "web", expect=0)
    sk("apply", sk.plan, "--yes")
    listed = sk("runs")
    assert listed.code == 0
    assert "done, not watched" in listed.out
    for verb in ("show", "undo", "stop", "resume"):
        result = sk(verb, "r-zzz")
        assert (result.code, result.out) == (2, "")
        assert result.error == "'r-zzz' is not the id of a run; nothing was changed"
    assert sk("ledger", "verify").out.split()[1] == "whole"
    result = sk("undo", sk.run, "--key", "AKIANOTHINGLIKETHAT0")
    assert (result.code, "reactivates" in result.err) == (2, False)
    assert sk.inactive == {"web/1"}
