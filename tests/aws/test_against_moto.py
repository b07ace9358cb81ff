"""The same reading and the same write against moto in server mode, as an independent judge."""

from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from sparekey.audit import audit
from sparekey.aws.errors import NotFoundError
from sparekey.aws.gateway import AwsGateway
from sparekey.clock import SystemClock
from support.scripted_aws import session


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield f"http://{host}:{port}"
    server.stop()


def test_moto_is_read_whole_and_one_key_is_switched_off(moto: str) -> None:
    iam: Any = session().create_client("iam", region_name="us-east-1")
    for number in range(7):
        iam.create_user(UserName=f"user{number}", Path="/team/")
    spare = [iam.create_access_key(UserName="user3")["AccessKey"]["AccessKeyId"] for _ in range(2)]
    gateway = AwsGateway.connect(session=session(), region="us-east-1")
    account = gateway.own_account()
    account.set_status("user3", spare[0], "Inactive")
    snapshot = audit([account], SystemClock(), caller=gateway.caller(), need_last_use="all", workers=4)
    users = {user.name: user for _, user in snapshot.users()}
    assert sorted(users) == [f"user{number}" for number in range(7)]
    assert users["user3"].arn.endswith(":user/team/user3")
    assert [key.id for key in users["user3"].active_keys] == [spare[1]]
    assert snapshot.accounts[0].root_keys == 0
    iam.close()


def test_moto_agrees_on_renamed_users_and_has_no_quarantine_policies(moto: str) -> None:
    iam: Any = session().create_client("iam", region_name="us-east-1")
    iam.create_user(UserName="old")
    key = iam.create_access_key(UserName="old")["AccessKey"]["AccessKeyId"]
    account = AwsGateway.connect(session=session(), region="us-east-1").own_account()
    assert account.owner_of(key) == "old"
    assert account.quarantined_users() == ()
    iam.update_user(UserName="old", NewUserName="new", NewPath="/team/")
    assert [found.id for found in account.list_keys("new")] == [key]
    with pytest.raises(NotFoundError):
        account.list_keys("old")
    iam.close()
