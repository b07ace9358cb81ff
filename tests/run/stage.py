"""A fake AWS behind a socket, a plan and a state directory: what killed processes work at."""

import shutil
from multiprocessing.connection import Listener
from pathlib import Path

from run.fake import CALLER, FakeAws, RunningClock, key, plan_for, used
from run.killed import Job, serve
from run.promises import kept
from sparekey.plan import encode
from sparekey.run.record import RunFold
from sparekey.run.runs import Runs
from sparekey.run.state import State


def prepare(home: Path, url: str = "") -> Path:
    """A state with all of its tables in it, to be copied: making them takes longer than a small run."""
    state = State(home, url)
    aws = FakeAws(RunningClock())
    engine = Runs(state, aws.clock, aws.gateway, CALLER)._engine()
    engine.prepare()
    engine.stop()
    state.close()
    return home


class Stage:
    """Three keys to deactivate, of a user with two keys and one with three; or as many pairs as asked for."""

    def __init__(self, directory: Path, url: str = "", pairs: int = 0, template: Path | None = None) -> None:
        directory.mkdir()
        if template:
            (directory / "home").mkdir(mode=0o700)
            shutil.copy(template / "sparekey.db", directory / "home")
        self.directory, self.url = directory, url
        self.aws = FakeAws(RunningClock())
        if not pairs:
            self.aws.add("api", key("AKIAAPIOLD", 400, used(80)), key("AKIAAPINEW", 30, used(1)))
            middle = key("AKIABATCH2", 200, used(100))
            self.aws.add("batch", key("AKIABATCH1", 300), middle, key("AKIABATCH3", 20, used(2)))
        for number in range(pairs):
            old, new = f"AKIAOLD{number:05}", f"AKIANEW{number:05}"
            self.aws.add(f"user{number:05}", key(old, 400, used(80)), key(new, 30, used(1)))
        self.plan = plan_for(self.aws)
        (directory / "plan.json").write_bytes(encode(self.plan))
        self.listener: Listener = serve(self.aws, str(directory / "aws"))

    def job(self, **more: object) -> Job:
        """A process that applies the plan."""
        home, plan, address = (str(self.directory / name) for name in ("home", "plan.json", "aws"))
        return Job(home, plan, address, self.url, **more)  # type: ignore[arg-type]

    def check(self) -> None:
        """Assert the same end as that of a run left alone."""
        self.listener.close()
        gone = {step.key for step in self.plan.deactivations}
        for user in self.aws.users.values():
            assert {key.id for key in user if key.status == "Inactive"} == gone & {key.id for key in user}
        state = State(self.directory / "home", self.url)
        try:
            assert state.ledger.runs() == (f"r-{self.plan.digest[:8]}",)
            kept(state.ledger, state.ledger.runs(), self.aws.writes)
            record = RunFold(state.ledger.entries(state.ledger.runs()[0])).record()
            assert {step.state for step in record.steps} == {"unwatched"}
        finally:
            state.close()
