"""DBOS, the durable workflow engine: thin workflows around `run/work.py`, which holds all that is decided.

Import it late: it costs half a second. DBOS is one per process, so this module holds the one engine.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, Protocol, TypeVar

from dbos import DBOS, DBOSClient

from sparekey.clock import Clock
from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.ledger import StateError
from sparekey.run.state import Held, State, new_id

# What DBOS calls the application version: it only grows when the workflows below change what their steps are
# called with, so that a run begun by one version of sparekey is finished by the next.
REVISION = "1"
_NAME = "sparekey"
_WRITES, _TICKS = "sparekey-writes", "sparekey-ticks"
_POLL = 0.5
_ACTIVE = ["ENQUEUED", "PENDING"]
_AFTER_FAILURE = timedelta(minutes=1)

P = ParamSpec("P")
T = TypeVar("T")


class Work(Protocol):
    """What the workflows call; every method may be called again for the same arguments."""

    def chunks(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        ...

    def carry(self, run: str, account: str, chunk: int) -> None:
        """Carry one part of an account's users."""
        ...

    def supervise(self, run: str) -> datetime | None:
        """Look after a run; returns when it must be looked after again, None for never."""
        ...

    def stumbled(self, run: str, account: str, error: Exception) -> None:
        """Put on record what cut the work on an account off, or (no account) looking after the run."""
        ...


class Engine:
    """One process's part in the runs: it listens to the queues where it may, and can always hand out."""

    def __init__(self, state: State, clock: Clock, work: Callable[["Engine"], Work]) -> None:
        self.state, self.clock = state, clock
        self.id = new_id("executor")
        self.work = work(self)
        self._locks: list[Held] = []
        self._client: DBOSClient | None = None
        self._opening = Lock()
        self._prepared = False

    @property
    def listening(self) -> bool:
        """True while this process runs queues."""
        return bool(self._locks)

    def listen(self) -> bool:
        """Run the queues in this process; False where another does, since on SQLite only one may."""
        if self.listening:
            return True
        self.prepare()
        queues = None if self.state.shared else self.state.try_lock("queues")
        if not self.state.shared and queues is None:
            return False
        mine = self.state.try_lock(self.id)
        self._locks = [lock for lock in (queues, mine) if lock is not None]
        self._launch()
        self.sweep()
        return True

    def _launch(self) -> None:
        global _current  # noqa: PLW0603  # DBOS itself is one per process, and finds workflows by name
        if _current is not None:
            raise StateError("this process runs an engine already")
        _current = self
        DBOS(
            config={
                "name": _NAME,
                "system_database_url": _engine_url(self.state),
                "executor_id": self.id,
                "application_version": REVISION,
                "log_level": "CRITICAL",
                "enable_otlp": False,
                "notification_listener_polling_interval_sec": 0.25,
                "scheduler_polling_interval_sec": 3600.0,
                "sys_db_pool_size": 8,
            }
        )
        DBOS.launch()

    def prepare(self) -> None:
        """Make the engine's tables and queues: an engine looks for new queues only once a second."""
        if self._prepared:
            return
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        # One process at a time: whoever came second would look for tables that are not there yet.
        with self.state.exclusively("setup"):
            DBOS.migrate(system_database_url=_engine_url(self.state))
            for queue in (_WRITES, _TICKS):
                # One account, and one run's supervision, is never in two hands at once.
                self.client.register_queue(
                    queue, partition_concurrency=1, worker_concurrency=8, polling_interval_sec=_POLL
                )
        self._prepared = True

    def stop(self) -> None:
        """Leave the queues; work in hand is left for whoever comes next."""
        global _current  # noqa: PLW0603  # see _launch
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self.listening:
            DBOS.destroy()
            _current = None
        for lock in self._locks:
            lock.release()
        self._locks = []

    @property
    def client(self) -> DBOSClient:
        """The way to the queues from outside a workflow."""
        with self._opening:
            if self._client is None:
                url = _engine_url(self.state)
                self._client = DBOSClient(system_database_url=url, application_name=_NAME)
            return self._client

    def hand_out(self, run: str, account: str, name: str) -> None:
        """Let an account's part of a run be carried; the same `name` again is the same piece of work."""
        self._enqueue(_WRITES, "sparekey.account", f"{run}/{name}/{account}", account, None, run, account)

    def look_after(self, run: str, name: str) -> None:
        """Let a run be supervised now; the same `name` again is the same time."""
        self._enqueue(_TICKS, "sparekey.tick", f"{run}/{name}", run, None, run)

    def look_after_at(self, run: str, due: datetime) -> None:
        """Let a run be supervised later: a delayed enqueue, for a sleeping workflow holds a thread."""
        delay = max(0.0, (due - self.clock.now()).total_seconds())
        # Named by its time: whoever asks for the same time asks for the same tick, so chains of ticks merge.
        self._enqueue(_TICKS, "sparekey.tick", f"{run}/at/{due.isoformat()}", run, delay, run)

    def look_after_failure(self, run: str) -> None:
        """Let a run be supervised again although that has just failed: a watch must not end with it."""
        self.look_after_at(run, self.clock.now() + _AFTER_FAILURE)

    def _enqueue(
        self, queue: str, workflow: str, name: str, partition: str, delay: float | None, *args: str
    ) -> None:
        options: dict[str, Any] = {
            "workflow_name": workflow,
            "queue_name": queue,
            "workflow_id": name,
            "queue_partition_key": partition,
            "app_version": REVISION,
        }
        if delay is not None:
            options["delay_seconds"] = delay
        self.client.enqueue(options, *args)  # type: ignore[arg-type]  # a TypedDict built in two steps

    def busy(self, run: str) -> bool:
        """True while something of this run is being worked at or about to be."""
        found = self.client.list_workflows(
            workflow_id_prefix=f"{run}/", status=_ACTIVE, limit=1, load_input=False, load_output=False
        )
        return bool(found)

    def failures(self, run: str) -> list[str]:
        """What went wrong in the engine's own work on this run."""
        found = self.client.list_workflows(workflow_id_prefix=f"{run}/", status="ERROR", load_input=False)
        return [_why(status.error) for status in found]

    def failures_since(self, moment: datetime) -> list[tuple[str, str]]:
        """The runs that the engine's own work failed on since then by this machine's time, and why."""
        found = self.client.list_workflows(
            completed_after=moment.isoformat(), status="ERROR", load_input=False
        )
        return [(status.workflow_id.split("/")[0], _why(status.error)) for status in found]

    def sweep(self) -> None:
        """Resume the work of processes that have died: exactly those whose lock is free."""
        pending = self.client.list_workflows(status="PENDING", load_input=False, load_output=False)
        executors = {status.executor_id for status in pending if status.executor_id} - {self.id}
        for executor in sorted(executors):
            lock = self.state.try_lock(executor)
            if lock is not None:
                try:
                    # Not public, but the one way to resume another executor's work without Conductor.
                    DBOS._recover_pending_workflows([executor])
                finally:
                    lock.release()


def _why(error: Exception | None) -> str:
    if isinstance(error, SparekeyError):
        return error.message
    return f"unexpected error: {type(error).__name__}"


def _safely(call: Callable[P, T]) -> Callable[P, T]:
    """The same call, of whose unforeseen errors the engine gets, and keeps, the type and the place alone."""

    @wraps(call)
    def safe(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except SparekeyError:
            raise
        except Exception as error:  # noqa: BLE001  # raised again, without the text
            raise UnexpectedError.of(error) from None

    return safe


_current: Engine | None = None


def _engine() -> Engine:
    if _current is None:
        raise StateError("no engine runs in this process")
    return _current


def _engine_url(state: State) -> str:
    return state.url.replace("postgresql+psycopg://", "postgresql://")


@DBOS.workflow(name="sparekey.account")
def _account(run: str, account: str) -> None:
    engine, after = _engine(), f"after/{DBOS.workflow_id}"
    try:
        for chunk in range(DBOS.run_step({"name": "chunks"}, _safely(engine.work.chunks), run, account)):
            DBOS.run_step({"name": "carry"}, _safely(engine.work.carry), run, account, chunk)
    except Exception as error:
        # One user's failure comes after the others are through, and they must be watched.
        DBOS.run_step({"name": "call"}, engine.work.stumbled, run, account, error)
        DBOS.run_step({"name": "call"}, engine.look_after, run, after)
        raise
    DBOS.run_step({"name": "call"}, engine.look_after, run, after)


@DBOS.workflow(name="sparekey.tick")
def _tick(run: str) -> None:
    engine = _engine()
    try:
        due = DBOS.run_step({"name": "supervise"}, _safely(engine.work.supervise), run)
    except Exception as error:
        DBOS.run_step({"name": "call"}, engine.work.stumbled, run, "", error)
        DBOS.run_step({"name": "call"}, engine.look_after_failure, run)
        raise
    if due is not None:
        DBOS.run_step({"name": "call"}, engine.look_after_at, run, due)
