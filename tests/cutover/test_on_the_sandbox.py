"""Cutover on the sandbox's company: applications that call with its keys, and what each source sees."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from sparekey import usage
from sparekey.cutover import ConsumersMoved, ConsumersNotMoved, have_consumers_moved
from sparekey.decision import DecisionContext
from sparekey.model import AccessKey, Caller, LastUsed
from sparekey.policy import Policy
from sparekey.sandbox import Sandbox, SandboxClock, parse_scenario

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy()
HEAD = """
regions = ["us-east-1", "eu-central-1"]
[[account]]
id = "111122223333"
[[account.role]]
name = "Deploy"
[[account.user]]
name = "app"
key = [{ age = "200d" }, { age = "80d" }]
"""


def app(key: int, calls: str, begin: str, end: str, every: str = "6h", **more: str) -> str:
    """An application that calls with the user's first or second key."""
    extra = "".join(f'{name} = "{value}"\n' for name, value in more.items())
    return (
        f'[[account.app]]\nname = "{calls} {key} {begin}"\nuser = "app"\nkey = {key}\ncalls = ["{calls}"]\n'
        f'every = "{every}"\nfrom = "{begin}"\nto = "{end}"\nregion = "eu-central-1"\n{extra}'
    )


CASES: dict[str, tuple[str, dict[str, str]]] = {
    "an application that moved": (
        app(1, "sqs:CreateQueue", "60d", "10d") + app(2, "sqs:CreateQueue", "10d", "0d"),
        {"archive": "moved", "history": "moved"},
    ),
    "one that half moved": (
        app(1, "sqs:CreateQueue", "60d", "10d", source="198.51.100.1")
        + app(1, "sqs:CreateQueue", "60d", "12d", source="198.51.100.2")
        + app(2, "sqs:CreateQueue", "10d", "0d", source="198.51.100.1"),
        {"archive": "not-moved", "history": "not-moved"},
    ),
    "one that only uses S3": (
        app(1, "s3:PutObject", "60d", "10d") + app(2, "s3:PutObject", "10d", "0d"),
        {"archive": "moved", "history": "source-blind"},
    ),
    "one that uses a service without regions": (
        app(1, "iam:ListUsers", "60d", "10d") + app(2, "iam:ListUsers", "10d", "0d"),
        {"archive": "moved", "history": "moved"},
    ),
    "one whose service CloudTrail calls otherwise": (
        app(1, "cloudwatch:DescribeAlarms", "60d", "10d") + app(2, "cloudwatch:DescribeAlarms", "10d", "0d"),
        {"archive": "moved", "history": "moved"},
    ),
    "a weekly job": (
        app(1, "glue:StartJobRun", "60d", "11d", every="7d")
        + app(2, "glue:StartJobRun", "4d", "0d", every="7d"),
        {"archive": "gap", "history": "gap"},
    ),
    "a login that mints sessions, and moved": (
        app(1, "ec2:DescribeInstances", "60d", "10d", via="AssumeRole", role="Deploy", session="1h")
        + app(2, "ec2:DescribeInstances", "10d", "0d", via="AssumeRole", role="Deploy", session="1h"),
        {"archive": "moved"},
    ),
    "a login that mints sessions, and stayed": (
        app(1, "ec2:DescribeInstances", "60d", "10d", via="AssumeRole", role="Deploy", session="1h")
        + app(2, "s3:PutObject", "10d", "0d"),
        {"archive": "not-moved"},
    ),
}


def judge(sandbox: Sandbox, source: str, folder: Path, clock: SandboxClock) -> str:
    """The verdict on the user's first key, by what a source saw; IAM's last use is the sandbox's own."""
    call = _calls(sandbox)
    listed = sorted(
        call("iam", "ListAccessKeys", {"UserName": "app"})["AccessKeyMetadata"],
        key=lambda one: one["CreateDate"],
    )
    keys = []
    for one in listed:
        used = call("iam", "GetAccessKeyLastUsed", {"AccessKeyId": one["AccessKeyId"]})["AccessKeyLastUsed"]
        region = None if used["Region"] == "N/A" else used["Region"]
        last = LastUsed("used", used["LastUsedDate"], used["ServiceName"], region)
        keys.append(AccessKey(one["AccessKeyId"], one["Status"], one["CreateDate"], last))
    if source == "archive":
        sandbox.export_archive(folder)
        source = f"archive={folder}"
    ids = [key.id or "" for key in keys]
    seen = {
        entry.key: entry
        for entry in usage.read_usage(source, ids, usage.UsageRequest(clock=clock, call=call))
    }
    context = DecisionContext(POLICY, clock.now(), Caller("111122223333", ""), usages=seen)
    match have_consumers_moved(keys[0], keys[1], context):
        case ConsumersMoved():
            return "moved"
        case ConsumersNotMoved(reason=reason):
            return reason


def _calls(sandbox: Sandbox) -> Any:
    session = botocore.session.Session()

    def call(
        service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        operator = sandbox.operator
        client = session.create_client(
            service,
            region_name=region or "us-east-1",
            endpoint_url="http://127.0.0.1:4599",
            aws_access_key_id=operator.id,
            aws_secret_access_key=operator.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )
        sandbox.attach(client)
        answer: dict[str, Any] = client._make_api_call(action, dict(params))
        return answer

    return call


@pytest.mark.parametrize(
    ("scenario", "source", "verdict"),
    [
        pytest.param(scenario, source, verdict, id=f"{name}, {source}")
        for name, (scenario, verdicts) in CASES.items()
        for source, verdict in verdicts.items()
    ],
)
def test_cutover(scenario: str, source: str, verdict: str, tmp_path: Path) -> None:
    clock = SandboxClock(NOW)
    sandbox = Sandbox(parse_scenario(HEAD + scenario), clock=clock)
    assert judge(sandbox, source, tmp_path, clock) == verdict
