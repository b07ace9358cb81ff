"""A rotation whose process is killed at each of its points, on SQLite and PostgreSQL, and started again."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from sparekey.audit import audit
from sparekey.decision import Overrides
from sparekey.plan import Plan, encode
from sparekey.planner import make_plan
from sparekey.policy import parse_policy
from sparekey.runs.projection import RunProjection
from sparekey.runs.storage import StateDirectory
from support import postgres_server
from support.fork_server import ForkServer
from support.killed_process import KillJob
from support.rotation_lab import COMPANY, OLD
from support.run_lab import prepare
from support.sandbox_gateway import SandboxGateway

STORED = f"""{COMPANY}
[[account.secret]]
name = "prod/etl"
user = "etl"
"""
POLICY = '[[handover]]\nuser = "etl"\nstore = "secretsmanager:prod/etl"\n'


class RotationLane:
    """A sandbox with a socket, and a process that forks those that are killed."""

    def __init__(self) -> None:
        self.aws = SandboxGateway(STORED)
        self.sandbox = self.aws.sandbox.start()
        self.server = ForkServer(self.sandbox.env())

    def restart(self) -> None:
        """The same company, as it was."""
        self.sandbox.restart(STORED)

    def plan(self) -> Plan:
        """The plan that rotates."""
        gateway, now = self.aws.gateway, self.sandbox.clock.now()
        own = gateway.own_account()
        read = audit([own], self.sandbox.clock, caller=gateway.caller(), need_last_use="all")
        return make_plan(read, parse_policy(POLICY), now, overrides=Overrides(rotate=True))

    def stored(self) -> dict[str, str]:
        """What an application reads."""
        account = self.aws.gateway.own_account()
        content: dict[str, str] = json.loads(
            account.call("secretsmanager", "GetSecretValue", {"SecretId": "prod/etl"})["SecretString"]
        )
        return content

    def close(self) -> None:
        """End the processes and the server."""
        self.server.close()
        self.sandbox.stop()


@pytest.fixture(scope="module")
def lane() -> Iterator[RotationLane]:
    started = RotationLane()
    yield started
    started.close()


def database_text(url: str) -> str:
    """Every row of every table of a database, the engine's own too."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 5
        queries = [
            SQL("SELECT x::text FROM {}.{} x").format(Identifier(schema), Identifier(table))
            for schema, table in tables
        ]
        return "\n".join(row[0] for query in queries for row in connection.execute(query).fetchall())


class Round:
    """One rotation with a state of its own."""

    def __init__(self, lane: RotationLane, folder: Path, url: str = "", template: Path | None = None) -> None:
        (folder / "home").mkdir(mode=0o700, parents=True)
        if template:
            shutil.copy(template / "sparekey.db", folder / "home")
        lane.restart()
        (folder / "plan.json").write_bytes(encode(lane.plan()))
        self.lane, self.folder, self.url = lane, folder, url

    def play(self, **more: object) -> int:
        """A process that applies the plan; its exit status."""
        job = KillJob(
            str(self.folder / "home"),
            str(self.folder / "plan.json"),
            url=self.url,
            policy=POLICY,
            **more,  # type: ignore[arg-type]
        )
        return self.lane.server.run(job)

    def play_killed(self, name: str, *, may_miss: bool = False, **at: object) -> None:
        """Kill it there, look, start it again, and look again."""
        killed = self.play(**at) == -signal.SIGKILL
        # Two ticks may be merged or not, so the last points are not passed in every run.
        assert killed or may_miss, name
        assert self.statuses()[OLD] == "Active", name
        assert self.statuses()[self.lane.stored()["AWS_ACCESS_KEY_ID"]] == "Active", name
        for _ in range(3):
            assert self.play() == 0, name
            state = self.state()
            if state in ("moving", "orphaned"):
                break
        statuses = self.statuses()
        new = next(key for key in statuses if key != OLD)
        assert len(statuses) == 2, name
        expected = {"moving": ("Active", new), "orphaned": ("Inactive", OLD)}
        assert (statuses[new], self.lane.stored()["AWS_ACCESS_KEY_ID"]) == expected[state], (name, state)
        secrets = [key.secret.encode() for key in self.lane.sandbox.state.keys.values()]
        kept = b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())
        kept += database_text(self.url).encode() if self.url else b""
        assert new.encode() in kept, name
        assert not any(secret in kept for secret in secrets), name

    def statuses(self) -> dict[str, str]:
        """The user's keys in AWS."""
        return {key.id: key.status for key in self.lane.sandbox.state.keys.values() if key.user == "etl"}

    def state(self) -> str:
        """The step's state by the ledger."""
        state = StateDirectory(self.folder / "home", self.url)
        try:
            (run,) = state.ledger.runs()
            (step,) = RunProjection(state.ledger.entries(run)).record().steps
            return step.state
        finally:
            state.close()


@pytest.mark.slow
def test_killed_at_every_point_of_a_rotation_on_sqlite(lane: RotationLane, tmp_path: Path) -> None:
    template, counted = prepare(tmp_path / "template"), tmp_path / "points"
    assert Round(lane, tmp_path / "alone", template=template).play(points=str(counted)) == 0
    names = counted.read_text().splitlines()
    assert {"before create", "after create", "after PutSecretValue", "after entry published"} <= set(names)
    for point, name in enumerate(names, 1):
        Round(lane, tmp_path / str(point), template=template).play_killed(
            name, may_miss=point > len(names) - 4, kill_at=point
        )


KINDS = (
    "after entry rotation",
    "before create",
    "after create",
    "after PutSecretValue",
    "after entry created",
    "after UpdateSecretVersionStage",
    "after entry published",
)


@pytest.mark.slow
def test_killed_at_each_kind_of_point_on_postgresql(lane: RotationLane, tmp_path: Path) -> None:
    with postgres_server.server(tmp_path) as server:
        for number, kind in enumerate(KINDS):
            url = postgres_server.database(server, f"kill{number}")
            Round(lane, tmp_path / f"kind{number}", url).play_killed(kind, kind=kind)
