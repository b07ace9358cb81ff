"""DBOS, the durable queue: deactivations of one account at a time, by any of the processes that listen.

Import it late: it costs half a second. DBOS allows one engine in a process. The engine
keeps nothing that the ledger does not: what is lost of it, the supervision enqueues again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from threading import Lock
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from dbos import error as dbos_error
from dbos._serialization import DefaultSerializer

from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.ledger.database import KEEPALIVE, StateError, state_error
from sparekey.runs.storage import StateDirectory, new_id
from sparekey.runs.worker_leases import WorkerLeases

# What DBOS calls the application version: it only grows when the workflow below changes what its steps are called
# with, or how that is written. Work of another revision is cancelled, and enqueued again.
REVISION = "2"
_NAME = "sparekey"
_WORKFLOW = "sparekey.account"
_WRITES = "sparekey-writes"
_POLL = 0.5
_WAITING = ["ENQUEUED", "DELAYED"]
_ACTIVE = [*_WAITING, "PENDING"]
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
# The lease of listening on SQLite, where DBOS allows one process.
QUEUE = "queue"
# DBOS is one object in a process; held by the engine that runs it.
_ONE_PER_PROCESS = Lock()
# Seconds between two sweeps; rows that ended so long ago are removed, so many at a time.
_SWEEP, _KEPT, _BATCH = 5.0, timedelta(minutes=1), 500


def _never_unpickle(_self: object, _text: str) -> NoReturn:
    raise StateError("the engine's table holds a pickled value, which may be code: it is not read")


# A row says itself how it is to be read, whatever serializer is configured: a planted one would run as code here.
DefaultSerializer.deserialize = _never_unpickle  # type: ignore[assignment, method-assign]

P = ParamSpec("P")
T = TypeVar("T")


class QueueWork(Protocol):
    """What the workflow calls; every method may be called again for the same arguments."""

    def chunk_count(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        ...

    def execute(self, run: str, account: str, chunk: int) -> None:
        """Execute one part of an account's users."""
        ...

    def record_failure(self, run: str, account: str, error: Exception) -> None:
        """Put on record what cut the work on an account off."""
        ...


class Queue:
    """One process's part in the queue: it listens to it where it may, and can always hand out."""

    def __init__(self, state: StateDirectory, leases: WorkerLeases, work: QueueWork) -> None:
        self.state, self.leases, self.work = state, leases, work
        self.listening = False
        self._client: DBOSClient | None = None
        self._opening = Lock()
        self._prepared = False
        self._recovered = 0.0

    def listen(self) -> bool:
        """Run the queue in this process, or go on with it; False where another does, since on SQLite only one may."""
        self.prepare()
        if not self.state.shared and self.leases.acquire(QUEUE) is None:
            if self.listening:  # frozen for a while, this process was replaced
                self._withdraw()
            return False
        if not self.listening:
            self._launch()
        if time.monotonic() - self._recovered > _SWEEP:
            self._recovered = time.monotonic()
            self.recover()
        return True

    def _launch(self) -> None:
        if not _ONE_PER_PROCESS.acquire(blocking=False):
            raise StateError("this process runs an engine already")
        self.listening = True
        # DBOS finds a workflow by its name: that of the engine launched last takes the place of the one before.
        DBOS.workflow(name=_WORKFLOW)(workflow_for(self.work))
        DBOS(
            config={
                "name": _NAME,
                "system_database_url": _engine_url(self.state),
                "executor_id": self.leases.id,
                "application_version": REVISION,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "CRITICAL",
                "enable_otlp": False,
                "notification_listener_polling_interval_sec": 0.25,
                "scheduler_polling_interval_sec": 3600.0,
                "sys_db_pool_size": 8,
                "db_engine_kwargs": {"connect_args": dict(KEEPALIVE)} if self.state.shared else {},
            }
        )
        DBOS.launch()

    def prepare(self) -> None:
        """Make the engine's tables and queue: an engine looks for new queues only once a second."""
        if self._prepared:
            return
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        # One process at a time: the second would look for tables that are not there yet.
        with self.state.exclusively("setup"):
            DBOS.migrate(system_database_url=_engine_url(self.state))
            # One account is never executed by two processes at once.
            self.client.register_queue(
                _WRITES, partition_concurrency=1, worker_concurrency=8, polling_interval_sec=_POLL
            )
        self._prepared = True

    def stop(self) -> None:
        """Leave the queue; unfinished work is left for the next worker."""
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self.listening:
            self._withdraw()

    def _withdraw(self) -> None:
        DBOS.destroy()
        self.listening = False
        _ONE_PER_PROCESS.release()

    @property
    def client(self) -> DBOSClient:
        """The way to the queue from outside a workflow; raises where the database is away, rather than wait for it."""
        with self._opening:
            if self._client is None:
                self._client = DBOSClient(
                    system_database_url=_engine_url(self.state),
                    application_name=_NAME,
                    serializer=DBOSPortableJSONSerializer(),
                    retry_connection_errors=False,
                )
            return self._client

    def enqueue(self, run: str, account: str) -> None:
        """Let an account's part of a run be done; twice does no harm, since one account is done once at a time."""
        options: Any = {
            "workflow_name": _WORKFLOW,
            "queue_name": _WRITES,
            "workflow_id": f"{run}/{account}/{new_id('work')}",
            "queue_partition_key": account,
            "app_version": REVISION,
        }
        with _describe(self.state):
            self.client.enqueue(options, run, account)

    def active(self, run: str) -> set[str]:
        """The accounts of a run that are being worked at or are about to be."""
        with _describe(self.state):
            workflows = self.client.list_workflows(
                workflow_id_prefix=f"{run}/", status=_ACTIVE, load_input=False, load_output=False
            )
        return {status.workflow_id.split("/")[1] for status in workflows if status.app_version == REVISION}

    def recover(self) -> None:
        """Cancel the work of processes that have died and of other revisions; remove what has ended.

        Nothing is resumed: the supervision finds in the ledger what is left to do, and enqueues it again.
        """
        with _describe(self.state):
            waiting = self.client.list_workflows(status=_ACTIVE, load_input=False, load_output=False)
            if waiting:
                alive = self.leases.alive()
                lost = [
                    status.workflow_id
                    for status in waiting
                    if (status.status == "PENDING" and status.executor_id not in alive)
                    or (status.status in _WAITING and status.app_version != REVISION)
                ]
                if lost:
                    self.client.cancel_workflows(lost)
            ended = self.client.list_workflows(
                status=_ENDED,
                completed_before=(datetime.now(UTC) - _KEPT).isoformat(),
                limit=_BATCH,
                load_input=False,
                load_output=False,
            )
            if ended:
                self.client.delete_workflows([status.workflow_id for status in ended])
            if len(ended) == _BATCH:
                self._recovered = 0.0  # there are more: go on at the next look


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


@contextmanager
def _describe(state: StateDirectory) -> Iterator[None]:
    """Errors of the engine and its database become ours."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise state_error(error, sa.make_url(state.url)) from error
    except (sa.exc.SQLAlchemyError, dbos_error.DBOSException) as error:
        raise StateError(f"the engine's tables cannot be used: {type(error).__name__}") from error


def _engine_url(state: StateDirectory) -> str:
    return state.url.replace("postgresql+psycopg://", "postgresql://")


def workflow_for(work: QueueWork) -> Callable[[str, str], None]:
    """The workflow that brings one account of a run to its end, chunk by chunk."""

    def account_workflow(run: str, account: str) -> None:
        try:
            for chunk in range(DBOS.run_step({"name": "chunks"}, _safely(work.chunk_count), run, account)):
                DBOS.run_step({"name": "carry"}, _safely(work.execute), run, account, chunk)
        except Exception as error:
            # One user's failure comes after the others are through.
            DBOS.run_step({"name": "call"}, work.record_failure, run, account, error)
            raise

    return account_workflow
