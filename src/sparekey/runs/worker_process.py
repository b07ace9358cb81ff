"""A process that executes and monitors runs: its supervision beside its queue, and what it reports of itself."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.ledger.database import StateAwayError
from sparekey.ledger.events import (
    WorkerFailed,
    kind_of,
)
from sparekey.ledger.records import LedgerEntry, ProbeObservation
from sparekey.runs.context import RunContext
from sparekey.runs.emergency import OutstandingKeys
from sparekey.runs.supervisor import Supervisor, supervision_lease
from sparekey.runs.tasks import ThreadTasks
from sparekey.runs.worker_leases import WorkerLeases

if TYPE_CHECKING:
    from sparekey.runs.queue import Queue


OnFailure = Callable[[str, str], None]
# What is put into words for a person: whom a command waits for, of faults of the state.
OnNotice = Callable[[str], None]
# Seconds without any entry after which a command says whom it waits for.
_REPORT_SILENCE_AFTER = 3.0
# Seconds since the last look that did not fail as a whole, after which the supervision does not come round.
_ROUND_SECONDS = 10.0
# A fault that comes back within so many seconds is the same one.
_LASTING_FAULT = 60.0


class WorkerProcess:
    """This process's part in the runs: the supervision, and the queue where it may listen to it."""

    def __init__(self, context: RunContext, leases: WorkerLeases, engine: "Queue") -> None:
        self.leases, self.engine = leases, engine
        self._last_round = 0.0
        self._wake = threading.Event()
        self._tasks = ThreadTasks(context.clock, context.max_calls, self._wake.set)
        self._supervisor = Supervisor(context, engine, self._tasks, leases)

    def run_round(self) -> None:
        """Look once; raises StateError where the database is away."""
        self.leases.mark()
        self.engine.listen()
        self._supervisor.run_round()
        self._last_round = time.monotonic()

    @property
    def is_sound(self) -> bool:
        """True where the last look was at every run, and this process can write."""
        return self._supervisor.is_sound and self.leases.is_renewing

    def watched(self) -> Mapping[str, Mapping[str, ProbeObservation]]:
        """The runs that would have to be watched without the state, and what their probes answered last.

        Those that cannot be looked at, or all where this process writes nothing or comes round no more.
        """
        well = self.leases.is_renewing and time.monotonic() - self._last_round < _ROUND_SECONDS
        return self._supervisor.watched(failing=well)

    def hand_over(self, owed: OutstandingKeys) -> None:
        """Let the supervision put on record what came back without the state."""
        for run, keys in owed.items():
            self._supervisor.hand_over(run, keys)

    def is_busy(self, run: str) -> bool:
        """True while this process reactivates keys of a run."""
        return self._tasks.busy(("return", run))

    def rest(self, seconds: float) -> None:
        """Wait, until a task has ended."""
        self._wake.wait(seconds)
        self._wake.clear()


class WaitNotice:
    """Says whom this process waits for, once a holder, when nothing has happened for a while."""

    def __init__(self, process: WorkerProcess, run: str, tell: OnNotice) -> None:
        self._process, self._run, self._notify = process, run, tell
        self._since, self._reported = time.monotonic(), set[str]()

    def progressed(self) -> None:
        """Something has happened."""
        self._since = time.monotonic()

    def update(self) -> None:
        """Say it, if it is time."""
        if time.monotonic() - self._since < _REPORT_SILENCE_AFTER:
            return
        self._since = time.monotonic()
        leases, held = self._process.leases, self._process.leases.held()
        alive = leases.alive()
        for name, does in (
            (supervision_lease(self._run), f"supervises run {self._run}"),
            ("queue", "runs the queue"),
        ):
            holder = held[name].holder if name in held else ""
            if holder not in ("", leases.id, *self._reported) and holder in alive:
                self._reported.add(holder)
                other = alive[holder]
                self._notify(
                    f"waiting for {other.id} on {other.name}, which {does} (last heartbeat {other.age:.0f} s ago)"
                )


class FailureReporter:
    """What work has failed with, each thing once."""

    def __init__(self, tell: OnFailure) -> None:
        self._notify = tell
        self._reported: set[tuple[str, str]] = set()

    def report(self, entry: LedgerEntry) -> None:
        """Report it if this is a failure, and a new one."""
        if entry.kind == kind_of(WorkerFailed("", "", "")):
            failure = (entry.run, str(entry.body["why"]))
            if failure not in self._reported:
                self._reported.add(failure)
                self._notify(*failure)


class RecurringFaults:
    """Faults of the state, which end no watch; one that is not a state that is away is reported once."""

    def __init__(self, report: OnNotice, lasting: float = _LASTING_FAULT) -> None:
        self._report, self._lasting = report, lasting
        self._last, self._at = "", 0.0

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Go on in spite of a fault: the next look tries again."""
        try:
            yield
        except StateAwayError:
            return
        except SparekeyError as error:
            self._report_once(error.message)
        except Exception as error:  # noqa: BLE001  # a worker that ends watches nothing
            self._report_once(UnexpectedError.of(error).message)
        else:
            if time.monotonic() - self._at >= self._lasting:
                self._last = ""

    def _report_once(self, fault: str) -> None:
        self._at = time.monotonic()
        if fault != self._last:
            self._last = fault
            self._report(f"{fault}; it is tried again")
