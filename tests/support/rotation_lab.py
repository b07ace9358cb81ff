"""A sandbox with a user whose only key is old, an application that reads its key from a store, and a state."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from sparekey.app.connection import OWN_ACCOUNT, Connection
from sparekey.app.rotation import handovers, read_key_usage
from sparekey.audit import audit
from sparekey.decision import Overrides
from sparekey.model import RunRecord, StepRecord
from sparekey.plan import Plan
from sparekey.planner import make_plan
from sparekey.policy import Policy, parse_policy
from sparekey.runs.context import KeyHandover, RetryPolicy
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from support.clocks import HurriedSandboxClock
from support.sandbox_gateway import SandboxGateway

ACCOUNT = "111122223333"
OLD = "AKIAETLOLDOLDOLDOLD2"
COMPANY = f"""
[[account]]
id = "{ACCOUNT}"
[[account.user]]
name = "operator"
key = [{{ age = "10d" }}]
[[account.user]]
name = "etl"
key = [{{ id = "{OLD}", age = "400d", used = {{ ago = "1h", service = "ec2" }} }}]
[[account.app]]
name = "etl"
user = "etl"
calls = ["ec2:DescribeRegions"]
every = "6h"
source = "127.0.0.1"
agent = "Boto3/1.34.11 etl"
[caller]
account = "{ACCOUNT}"
user = "operator"
"""
SECRETS_MANAGER, PARAMETER = "secretsmanager:prod/etl", "ssm:/prod/etl"
QUICK = RetryPolicy(
    agreeing_reads=2,
    pause=0.05,
    backoff=(0.05, 0.1, 0.2),
    usable_for=1.0,
    usable_pause=0.2,
    visible_after=0.5,
)


class RotationLab:
    """One rotation, played step by step."""

    def __init__(
        self, home: Path, store: str = SECRETS_MANAGER, more: str = "", company: str = COMPANY
    ) -> None:
        self.aws = SandboxGateway(company)
        self.home, self.store = home, store
        self.policy: Policy = parse_policy(f'[[handover]]\nuser = "etl"\nstore = "{store}"\n{more}')
        self.clock = HurriedSandboxClock(self.aws.sandbox.clock)
        self.connection = Connection(self.aws.gateway, self.policy, self.clock, OWN_ACCOUNT)
        self.refused: list[str] = []
        self._clients: dict[str, Any] = {}
        old = self.aws.sandbox.state.keys[OLD]
        self._first({"AWS_ACCESS_KEY_ID": OLD, "AWS_SECRET_ACCESS_KEY": old.secret, "region": "us-east-1"})

    def _first(self, content: dict[str, str]) -> None:
        kind, _, name = self.store.partition(":")
        account, text = self.aws.gateway.own_account(), json.dumps(content)
        if kind == "secretsmanager":
            token = "0" * 32
            account.write(
                kind, "CreateSecret", {"Name": name, "SecretString": text, "ClientRequestToken": token}
            )
        else:
            account.write(kind, "PutParameter", {"Name": name, "Value": text, "Type": "SecureString"})

    def plan(self) -> Plan:
        """The plan that rotates."""
        snapshot = audit(
            [self.aws.gateway.own_account()],
            self.clock,
            caller=self.aws.gateway.caller(),
            need_last_use="all",
        )
        return make_plan(snapshot, self.policy, self.clock.now(), overrides=Overrides(rotate=True))

    def service(self, handover: KeyHandover | None = None, retry_policy: RetryPolicy = QUICK) -> RunService:
        """The runs of this state."""
        return RunService(
            StateDirectory(self.home),
            self.clock,
            self.connection.account,
            self.aws.gateway.caller(),
            retry_policy=retry_policy,
            handover=handover or handovers(self.connection),
            read_usage=lambda policy, account, keys: read_key_usage(self.connection, policy, account, keys),
        )

    def stored(self) -> dict[str, str]:
        """What an application reads."""
        kind, _, name = self.store.partition(":")
        account = self.aws.gateway.own_account()
        if kind == "secretsmanager":
            text = account.call(kind, "GetSecretValue", {"SecretId": name})["SecretString"]
        else:
            params = {"Name": name, "WithDecryption": True}
            text = account.call(kind, "GetParameter", params)["Parameter"]["Value"]
        content: dict[str, str] = json.loads(text)
        return content

    def write(self, content: dict[str, str]) -> None:
        """Somebody writes the store."""
        params = {"SecretId": self.store.partition(":")[2], "SecretString": json.dumps(content)}
        token = f"{len(json.dumps(content)):032}"
        self.aws.gateway.own_account().write(
            "secretsmanager", "PutSecretValue", {**params, "ClientRequestToken": token}
        )

    def application_calls(self, secret: dict[str, str] | None = None) -> str:
        """The application reads the store and calls; returns the key it called with, and notes a refusal."""
        secret = secret or self.stored()
        try:
            self._client(secret).describe_regions()
        except ClientError as error:
            self.refused.append(str(error.response["Error"]["Code"]))
        return secret["AWS_ACCESS_KEY_ID"]

    def _client(self, secret: dict[str, str]) -> Any:
        key = secret["AWS_ACCESS_KEY_ID"]
        if key not in self._clients:
            client = botocore.session.Session().create_client(
                "ec2",
                region_name="us-east-1",
                aws_access_key_id=key,
                aws_secret_access_key=secret["AWS_SECRET_ACCESS_KEY"],
                config=Config(retries={"total_max_attempts": 1}, user_agent="Boto3/1.34.11 etl"),
            )
            self.aws.sandbox.attach(client)
            self._clients[key] = client
        return self._clients[key]

    def days(self, days: int, *, calls_every: timedelta = timedelta(hours=6)) -> None:
        """Days go by, and the application works."""
        end = self.clock.now() + timedelta(days=days)
        while self.clock.now() < end:
            self.aws.sandbox.advance(calls_every)
            self.application_calls()

    def statuses(self) -> dict[str, str]:
        """The user's keys in AWS."""
        keys, now = self.aws.sandbox.state.keys.values(), self.clock.now()
        return {key.id: key.status for key in keys if key.user == "etl" and key.exists_at(now)}


def only_step(record: RunRecord) -> StepRecord:
    """The run's only step."""
    (step,) = record.steps
    return step
