"""A key is created, stored, published and taken back on servers that nobody here wrote."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sparekey.aws.gateway import AwsGateway
from sparekey.aws.http_pool import HttpPool
from sparekey.handover import HandoverError, Handovers, HandoverTools
from sparekey.policy import parse_policy
from support.aws_servers import Server, ministack, moto, sandbox

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[moto, ministack, sandbox], ids=["moto", "ministack", "sandbox"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    make: Callable[[], AbstractContextManager[Server]] = request.param
    with make() as running:
        yield running


@pytest.fixture
def gateway(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsGateway]:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    wire = HttpPool()
    yield AwsGateway.connect(send=wire.send)
    wire.close()


def prepare(server: Server, store: str) -> tuple[Any, str]:
    """A user with a key in a store; returns how the store is read, and the key."""
    iam, (kind, _, name) = server.client("iam"), store.partition(":")
    iam.create_user(UserName=kind)
    key = iam.create_access_key(UserName=kind)["AccessKey"]
    text = json.dumps(
        {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"], "db": "x"}
    )
    client = server.client(kind)
    if kind == "secretsmanager":
        client.create_secret(Name=name, SecretString=text, ClientRequestToken="1" * 32)
        return lambda: client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"], key[
            "AccessKeyId"
        ]
    client.put_parameter(Name=name, Value=text, Type="SecureString")
    return lambda: client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"], key[
        "AccessKeyId"
    ]


@pytest.mark.parametrize("store", ["secretsmanager:judged", "ssm:/judged"])
def test_a_handover_there_and_back(server: Server, gateway: AwsGateway, store: str) -> None:
    read, old = prepare(server, store)
    user = store.partition(":")[0]
    policy = parse_policy(f'[[handover]]\nuser = "{user}"\nstore = "{store}"\n')
    own = gateway.own_account()
    handovers = Handovers(lambda _account: HandoverTools(own, lambda _role: own))
    who = (policy, own.account_id, user)
    handovers.check(*who, [old])
    with pytest.raises(HandoverError, match="which is not a key of user"):
        handovers.check(*who, ["AKIAOTHER"])
    created = handovers.create(*who, user, lambda: None)
    assert json.loads(read())["AWS_ACCESS_KEY_ID"] == old
    assert handovers.staged(*who, created.key) == created.version
    assert handovers.identity_behind(*who, created.version, "us-east-1").endswith(f":user/{user}")
    published = handovers.publish(*who, created.version, created.key)
    assert handovers.publish(*who, created.version, created.key) == published
    content = json.loads(read())
    assert (content["AWS_ACCESS_KEY_ID"], content["db"]) == (created.key, "x")
    for _ in range(2):
        handovers.revert(*who, created.version, created.key)
        assert json.loads(read())["AWS_ACCESS_KEY_ID"] == old
    assert [key.id for key in own.list_keys(user)] == [old, created.key]
