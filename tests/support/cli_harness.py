"""A person at a desk: the commands in this process, a practice AWS beside it, and clocks that hurry."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import botocore.loaders
import msgspec
import pytest

from sparekey import app
from sparekey.aws.http_pool import HttpPool
from sparekey.cli import cli
from sparekey.cli.failures import run_guarded
from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.app import PracticeAws, Receive, Scope, Send
from sparekey.sandbox.scenario import Deny, Fault
from sparekey.sandbox.state import Company, SandboxKey
from support.clocks import HurriedSandboxClock

ACCOUNT = "111122223333"
ELSEWHERE = "444455556666"
COMPANY = f"""
caller = {{ account = "{ACCOUNT}", user = "ops" }}
[[account]]
id = "{ACCOUNT}"
alias = "acme"
[[account.user]]
name = "ops"
key = [{{ age = "20d", used = {{ ago = "1h" }} }}]
[[account.user]]
name = "batch"
key = [
  {{ age = "400d" }},
  {{ age = "300d", used = {{ ago = "100d" }} }},
  {{ age = "40d", used = {{ ago = "1h" }} }},
]
[[account.user]]
name = "busy"
path = "/apps/"
key = [{{ age = "200d", used = {{ ago = "2h" }} }}, {{ age = "50d", used = {{ ago = "1h" }} }}]
[[account.user]]
name = "one"
key = [{{ age = "30d" }}]
[[account.user]]
name = "web"
key = [{{ age = "200d", used = {{ ago = "80d" }} }}, {{ age = "50d", used = {{ ago = "1h" }} }}]
[[account]]
id = "{ELSEWHERE}"
[[account.user]]
name = "guest"
key = [{{ age = "20d" }}]
"""
_NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence; fails where there are more, or no hint."""
        lines = [line for line in self.err.splitlines() if line.startswith(("error: ", "hint: "))]
        assert [line.split(":")[0] for line in lines] == ["error", "hint"], self.err
        return lines[0].removeprefix("error: ")


class AwsFrontend(PracticeAws):
    """One address for many sandboxes, one after the other: opening and closing a socket takes its time."""

    def __init__(self, company: Company) -> None:
        super().__init__(company)
        self.url = ""
        self.behind: PracticeAws | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.behind:
            await self.behind(scope, receive, send)

    def env(self, key: SandboxKey) -> dict[str, str]:
        """What points an AWS client here, with somebody's key."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def open_frontend() -> Iterator[AwsFrontend]:
    """A door that is open."""
    host = Sandbox(COMPANY)
    host.app = door = AwsFrontend(host.state)
    with host:
        door.url = host.url
        yield door


class CliHarness:
    """One person's desk."""

    def __init__(
        self,
        aws: Sandbox,
        door: AwsFrontend,
        folder: Path,
        patch: pytest.MonkeyPatch,
        capsys: "pytest.CaptureFixture[str]",
    ) -> None:
        self.aws, self.folder, self.home = aws, folder, folder / "home"
        self._door = door
        self.patch, self._capsys = patch, capsys
        self.plan = folder / "plan.json"

    def __call__(self, *args: str | Path) -> CommandResult:
        """Run a command; no traceback may show and no secret."""
        code = run_guarded(cli, [str(arg) for arg in args])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err, err
        assert "unexpected error" not in err, err
        assert not any(key.secret in out + err for key in self.aws.state.keys.values())
        return CommandResult(code, out, err)

    def make_plan(self, *args: str, expect: int = 0) -> Path:
        """Write a plan."""
        result = self("plan", "-o", self.plan, *args)
        assert result.code == expect, result.err
        return self.plan

    @property
    def run(self) -> str:
        """The id of the run that the plan becomes."""
        return f"r-{json.loads(self.plan.read_text())['digest'][:8]}"

    def answer(self, text: str) -> None:
        """Sit at a terminal and answer with this."""
        self.patch.setattr(sys, "stdin", _Terminal(text))

    def policy(self, text: str, mode: int = 0o600) -> Path:
        """Write the policy of the state directory."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        path = self.home / "sparekey.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    def fault(self, *faults: Fault) -> None:
        """Let something go wrong from now on."""
        self.aws.state.faults.extend(faults)

    def deny(self, action: str, target: str = "*") -> None:
        """Deny an action from now on."""
        self.fault(Deny(action=action, target=target))

    def act_as(self, user: str, account: str = "") -> None:
        """Take another user's credentials."""
        for name, value in self._door.env(self.aws.key(user, account=account)).items():
            self.patch.setenv(name, value)

    def key(self, user: str, number: int) -> str:
        """The id of a user's key, from 1."""
        return self.aws.key(user, account=ACCOUNT, number=number).id

    @property
    def statuses(self) -> dict[str, str]:
        """Every key's status, by user and number."""
        with self.aws.state.lock:
            return {
                f"{user.name}/{at}": key.status
                for account in self.aws.state.accounts.values()
                for user in account.users.values()
                for at, key in enumerate(user.keys, 1)
                if key.deleted is None
            }

    @property
    def inactive(self) -> set[str]:
        """Which keys are not active."""
        return {name for name, status in self.statuses.items() if status != "Active"}

    @property
    def writes(self) -> int:
        """How many calls could have changed anything."""
        return sum(call.action == "iam:UpdateAccessKey" for call in self.aws.state.calls)

    def before_each(self, action: str, act: Callable[[], None]) -> None:
        """Act just before the sandbox answers the first such call."""
        handle, acted = self.aws.app.handle, list[bool]()

        def handled(request: Any) -> Any:
            if not acted and f"Action={action}".encode() in request.body:
                acted.append(True)
                act()
            return handle(request)

        self.patch.setattr(self.aws.app, "handle", handled)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# What botocore knows of AWS is read once, not again for each command.
_LOADER = botocore.loaders.create_loader()


@contextmanager
def environment(env: Mapping[str, str], clock: SandboxClock) -> Iterator[pytest.MonkeyPatch]:
    """Nothing of this machine's own AWS, and no wait that is only a wait; commands run in this process."""
    wires: list[HttpPool] = []

    def wire(*given: Any) -> HttpPool:
        wires.append(HttpPool(*given))
        return wires[-1]

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "SPAREKEY_"))]:
            patch.delenv(name)
        for name, value in {**_NO_AWS, **env}.items():
            patch.setenv(name, value)
        patch.delenv("COLUMNS", raising=False)
        patch.setattr("botocore.loaders.create_loader", lambda _path=None: _LOADER)
        patch.setattr(
            "sparekey.aws.client.HttpPool", wire
        )  # closed below, which a process that ends need not do
        patch.setattr(app, "connect", partial(app.connect, clock=HurriedSandboxClock(clock)))
        try:
            yield patch
        finally:
            for used in wires:
                used.close()
            logging.getLogger("dbos").handlers.clear()  # they hold the stderr of this test


@contextmanager
def cli_harness(
    folder: Path, capsys: "pytest.CaptureFixture[str]", door: AwsFrontend, scenario: str = COMPANY
) -> Iterator[CliHarness]:
    """A desk beside a sandbox of its own."""
    aws = Sandbox(scenario)
    env = {**door.env(aws.operator), "SPAREKEY_HOME": str(folder / "home")}
    with environment(env, aws.clock) as patch:
        patch.chdir(folder)
        # botocore signs by the machine's clock, which stays behind the sandbox's.
        patch.setattr("sparekey.sandbox.auth._SKEW", timedelta(days=3))
        patch.setattr(door, "behind", aws.app)
        yield CliHarness(aws, door, folder, patch, capsys)
