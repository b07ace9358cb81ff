"""A sandbox, a plan and a state directory: what killed processes work at."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

from sparekey.audit import audit
from sparekey.plan import encode
from sparekey.planner import make_plan
from sparekey.policy import Policy
from sparekey.runs import queue
from sparekey.runs.projection import RunProjection
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.sandbox.cloudtrail_events import EventLog
from support.clocks import RunningClock
from support.fake_aws import CALLER, FakeAws
from support.fork_server import ForkServer
from support.invariants import assert_invariants
from support.killed_process import POLL, KillJob
from support.sandbox_gateway import SandboxGateway

ACCOUNT = "111122223333"
_OLD = '{ id = "%s", age = "400d", used = { ago = "80d" } }'
_NEW = '{ id = "%s", age = "30d", used = { ago = "1d" } }'
_MIDDLE = '{ id = "AKIABATCH2", age = "200d", used = { ago = "100d" } }'


def company(pairs: int = 0) -> str:
    """Three keys to deactivate, of a user with two keys and one with three; or as many pairs as asked for."""
    users: dict[str, tuple[str, ...]] = {
        f"user{n:05}": (_OLD % f"AKIAOLD{n:05}", _NEW % f"AKIANEW{n:05}") for n in range(pairs)
    }
    users = users or {
        "api": (_OLD % "AKIAAPIOLD", _NEW % "AKIAAPINEW"),
        "batch": ('{ id = "AKIABATCH1", age = "300d" }', _MIDDLE, _NEW % "AKIABATCH3"),
    }
    tables = (
        f'[[account.user]]\nname = "{name}"\nkey = [{", ".join(keys)}]\n' for name, keys in users.items()
    )
    return f'[[account]]\nid = "{ACCOUNT}"\n' + "".join(tables)


def prepare(home: Path, url: str = "") -> Path:
    """A state with all of its tables in it, to be copied: making them takes longer than a small run."""
    state = StateDirectory(home, url)
    aws = FakeAws(RunningClock())
    found = RunService(state, aws.clock, aws.gateway, CALLER)._engine()
    with patch.object(queue, "_POLL", POLL):  # the queues keep it
        found.prepare()
    found.stop()
    state.close()
    return home


@dataclass(frozen=True)
class RunEnd:
    """What is compared: the status of every key, the state of every step."""

    keys: dict[str, str]
    steps: dict[str, str]


class SandboxLane:
    """A sandbox with a socket and the processes that speak to it: one run after another."""

    def __init__(self, pairs: int = 0) -> None:
        self.here = SandboxGateway(company(pairs))
        self.sandbox = self.here.sandbox.start()
        self.zygote = ForkServer(self.sandbox.env())
        read = audit([self.here.gateway.own_account()], self.sandbox.clock, caller=self.here.gateway.caller())
        self.plan = make_plan(read, Policy(), self.sandbox.clock.now())

    def close(self) -> None:
        """End the processes and the server."""
        self.zygote.close()
        self.sandbox.stop()

    def restart(self) -> None:
        """All keys active again, and nothing of it in anybody's memory."""
        state = self.sandbox.state
        with state.lock:
            for key in state.keys.values():
                key.status = "Active"
            state.calls.clear()
            state.trail = EventLog()

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        """The writes that the sandbox carried out, by its own record."""
        return [
            (call.params["UserName"], call.params["AccessKeyId"], call.params["Status"])
            for call in self.sandbox.state.calls
            if call.action == "iam:UpdateAccessKey" and not call.error
        ]


class RunLab:
    """One run at a lane's sandbox, in a directory of its own."""

    def __init__(
        self, lane: SandboxLane, directory: Path, url: str = "", template: Path | None = None
    ) -> None:
        directory.mkdir()
        if template:
            (directory / "home").mkdir(mode=0o700)
            shutil.copy(template / "sparekey.db", directory / "home")
        self.sandbox_lane, self.directory, self.url = lane, directory, url
        lane.restart()
        (directory / "plan.json").write_bytes(encode(lane.plan))

    def run(self, **more: object) -> int:
        """A process that applies the plan, to its end; its exit status."""
        return self.sandbox_lane.zygote.run(self.job(**more))

    def job(self, **more: object) -> KillJob:
        """A process that applies the plan."""
        home, plan = (str(self.directory / name) for name in ("home", "plan.json"))
        return KillJob(home, plan, url=self.url, **more)  # type: ignore[arg-type]

    @cached_property
    def end(self) -> RunEnd:
        """How it ended; asserts what every run promises."""
        writes, wanted = self.sandbox_lane.writes, {step.key for step in self.sandbox_lane.plan.deactivations}
        assert {(key, status) for _, key, status in writes} <= {(key, "Inactive") for key in wanted}
        state = StateDirectory(self.directory / "home", self.url)
        try:
            assert state.ledger.runs() == (f"r-{self.sandbox_lane.plan.digest[:8]}",)
            assert_invariants(state.ledger, state.ledger.runs(), writes)
            record = RunProjection(state.ledger.entries(state.ledger.runs()[0])).record()
        finally:
            state.close()
        keys = {key.id: key.status for key in self.sandbox_lane.sandbox.state.keys.values()}
        return RunEnd(keys, {step.key: step.state for step in record.steps})

    def close(self) -> None:
        """Remove its directory."""
        shutil.rmtree(self.directory)
