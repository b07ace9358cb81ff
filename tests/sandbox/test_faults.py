"""Faults that a scenario switches on."""

import time
from datetime import timedelta
from typing import Any

import pytest

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.scenario import (
    Deny,
    Fail,
    Fault,
    Ignored,
    LateLastUsed,
    Latency,
    SlowAuth,
    Stale,
    Throttle,
)

USER = "web-frontend"


def deactivate(sandbox: Sandbox, iam: Any) -> str:
    """Set the user's first key inactive."""
    key = sandbox.key(USER)
    iam.update_access_key(UserName=USER, AccessKeyId=key.id, Status="Inactive")
    return key.id


def status(iam: Any, id_: str) -> str:
    """A key's status as it is listed."""
    keys = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
    return next(str(key["Status"]) for key in keys if key["AccessKeyId"] == id_)


def test_reads_after_a_write_are_stale_for_a_time(
    company: Sandbox, client: Any, clock: SandboxClock, refused: Any
) -> None:
    company.state.faults.append(Stale(seconds=10))
    iam = client(company, "iam")
    id_ = deactivate(company, iam)
    iam.create_user(UserName="newcomer")
    clock.advance(9)
    assert status(iam, id_) == "Active"
    assert refused(iam.get_user, UserName="newcomer")[0] == "NoSuchEntity"
    assert (
        refused(client(company, "sts", company.state.keys[id_]).get_caller_identity)[0]
        == "InvalidClientTokenId"
    )
    clock.advance(1)
    assert status(iam, id_) == "Inactive"
    assert iam.get_user(UserName="newcomer")
    iam.delete_user(UserName="newcomer")
    assert iam.get_user(UserName="newcomer")
    clock.advance(10)
    assert refused(iam.get_user, UserName="newcomer")[0] == "NoSuchEntity"


def test_replicas_flap(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    company.state.faults.append(Stale(seconds=10, flapping=True))
    iam = client(company, "iam")
    id_ = deactivate(company, iam)
    seen = [status(iam, id_) for _ in range(30)]
    assert set(seen) == {"Active", "Inactive"}
    clock.advance(10)
    assert {status(iam, id_) for _ in range(30)} == {"Inactive"}


def test_an_inactive_key_may_work_for_a_while(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    company.state.faults.append(SlowAuth(seconds=30))
    iam = client(company, "iam")
    id_ = deactivate(company, iam)
    assert status(iam, id_) == "Inactive"
    sts = client(company, "sts", company.state.keys[id_])
    clock.advance(29)
    sts.get_caller_identity()
    clock.advance(1)
    assert refused(sts.get_caller_identity)[0] == "InvalidClientTokenId"


def test_throttling_is_per_account_and_action(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    company.state.faults.append(Throttle(action="iam:*", rate=20, burst=2))
    iam = client(company, "iam")
    iam.list_users()
    iam.list_users()
    assert refused(iam.list_users) == ("Throttling", 400, "Rate exceeded")
    iam.list_account_aliases()
    client(company, "iam", "load-test", account="333344445555").list_users()
    clock.advance(0.05)
    iam.list_users()
    assert refused(iam.list_users)[0] == "Throttling"
    clock.advance(60)
    iam.list_users()
    iam.list_users()
    assert refused(iam.list_users)[0] == "Throttling"


def test_botocore_itself_waits_out_the_throttling(company: Sandbox, client: Any) -> None:
    company.state.faults.append(Fail(action="iam:ListUsers", code="Throttling", status=400, times=1))
    iam = client(company, "iam", retries={"mode": "standard", "total_max_attempts": 2})
    assert iam.list_users()["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize(
    ("fault", "here", "there"),
    [
        (Deny(action="iam:ListUsers"), True, True),
        (Deny(account="333344445555"), False, True),
        (Deny(user="ops"), True, False),
        (Deny(action="sts:*"), False, False),
    ],
)
def test_denials_name_whom_they_strike(
    company: Sandbox, client: Any, refused: Any, fault: Fault, *, here: bool, there: bool
) -> None:
    company.state.faults.append(fault)
    ops, other = client(company, "iam"), client(company, "iam", "load-test", account="333344445555")
    for iam, struck in ((ops, here), (other, there)):
        if struck:
            code, http, message = refused(iam.list_users)
            assert (code, http) == ("AccessDenied", 403)
            assert " is not authorized to perform: iam:ListUsers on resource: arn:aws:iam::" in message
        else:
            assert iam.list_users()["Users"]
    assert client(company, "sts").get_caller_identity()


def test_one_users_keys_and_one_region_may_be_denied(company: Sandbox, client: Any, refused: Any) -> None:
    company.state.faults += [
        Deny(action="iam:ListAccessKeys", target="etl-nightly"),
        Deny(action="iam:GetAccessKeyLastUsed", target="etl-nightly"),
        Deny(action="cloudtrail:*", region="eu-central-1"),
    ]
    iam = client(company, "iam")
    iam.list_access_keys(UserName=USER)
    iam.list_access_keys()
    code, _, message = refused(iam.list_access_keys, UserName="etl-nightly")
    assert code == "AccessDenied"
    assert "on resource: arn:aws:iam::111122223333:user/apps/etl-nightly with an explicit deny" in message
    key = company.key("etl-nightly")
    assert refused(iam.get_access_key_last_used, AccessKeyId=key.id)[0] == "AccessDenied"
    client(company, "cloudtrail").lookup_events()
    abroad = client(company, "cloudtrail", region="eu-central-1")
    assert refused(abroad.lookup_events)[0] == "AccessDeniedException"
    described = iam.simulate_principal_policy(
        PolicySourceArn="arn:aws:iam::111122223333:user/people/ops", ActionNames=["iam:ListAccessKeys"]
    )
    assert described["EvaluationResults"][0]["EvalDecision"] == "allowed"


def test_errors_come_before_or_after_the_work(company: Sandbox, client: Any, refused: Any) -> None:
    iam = client(company, "iam")
    company.state.faults.append(Fail(action="iam:UpdateAccessKey", times=1))
    id_ = company.key(USER).id
    change = {"UserName": USER, "AccessKeyId": id_, "Status": "Inactive"}
    assert refused(iam.update_access_key, **change)[:2] == ("ServiceFailure", 500)
    assert status(iam, id_) == "Active"
    company.state.faults.append(
        Fail(action="iam:UpdateAccessKey", code="ServiceUnavailable", status=503, after=True, times=1)
    )
    assert refused(iam.update_access_key, **change)[:2] == ("ServiceUnavailable", 503)
    assert status(iam, id_) == "Inactive"
    iam.update_access_key(**change)
    ended = [
        (call.status, call.error) for call in company.state.calls if call.action == "iam:UpdateAccessKey"
    ]
    assert ended == [(500, "ServiceFailure"), (503, "ServiceUnavailable"), (200, "")]
    events = [
        event
        for event in company.state.trail
        if event.name == "UpdateAccessKey" and event.agent != "AWS Internal"
    ]
    assert len(events) == 2


def test_errors_in_a_share_of_the_calls(company: Sandbox, client: Any) -> None:
    company.state.faults.append(Fail(action="iam:ListAccountAliases", share=0.5))
    iam = client(company, "iam")
    for _ in range(40):
        try:
            iam.list_account_aliases()
        except iam.exceptions.ServiceFailureException:
            continue
    ends = {call.status for call in company.state.calls}
    assert ends == {200, 500}


def test_an_update_may_be_answered_and_forgotten(company: Sandbox, client: Any) -> None:
    company.state.faults.append(Ignored(target=USER, times=1))
    iam = client(company, "iam")
    assert status(iam, deactivate(company, iam)) == "Active"
    assert status(iam, deactivate(company, iam)) == "Inactive"


def test_last_use_is_told_late(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    company.state.faults.append(LateLastUsed(seconds=900))
    key = company.key("docs-site")
    iam = client(company, "iam")
    before = iam.get_access_key_last_used(AccessKeyId=key.id)["AccessKeyLastUsed"]
    client(company, "sts", key).get_caller_identity()
    assert iam.get_access_key_last_used(AccessKeyId=key.id)["AccessKeyLastUsed"] == before
    clock.advance(timedelta(minutes=15))
    assert iam.get_access_key_last_used(AccessKeyId=key.id)["AccessKeyLastUsed"]["ServiceName"] == "sts"


def test_latency_moves_a_standing_clock_and_holds_nobody_up(
    company: Sandbox, client: Any, clock: SandboxClock
) -> None:
    company.state.faults.append(Latency(action="iam:ListUsers", seconds=3600))
    iam = client(company, "iam")
    before = clock.now()
    iam.list_users()
    assert clock.now() - before == timedelta(hours=1)
    iam.list_account_aliases()
    assert clock.now() - before == timedelta(hours=1)
    running = SandboxClock()
    started = time.monotonic()
    running.sleep(0.01)
    assert time.monotonic() - started >= 0.01
