"""Leases and heartbeats: of two processes one has it, and whoever ends or is away keeps nobody out."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from sparekey.ledger.database import StateAwayError, StateError
from sparekey.ledger.records import AccountLease, WorkerRecord
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker_leases import WorkerInfo, WorkerLeases
from support.clocks import NOW


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with closing(StateDirectory(tmp_path / "home")) as state:
        yield state


def test_what_a_process_took_that_never_beat_is_given_back(state: StateDirectory) -> None:
    mine, other = WorkerLeases(state.ledger, state), WorkerLeases(state.ledger, state)
    assert mine.acquire("queue") is not None
    mine.stop()
    assert mine.held() == {}
    assert other.acquire("queue") == AccountLease("queue", other.id, 2)


def test_a_process_ends_and_lets_go_of_its_lock_although_the_database_is_away(state: StateDirectory) -> None:
    mine = WorkerLeases(state.ledger, state)
    mine.start()
    assert state.is_held(mine.id)
    with state.ledger.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE sparekey_processes"))
    mine.stop()
    assert not state.is_held(mine.id)


def test_a_heartbeat_that_cannot_be_written_is_tried_again(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = WorkerLeases(state.ledger, state, ttl=0.04)
    right, beaten = mine.renew, threading.Event()
    meets: list[Exception | None] = [None, StateAwayError("away"), StateError("odd")]

    def beat() -> None:
        error = meets.pop(0) if meets else None
        if error is not None:
            raise error
        right()
        if not meets:
            beaten.set()

    monkeypatch.setattr(mine, "renew", beat)
    mine.start()
    assert beaten.wait(20)
    mine.stop()


def test_of_processes_that_take_the_same_lease_at_once_one_has_it(state: StateDirectory) -> None:
    mine, other = WorkerLeases(state.ledger, state), WorkerLeases(state.ledger, state)

    class TakenMeanwhile(dict[str, WorkerInfo]):
        """Nobody is alive; and while that is looked up, the other process takes over what the dead one had."""

        def __contains__(self, holder: object) -> bool:
            assert other.acquire("queue", {}) is not None
            return False

    WorkerLeases(state.ledger, state).acquire("queue")
    assert mine.acquire("queue", TakenMeanwhile()) is None
    assert mine.held() == {"queue": AccountLease("queue", other.id, 2)}
    # And where both have seen that nobody ever had it:
    assert other.acquire("run/r-1") is not None
    assert mine._take("run/r-1", 0) is None
    assert mine.held()["run/r-1"] == AccountLease("run/r-1", other.id, 1)


def test_the_dead_are_forgotten_and_whoever_beats_is_not(state: StateDirectory) -> None:
    mine, dead = WorkerLeases(state.ledger, state), WorkerLeases(state.ledger, state, now=lambda: 1000.0)
    for leases in (mine, dead):
        leases.renew()
        state.ledger.register(WorkerRecord(leases.id, "here", NOW, None))
    mine.forget_the_dead()
    assert [worker.id for worker in state.ledger.workers()] == [mine.id]
    assert set(mine.alive()) == {mine.id}
