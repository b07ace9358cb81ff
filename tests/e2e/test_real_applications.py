"""Two applications at work with a user's two keys, against a server that rejects inactive keys.

The plan that would break one of them is held; forced, its probe goes red and its key comes back by itself,
while the other application never notices anything.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.aws_servers import Server, ministack

pytestmark = pytest.mark.slow

# An application: signed calls without retries, what each came to, and a file that tells its health.
APPLICATION = """
import sys, time, pathlib, botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

url, access_key, secret_key, folder = sys.argv[1:]
client = botocore.session.Session().create_client(
    "sts", region_name="us-east-1", endpoint_url=url, aws_access_key_id=access_key,
    aws_secret_access_key=secret_key, config=Config(retries={"total_max_attempts": 1}))
folder = pathlib.Path(folder)
for _ in range(1200):
    try:
        client.get_caller_identity()
        said = "ok"
    except ClientError as error:
        said = error.response["Error"]["Code"]
    with (folder / "calls").open("a") as calls:
        calls.write(f"{time.time()} {said}\\n")
    (folder / "health.new").write_text(said)
    (folder / "health.new").replace(folder / "health")
    time.sleep(0.2)
"""
PROBE = (
    "import pathlib, sys; said = pathlib.Path(sys.argv[1]).read_text(); print(said); sys.exit(said != 'ok')"
)


class Application:
    """A process that calls AWS all the time with one key."""

    def __init__(self, server: Server, key: dict[str, str], folder: Path) -> None:
        folder.mkdir()
        self.key, self.folder = key["AccessKeyId"], folder
        words = (server.url, key["AccessKeyId"], key["SecretAccessKey"], str(folder))
        self.process = subprocess.Popen([sys.executable, "-c", APPLICATION, *words])

    def calls(self) -> list[tuple[float, str]]:
        """When each call was answered, and how."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(at), result) for at, _, result in (line.partition(" ") for line in lines)]

    def works(self) -> bool:
        """True once a call has succeeded."""
        return "ok" in [result for _, result in self.calls()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with ministack() as running:
        yield running


@pytest.fixture
def applications(server: Server, tmp_path: Path) -> Iterator[tuple[Application, Application]]:
    iam = server.client("iam")
    iam.create_user(UserName="app")
    keys = [iam.create_access_key(UserName="app")["AccessKey"] for _ in range(2)]
    started = [
        Application(server, key, tmp_path / name) for key, name in zip(keys, ("old", "new"), strict=True)
    ]
    try:
        for application in started:
            until(application.works)
        yield started[0], started[1]
    finally:
        for application in started:
            application.stop()


def until(result: Callable[[], bool]) -> None:
    """Wait for something that must come, up to a minute."""
    for _ in range(600):
        if result():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_the_application_that_breaks_gets_its_key_back_and_the_other_never_notices(
    server: Server,
    applications: tuple[Application, Application],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    old, new = applications
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    probe = [sys.executable, "-c", PROBE, str(old.folder / "health")]
    policy = home / "sparekey.toml"
    policy.write_text(
        f'[[probes]]\nkind = "command"\nname = "old-app"\nuser = "app"\nevery = "5s"\nargv = {probe}\n'
    )
    policy.chmod(0o600)
    env = {**os.environ, **server.env, "SPAREKEY_HOME": str(home)}

    def sparekey(*args: str, expect: int = 0) -> str:
        command = [sys.executable, "-m", "sparekey", *args]
        done = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == expect, f"{args}: {done.stdout}\n{done.stderr}"
        return done.stdout

    held: dict[str, Any] = json.loads(sparekey("plan", "--format", "json"))
    assert {step["action"] for step in held["steps"]} == {"held"}

    because = "to see it come back"
    sparekey("plan", "--force", old.key, "--because", because, "--keep", new.key, "-o", "plan.json")
    received = json.loads(sparekey("apply", "plan.json", "--yes", "--wait", "--format", "json"))

    [step] = received["steps"]
    assert (received["state"], step["state"], step["key"]) == ("rolled_back", "rolled_back", old.key)
    listed = server.client("iam").list_access_keys(UserName="app")["AccessKeyMetadata"]
    assert {key["AccessKeyId"]: key["Status"] for key in listed} == {old.key: "Active", new.key: "Active"}
    failed = [at for at, result in old.calls() if result != "ok"]
    assert failed, "the old key was never refused: nothing was tried"
    until(lambda: any(result == "ok" and at > failed[-1] for at, result in old.calls()))
    assert {result for _, result in new.calls()} == {"ok"}
    record_property("seconds refused, with a probe every 5 s", round(failed[-1] - failed[0], 1))
