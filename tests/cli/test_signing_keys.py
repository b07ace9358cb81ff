"""No key that sparekey signs with goes, by whichever profile it is entered; and no secret of the way in shows."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sparekey import app
from sparekey.aws.gateway import AwsGateway
from sparekey.ledger.database import StateError
from sparekey.sandbox.state import SandboxRole
from support.cli_harness import ACCOUNT, ELSEWHERE, CliHarness

PASSWORD = "hunter2secret"


def profile(sk: CliHarness, name: str, user: str, account: str = ACCOUNT) -> None:
    """A profile with a key of this user: its older one, which IAM shows unused."""
    key = sk.aws.key(user, account=account, number=1)
    with (sk.folder / "config").open("a") as file:
        file.write(f"[profile {name}]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n")
    sk.patch.setenv("AWS_CONFIG_FILE", str(sk.folder / "config"))


def accounts(sk: CliHarness, text: str) -> Path:
    path = sk.folder / "accounts.toml"
    path.write_text(text)
    return path


def test_the_key_of_a_profile_in_an_accounts_file_stays(sk: CliHarness) -> None:
    profile(sk, "web", "web")
    file = accounts(sk, f'[[account]]\nid = "{ACCOUNT}"\nprofile = "web"\n')
    old = sk.key("web", 1)
    for forced in ((), ("--force", old, "--because", "old")):
        result = sk("plan", "--accounts", file, "--user", "web", "-o", sk.plan, *forced)
        assert result.code == 0
        assert "0 keys to deactivate" in result.out
        assert "[caller]" in result.out


def test_a_plan_made_by_others_is_refused_where_its_key_signs_here(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    profile(sk, "web", "web")
    file = accounts(sk, f'[[account]]\nid = "{ACCOUNT}"\nprofile = "web"\n')
    result = sk("apply", sk.plan, "--yes", "--accounts", file)
    assert result.code == 1
    assert f"{sk.key('web', 1)} is behind the credentials that sparekey runs with" in result.error
    assert sk.writes == 0


def test_the_key_of_a_profile_that_is_not_selected_stays_too(sk: CliHarness) -> None:
    """A key of one account stands, by mistake or not, in the profile of another."""
    profile(sk, "web", "web")
    text = f'[[account]]\nid = "{ACCOUNT}"\n[[account]]\nid = "{ELSEWHERE}"\nprofile = "web"\n'
    result = sk("plan", "--accounts", accounts(sk, text), "--include", ACCOUNT, "--user", "web")
    assert result.code == 0
    assert "[caller]" in result.out


def test_a_session_of_a_role_that_was_passed_in_holds_whom_the_role_lets_in(sk: CliHarness) -> None:
    sk.aws.state.accounts[ACCOUNT].roles["Admin"] = role()
    received = (
        AwsGateway.connect()
        .own_account()
        .call(
            "sts", "AssumeRole", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Admin", "RoleSessionName": "ci"}
        )["Credentials"]
    )
    for name, field in (
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ):
        sk.patch.setenv(name, received[field])
    result = sk("plan", "-o", sk.plan, "--user", "web")
    assert result.code == 0
    assert "[caller-unknown]" in result.out
    assert "the environment holds a session of the role Admin" in result.out


def role() -> SandboxRole:
    root = f"arn:aws:iam::{ACCOUNT}:root"
    return SandboxRole(
        name="Admin",
        path="/",
        id="AROAX",
        trust=(root,),
        external_id="",
        max_session=timedelta(hours=1),
        allow=None,
    )


@pytest.mark.slow
def test_a_password_in_the_endpoint_is_shown_and_kept_nowhere(sk: CliHarness) -> None:
    url = os.environ["AWS_ENDPOINT_URL"].replace("http://", f"http://ann:{PASSWORD}@")
    sk.patch.setenv("AWS_ENDPOINT_URL", url)
    result = [
        sk("plan", "-o", sk.plan, "--user", "web"),
        sk("apply", sk.plan, "--yes"),
        sk("ledger", "export"),
    ]
    sk.patch.setenv("AWS_ENDPOINT_URL", f"http://ann:{PASSWORD}@127.0.0.1:9")
    sk.patch.setenv("AWS_MAX_ATTEMPTS", "1")
    result.append(sk("audit"))
    assert [one.code for one in result] == [0, 0, 0, 1]
    assert not any(PASSWORD in one.out + one.err for one in result)
    assert [p for p in sk.folder.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()] == []


@pytest.mark.parametrize("token", ["", "a session"])
def test_a_worker_says_that_nothing_renews_its_credentials(sk: CliHarness, token: str) -> None:
    sk.patch.setattr(app, "run_worker", lambda *_, **__: None)
    if token:
        received = AwsGateway.connect().own_account().call("sts", "GetSessionToken", {})["Credentials"]
        sk.patch.setenv("AWS_ACCESS_KEY_ID", received["AccessKeyId"])
        sk.patch.setenv("AWS_SECRET_ACCESS_KEY", received["SecretAccessKey"])
        sk.patch.setenv("AWS_SESSION_TOKEN", received["SessionToken"])
    result = sk("worker")
    assert result.code == 0
    assert ("these credentials cannot be renewed" in result.err) == bool(token)


def test_a_worker_that_ends_by_a_fault_and_one_without_its_state_tell_whom_they_notify(
    sk: CliHarness,
) -> None:
    def work(*_: object, on_emergency: Callable[[app.OutageMessage], None], **_others: object) -> None:
        on_emergency(app.OutageMessage("the state cannot be used", (), ("r-1",)))
        raise StateError("the database is away")

    sk.patch.setattr(app, "run_worker", work)
    result = sk("worker", "--notify", "webhook:https://127.0.0.1:9/x")
    assert result.code == 1
    assert "the state cannot be used\n" in result.err
    assert (
        "the worker has ended: the database is away; it monitors no run until it is restarted" in result.err
    )
    assert result.err.count("not notified: webhook:") == 2
