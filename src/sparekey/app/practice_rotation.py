"""From two old keys to one young one, on a practice AWS whose clock is turned forward: the demo's last stage.

The functions are those that `sparekey plan --rotate`, `apply`, `delete` and `resume` call.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from sparekey import report
from sparekey.app.connection import connect
from sparekey.app.deletion import deletable, delete
from sparekey.app.planning import plan
from sparekey.app.run_service import apply, resume
from sparekey.decision import Overrides
from sparekey.errors import SparekeyError
from sparekey.model import RunRecord
from sparekey.plan import Plan
from sparekey.report.interface import RenderOptions

USER = "etl-nightly"
_SECRET = "prod/etl-nightly"  # noqa: S105  # a secret's name
_AGENT = "Boto3/1.34.11 etl-nightly"
_COMPANY = f"""
caller = {{ account = "111122223333", user = "ops" }}
[[account]]
id = "111122223333"
[[account.user]]
name = "ops"
key = [{{ age = "20d" }}]
[[account.user]]
name = "{USER}"
key = [{{ age = "500d", used = {{ ago = "120d" }} }}, {{ age = "130d" }}]
[[account.app]]
name = "{USER}"
user = "{USER}"
key = 2
calls = ["ec2:DescribeRegions"]
every = "12h"
to = "1h"
agent = "{_AGENT}"
source = "127.0.0.1"
[[account.secret]]
name = "{_SECRET}"
user = "{USER}"
key = 2
"""
_POLICY = f"""
[[handover]]
user = "{USER}"
store = "secretsmanager:{_SECRET}"
"""


# The application: for each line that it gets it reads the secret, and calls with the key that it finds there.
_APPLICATION = f"""
import json, sys, botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

secrets = botocore.session.Session().create_client("secretsmanager")
clients = {{}}
for _ in sys.stdin:
    secret = json.loads(secrets.get_secret_value(SecretId="{_SECRET}")["SecretString"])
    key = secret["AWS_ACCESS_KEY_ID"]
    names = {{"aws_access_key_id": key, "aws_secret_access_key": secret["AWS_SECRET_ACCESS_KEY"]}}
    config = Config(user_agent="{_AGENT}", retries={{"total_max_attempts": 1}})
    if key not in clients:
        clients[key] = botocore.session.Session().create_client("ec2", config=config, **names)
    try:
        clients[key].describe_regions()
        print("answered", flush=True)
    except ClientError as error:
        print("refused", flush=True)
"""


class UnexpectedEndError(SparekeyError):
    """The rotation ended otherwise than it should."""

    default_hint = "This is a defect of sparekey, not of your machine: please report what is printed above."


class _PracticeAws(Protocol):
    """As much of the sandbox as is needed here."""

    @property
    def clock(self) -> Any:
        """Its clock."""
        ...

    def advance(self, by: timedelta | float) -> None:
        """Turn the clock forward."""
        ...

    def env(self) -> dict[str, str]:
        """What points a process at it."""
        ...


class _TurnedClock:
    """The practice AWS's clock; waiting turns it forward."""

    def __init__(self, aws: _PracticeAws) -> None:
        self._aws = aws

    def now(self) -> datetime:
        now: datetime = self._aws.clock.now()
        return now

    def sleep(self, seconds: float) -> None:
        self._aws.advance(seconds)


def rotation(columns: int) -> Iterator[tuple[str, str]]:
    """Play it; yields what is done, and what is seen. Raises UnexpectedEndError."""
    from sparekey.sandbox import Sandbox  # noqa: PLC0415  # nobody else needs it

    with Sandbox(_COMPANY) as aws, _practice_environment(aws), _application() as application:
        yield from _Rotation(aws, application, columns).stages()


@contextmanager
def _practice_environment(aws: _PracticeAws) -> Iterator[None]:
    """Point this process at the practice AWS, with a policy and a state that last as long."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="sparekey-demo-") as folder:
        policy = Path(folder) / "sparekey.toml"
        policy.write_text(_POLICY)
        policy.chmod(0o600)
        kept = {name: value for name, value in before.items() if not name.startswith(("AWS_", "SPAREKEY_"))}
        os.environ.clear()
        os.environ.update({**kept, **aws.env(), "SPAREKEY_HOME": folder})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _application() -> "Iterator[subprocess.Popen[str]]":
    """The application, a process of its own; it ends with the block."""
    command = [sys.executable, "-c", _APPLICATION]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


class _Rotation:
    def __init__(self, aws: _PracticeAws, application: "subprocess.Popen[str]", columns: int) -> None:
        self._aws, self._application = aws, application
        self._options = RenderOptions(width=columns, brief=True)
        self._connection = connect(clock=_TurnedClock(aws))
        self._answers: list[str] = []

    def stages(self) -> Iterator[tuple[str, str]]:
        """Each step with what it shows."""
        first = self._plan()
        yield (
            "plan --rotate: the idle key first, for AWS allows two keys per user",
            self._shown("plan", first),
        )
        yield "apply", self._shown("run", self._apply(first, "unwatched"))
        self._days(8)
        (old,) = deletable(self._connection, timedelta(days=7))
        why = delete(self._connection, old)
        yield "8 days later: delete frees the key's place", f"{old.user}  {old.key}: {why or 'deleted'}\n"
        second = self._plan()
        yield "plan --rotate again: now there is room for a new key", self._shown("plan", second)
        record = self._apply(second, "moving")
        yield "apply: created, stored, tested and published; both keys are active", self._shown("run", record)
        self._days(8)
        record = self._expect(resume(self._connection, record.id), "unwatched")
        yield "8 days later, by a worker or resume: the application has moved", self._shown("run", record)
        yield "What AWS lists", "".join(self._listing())
        refused = len(self._answers) - self._answers.count("answered\n")
        yield (
            "What the application noticed",
            f"{len(self._answers)} calls, each with the key that the secret had; {refused} were refused.\n",
        )
        if refused:
            raise UnexpectedEndError("the application was refused")

    def _plan(self) -> Plan:
        return plan(self._connection, overrides=Overrides(rotate=True))

    def _apply(self, made: Plan, state: str) -> RunRecord:
        return self._expect(apply(self._connection, made, made_here=True), state)

    def _expect(self, record: RunRecord, state: str) -> RunRecord:
        if record.state != state:
            raise UnexpectedEndError(f"run {record.id} is {record.state}, and not {state}")
        return record

    def _shown(self, subject: Literal["plan", "run"], value: Any) -> str:
        return "".join(report.render(subject, value, "table", self._options))

    def _listing(self) -> Iterator[str]:
        now = self._connection.clock.now()
        for key in self._connection.account(self._connection.gateway.account).list_keys(USER):
            age = (now - key.created).days if key.created else 0
            yield f"{USER}  {key.id}  {key.status}, {age} days old\n"

    def _days(self, days: int) -> None:
        """Days go by, and the application works."""
        calls, answers = self._application.stdin, self._application.stdout
        for _ in range(2 * days):
            self._aws.advance(timedelta(hours=12))
            if calls is not None and answers is not None:
                calls.write("\n")
                calls.flush()
                self._answers.append(answers.readline())
