"""A process that uses a state for the first time, at the same moment as others: see test_first_use.py."""

import sys
from pathlib import Path

from sparekey.runs.queue import Queue
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker_leases import WorkerLeases


class NoWork:
    """Nothing is ever carried."""

    def chunk_count(self, _run: str, _account: str) -> int:
        return 0

    def execute(self, _run: str, _account: str, _chunk: int) -> None:
        return

    def record_failure(self, _run: str, _account: str, _error: Exception) -> None:
        return


def main(home: str, url: str) -> None:
    state = StateDirectory(Path(home), url)
    engine = Queue(state, WorkerLeases(state.ledger, state), NoWork())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    assert state.ledger.runs() == ()
    engine.prepare()
    engine.enqueue("r-12345678", "111122223333")
    assert engine.active("r-12345678") == {"111122223333"}
    engine.stop()
    state.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
