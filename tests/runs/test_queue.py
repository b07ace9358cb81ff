"""The engine's queue in this process: who listens to it, what is swept, and what becomes of its errors."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import error as dbos_error

from sparekey.ledger.database import StateError
from sparekey.runs import queue as engine_module
from sparekey.runs.queue import QUEUE, Queue
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker import RunExecutor
from sparekey.runs.worker_leases import WorkerLeases


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with closing(StateDirectory(tmp_path / "home")) as state:
        yield state


@pytest.fixture
def engine(state: StateDirectory) -> Iterator[Queue]:
    engine = Queue(state, WorkerLeases(state.ledger, state), RunExecutor(None))  # type: ignore[arg-type]  # no work
    yield engine
    engine.stop()
    engine.stop()  # twice does no harm


def change(state: StateDirectory, statement: str, **values: object) -> Any:
    with state.ledger.engine.begin() as connection:
        return connection.execute(sa.text(statement), values)


def count(state: StateDirectory) -> int:
    return int(change(state, "SELECT count(*) FROM workflow_status").scalar())


def test_whoever_was_replaced_while_frozen_leaves_the_queue_and_may_come_back(
    state: StateDirectory, engine: Queue
) -> None:
    other = WorkerLeases(state.ledger, state)
    other.start()
    assert engine.listen()
    change(state, "UPDATE sparekey_leases SET holder = :id, epoch = epoch + 1", id=other.id)
    assert not engine.listen()
    assert not engine.listening
    assert engine_module._ONE_PER_PROCESS.acquire(blocking=False), "it is held though nothing runs"
    engine_module._ONE_PER_PROCESS.release()
    assert not engine.listen()
    other.release(QUEUE)
    other.stop()
    assert engine.listen()
    assert engine.listening


def test_where_more_has_ended_than_is_removed_at_once_the_next_look_goes_on(
    state: StateDirectory, engine: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_BATCH", 2)
    monkeypatch.setattr(engine_module, "_SWEEP", 60.0)
    engine.prepare()
    for number in range(4):
        engine.enqueue("r-none", str(number))
    change(state, "UPDATE workflow_status SET status = 'ERROR', completed_at = 1000, error = 'x'")
    left = []
    for _ in range(3):
        engine.listen()
        left.append(count(state))
    assert left == [2, 0, 0]
    monkeypatch.setattr(engine, "recover", lambda: pytest.fail("nothing was left: it was not yet time"))
    engine.listen()


def test_an_error_of_the_engines_tables_names_the_state(state: StateDirectory, engine: Queue) -> None:
    engine.prepare()
    change(state, "DROP TABLE workflow_status")
    for call in (lambda: engine.active("r-none"), engine.recover, lambda: engine.enqueue("r-none", "1")):
        with pytest.raises(StateError, match=r"the state file .*sparekey\.db cannot be used: no such table"):
            call()


@pytest.mark.parametrize("error", [dbos_error.DBOSException("secret"), sa.exc.TimeoutError("secret")])
def test_any_other_error_of_the_engine_is_named_without_its_text(
    engine: Queue, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    engine.prepare()
    monkeypatch.setattr(engine.client, "list_workflows", fails)
    with pytest.raises(StateError) as received:
        engine.active("r-none")
    assert received.value.message == f"the engine's tables cannot be used: {type(error).__name__}"
