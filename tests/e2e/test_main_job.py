"""The whole job by the command line, against three servers: audit, plan, apply, read back, undo.

The commands run in this process; test_demo.py and test_interrupted.py start them as a person does.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sparekey.cli import cli
from sparekey.cli.failures import run_guarded
from sparekey.sandbox import SandboxClock
from support.aws_servers import Server, ministack, moto, sandbox
from support.cli_harness import CommandResult, environment

pytestmark = pytest.mark.slow

SERVERS = {"sandbox": sandbox, "moto": moto, "ministack": ministack}


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture
def sparekey(server: Server, tmp_path: Path, capsys: "pytest.CaptureFixture[str]") -> Iterator["Sparekey"]:
    with environment({**server.env, "SPAREKEY_HOME": str(tmp_path / "home")}, SandboxClock()) as patch:
        patch.chdir(tmp_path)
        yield Sparekey(capsys)


class Sparekey:
    """The command as a person types it."""

    def __init__(self, capsys: "pytest.CaptureFixture[str]") -> None:
        self._capsys = capsys

    def __call__(self, *args: str, expect: int = 0) -> CommandResult:
        code = run_guarded(cli, args)
        out, err = self._capsys.readouterr()
        assert code == expect, f"{args} ended with {code}\n{out}\n{err}"
        assert "Traceback" not in out + err
        return CommandResult(code, out, err)


class Pair:
    """A user with two active keys."""

    def __init__(self, server: Server, name: str) -> None:
        self.name, self.iam, self.server = name, server.client("iam"), server
        self.iam.create_user(UserName=name)
        first, second = (self.iam.create_access_key(UserName=name)["AccessKey"] for _ in range(2))
        self.goes, self.stays = first, second

    def statuses(self) -> dict[str, str]:
        listed = self.iam.list_access_keys(UserName=self.name)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in listed}

    def works(self, key: dict[str, Any]) -> bool:
        sts = self.server.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
        try:
            sts.get_caller_identity()
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidClientTokenId"  # noqa: PT017  # any other is a failure
            return False
        return True


def test_a_spare_key_is_found_switched_off_read_back_and_put_back(server: Server, sparekey: Sparekey) -> None:
    pair = Pair(server, "app-orders")
    goes, stays = pair.goes["AccessKeyId"], pair.stays["AccessKeyId"]

    audit = json.loads(sparekey("audit", "--format", "json", expect=3).out)
    assert audit["schema"] == "sparekey/audit/1"
    [user] = [user for user in audit["accounts"][0]["users"] if user["name"] == pair.name]
    assert (user["status"], user["active_keys"]) == ("FAIL", 2)
    assert {key["id"] for key in user["keys"]} == {goes, stays}

    held = json.loads(sparekey("plan", "--format", "json").out)
    assert {step["action"] for step in held["steps"]} == {"held"}

    because = "the application was moved by hand"
    sparekey("plan", "--force", goes, "--because", because, "--keep", stays, "-o", "plan.json")
    refused = sparekey("apply", "plan.json", expect=2)
    assert "--yes" in refused.err
    assert set(pair.statuses().values()) == {"Active"}

    applied = sparekey("apply", "plan.json", "--yes")
    assert "aws iam update-access-key" in applied.out + applied.err
    assert pair.statuses() == {goes: "Inactive", stays: "Active"}
    assert pair.works(pair.stays)
    if server.name != "moto":  # moto's server verifies nothing
        assert not pair.works(pair.goes)
    sparekey("audit")

    again = sparekey("apply", "plan.json", "--yes", expect=1)
    assert "new plan" in again.err

    runs = sparekey("runs")
    [run] = re.findall(r"\br-[0-9a-z]+\b", runs.out)
    shown = sparekey("show", run).out
    assert goes in shown
    assert because in shown

    sparekey("undo", run)
    assert pair.statuses() == {goes: "Active", stays: "Active"}
    assert pair.works(pair.goes)
    assert "new plan" in sparekey("apply", "plan.json", "--yes", expect=1).err
