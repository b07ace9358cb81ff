"""What AWS knows and a listing does not show: quarantined users, renamed users, the root user's keys."""

import json
import shutil
from datetime import timedelta

import pytest

from sparekey import app
from sparekey.app.interactive import reread_users
from sparekey.aws.errors import DeniedError
from sparekey.aws.gateway import AccountGateway
from sparekey.sandbox.state import EVER, LastUseRecord, SandboxKey
from support.cli_harness import ACCOUNT, CliHarness

POLICY = "AWSCompromisedKeyQuarantineV3"
RULE = ("audit", "--rule", "quarantined-key")


def quarantine(sk: CliHarness, *users: str) -> None:
    for user in users:
        sk.aws.state.accounts[ACCOUNT].users[user].policies = [POLICY]


@pytest.mark.slow
def test_a_quarantined_users_keys_are_held_until_a_person_retires_one(sk: CliHarness) -> None:
    quarantine(sk, "web")
    result = sk("plan", "-o", sk.plan, "--user", "web")
    assert result.code == 0
    steps = json.loads(sk.plan.read_text())["steps"]
    assert [(step["action"], step["reason"], step["keep"]) for step in steps] == [
        ("held", "quarantined", None)
    ] * 2
    assert any("ListEntitiesForPolicy" in one["source"] for step in steps for one in step["evidence"])
    result = sk("plan", "-o", sk.plan, "--user", "web", "--force", sk.key("web", 1), "--because", "leaked")
    assert result.code == 0, result.err
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0, result.err
    assert sk.inactive == {"web/1"}


def test_a_retired_key_of_a_quarantined_user_stays_barred_when_another_machine_applies_the_plan(
    sk: CliHarness,
) -> None:
    quarantine(sk, "web")
    key = sk.key("web", 1)
    assert sk("plan", "-o", sk.plan, "--user", "web", "--force", key, "--because", "leaked").code == 0
    shutil.rmtree(sk.home)
    result = sk("apply", sk.plan, "--yes", "--force", key, "--no-watch", "--format", "json")
    assert result.code == 0, result.err
    (step,) = json.loads(result.out)["steps"]
    assert step["never_reactivate"].startswith("AWS has quarantined the user")
    assert sk.inactive == {"web/1"}


def test_the_console_notices_a_quarantine_when_it_reads_some_users_afresh(sk: CliHarness) -> None:
    here = app.connect()
    audit = app.audit_for_page(here, mode="list")
    quarantine(sk, "web")
    again = reread_users(here, audit, [(ACCOUNT, "web")])
    plan = app.plan_again(here, again.snapshot)
    assert {step.reason for step in plan.steps if step.user == "web"} == {"quarantined"}
    sk.deny("iam:ListEntitiesForPolicy")
    again = reread_users(here, audit, [(ACCOUNT, "web")])
    plan = app.plan_again(here, again.snapshot)
    assert {step.reason for step in plan.steps} == {"quarantine-unread"}
    assert plan.unread


@pytest.mark.slow
def test_the_rule_finds_users_with_one_key_too_and_is_critical_in_every_format(sk: CliHarness) -> None:
    quarantine(sk, "one")
    result = sk(*RULE)
    assert result.code == 3
    assert "one" in result.out
    assert POLICY in result.out
    assert '"severity_id": 5' in sk(*RULE, "--format", "ocsf").out.replace(
        '"severity_id":5', '"severity_id": 5'
    )
    assert "CRITICAL" in sk(*RULE, "--format", "asff").out
    sk.aws.state.accounts[ACCOUNT].users["one"].keys[0].change("Inactive", sk.aws.clock.now())
    assert sk(*RULE).code == 0


@pytest.mark.slow
def test_where_aws_does_not_say_whom_it_has_quarantined_that_is_unread(sk: CliHarness) -> None:
    sk.deny("iam:ListEntitiesForPolicy")
    result = sk(*RULE)
    assert result.code == 4
    assert "UNREADABLE" in result.out
    result = sk("plan", "-o", sk.plan, "--user", "web")
    assert result.code == 4
    assert "whom AWS has quarantined" in result.out + result.err
    assert sk("audit").code == 3, "the control itself does not ask"


def test_a_user_renamed_after_the_report_is_found_by_its_new_name(sk: CliHarness) -> None:
    result = sk("audit", "--read", "report")
    assert result.code == 3
    assert "web" in result.out
    account = sk.aws.state.accounts[ACCOUNT]
    user = account.users.pop("web")
    user.rename("moved", "/", sk.aws.clock.now())  # no event yet: CloudTrail is late
    account.users["moved"] = user
    result = sk("audit", "--read", "report", "--format", "json")
    assert result.code == 3
    users = {
        user["name"]: user["status"] for one in json.loads(result.out)["accounts"] for user in one["users"]
    }
    assert users["moved"] == "FAIL"
    assert "web" not in users


def test_the_console_finds_a_renamed_user_again_when_it_reads_some_users_afresh(sk: CliHarness) -> None:
    here = app.connect()
    audit = app.audit(here, mode="list")
    assert [user.name for _, user in audit.snapshot.users()] == ["batch", "busy", "one", "ops", "web"]
    users = sk.aws.state.accounts[ACCOUNT].users
    web, busy = users.pop("web"), users.pop("busy")
    web.rename("web2", "/", sk.aws.clock.now())
    busy.rename("web", "/", sk.aws.clock.now())
    users |= {"web2": web, "web": busy}
    again = reread_users(here, audit, {(ACCOUNT, "web"), (ACCOUNT, "busy"), (ACCOUNT, "one")})
    received = {user.name: user.keys for _, user in again.snapshot.users()}
    assert list(received) == ["batch", "one", "ops", "web", "web2"]
    for name, state in (("web", busy), ("web2", web)):
        keys = received[name]
        assert isinstance(keys, tuple)
        assert [key.id for key in keys] == [key.id for key in state.keys]


def test_the_console_loses_no_renamed_user_where_aws_does_not_say_whose_a_key_is(
    sk: CliHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = app.connect()
    audit = app.audit(here, mode="list")
    users = sk.aws.state.accounts[ACCOUNT].users
    web = users.pop("web")
    web.rename("web2", "/", sk.aws.clock.now())
    users["web2"] = web

    def deny(*_: object) -> str:
        raise DeniedError("access denied: iam:GetAccessKeyLastUsed", code="AccessDenied")

    monkeypatch.setattr(AccountGateway, "owner_of", deny)
    again = reread_users(here, audit, {(ACCOUNT, "web")})
    assert [user.name for _, user in again.snapshot.users()] == ["batch", "busy", "one", "ops", "web2"]


@pytest.mark.slow
def test_ones_own_root_keys_are_told_by_the_credential_report(sk: CliHarness) -> None:
    assert sk("root-keys").code == 0
    now = sk.aws.clock.now()
    created = now.replace(microsecond=0) - timedelta(days=400)
    for number, status in enumerate(("Active", "Inactive")):
        key = SandboxKey(
            id=f"AKIAROOTROOTROOTROO{number}",
            secret="a-secret-of-the-root-user",
            account=ACCOUNT,
            user="",
            created=created,
            statuses=[(EVER, status)],
            rotated=created,
            uses=[LastUseRecord(now - timedelta(days=3), "iam", "N/A")] if status == "Active" else [],
        )
        sk.aws.state.add_key(key)
    sk.aws.state.accounts[ACCOUNT].report = None
    result = sk("root-keys")
    assert result.code == 3
    assert "a key Active, at least 400 days old, used 3 days ago (iam)" in result.out
    assert "a key Inactive, at least 400 days old, never used" in result.out
    (received,) = json.loads(sk("root-keys", "--format", "json").out)["accounts"]
    assert [(key["id"], key["status"]) for key in received["keys"]] == [(None, "Active"), (None, "Inactive")]
    assert received["unreadable"] is None
    for mode in ("list", "report"):
        result = sk("audit", "--rule", "root-key", "--read", mode)
        assert result.code == 3
        assert "2 keys: Active, at least 400 days old" in " ".join(result.out.split())
    sk.deny("iam:GetCredentialReport")
    result = sk("root-keys")
    assert result.code == 3
    assert "only the root user" in result.out
