"""Taking part in the runs of one state: a worker until it is stopped, a command until its run is idle."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from sparekey.clock import Clock
from sparekey.errors import SparekeyError
from sparekey.ledger.database import StateError
from sparekey.ledger.events import (
    RunStopped,
    WaveStarted,
    WorkerFailed,
    kind_of,
)
from sparekey.ledger.records import LedgerEntry, OnEvent, WorkerRecord
from sparekey.model import Caller, RunRecord
from sparekey.runs import rollout
from sparekey.runs.context import (
    KeyGateway,
    KeyHandover,
    NoProbes,
    ProbeRunner,
    ReadUsage,
    RetryPolicy,
    RunContext,
)
from sparekey.runs.emergency import EmergencyMonitor, OutageMessage
from sparekey.runs.event_feed import LedgerFeed
from sparekey.runs.monitor import watched_keys
from sparekey.runs.projection import RunProjection
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker import RunExecutor, load_header
from sparekey.runs.worker_leases import WorkerLeases
from sparekey.runs.worker_process import (
    FailureReporter,
    OnFailure,
    OnNotice,
    RecurringFaults,
    WaitNotice,
    WorkerProcess,
)

if TYPE_CHECKING:
    from sparekey.runs.queue import Queue

# Calls of AWS under way at once for one account's part of a run: IAM is slow, and its limits are low.
MAX_CALLS = 8
# Seconds between two looks: while keys are being changed, and while they are only watched.
_POLL, _LOOK = 0.1, 1.0


def ignore_event(_entry: LedgerEntry) -> None:
    """Ignore it."""


def ignore_failure(_run: str, _why: str) -> None:
    """Ignore it."""


def ignore_notice(_text: str) -> None:
    """Ignore it."""


def ignore_emergency(_message: OutageMessage) -> None:
    """Ignore it."""


OnEmergency = Callable[[OutageMessage], None]


class RunLoop:
    """The processes of one state's runs; everything they need is injected."""

    def __init__(
        self,
        state: StateDirectory,
        clock: Clock,
        gateway_for: Callable[[str], KeyGateway],
        caller: Caller,
        *,
        probes: ProbeRunner | None = None,
        retry_policy: RetryPolicy | None = None,
        calls: int = MAX_CALLS,
        caller_now: Callable[[], Caller] | None = None,
        handover: KeyHandover | None = None,
        read_usage: ReadUsage | None = None,
    ) -> None:
        self._state, self._clock = state, clock
        self._context = RunContext(
            ledger=state.ledger,
            clock=clock,
            gateway_for=gateway_for,
            caller=caller,
            worker=f"{os.uname().nodename}/{os.getpid()}",
            retry_policy=retry_policy or RetryPolicy(),
            probes=probes or NoProbes(),
            max_calls=calls,
            caller_now=caller_now,
            handover=handover,
            read_usage=read_usage,
        )

    @contextmanager
    def _emergency(
        self,
        process: "WorkerProcess",
        on_emergency: OnEmergency,
        on_event: Callable[[LedgerEntry, RunRecord], None] = lambda _entry, _record: None,
    ) -> Iterator[EmergencyMonitor]:
        """Watch the runs without the state, beside a process, for as long as the state cannot be used."""
        emergency = EmergencyMonitor(
            self._context,
            self._state.directory,
            self._state.url if self._state.shared else "",
            watched=process.watched,
            owe=process.hand_over,
            tell=on_emergency,
            on_event=on_event,
        )
        emergency.start()
        try:
            yield emergency
        finally:
            emergency.stop()

    @contextmanager
    def _process(self, who: WorkerRecord | None = None) -> Iterator["WorkerProcess"]:
        """Take part in the runs: a heartbeat, the queue, the supervision; given up at the end."""
        leases = WorkerLeases(self._state.ledger, self._state)
        engine = self._engine(leases)
        process = WorkerProcess(self._context, leases, engine)
        try:
            leases.start()
            if who is not None:
                leases.forget_the_dead()
                self._state.ledger.register(msgspec.structs.replace(who, id=leases.id))
            yield process
        finally:
            engine.stop()
            leases.stop()
            if who is not None:
                with suppress(SparekeyError):
                    self._state.ledger.unregister(leases.id)

    def _engine(self, leases: WorkerLeases | None = None) -> "Queue":
        from sparekey.runs.queue import Queue  # noqa: PLC0415  # half a second, and only runs need it

        return Queue(
            self._state, leases or WorkerLeases(self._state.ledger, self._state), RunExecutor(self._context)
        )

    def run_worker(
        self,
        until: Callable[[], bool],
        *,
        credentials_until: datetime | None = None,
        every: float = _LOOK,
        on_event: Callable[[LedgerEntry], None] = ignore_event,
        on_failure: OnFailure = ignore_failure,
        on_notice: OnNotice = ignore_notice,
        on_emergency: OnEmergency = ignore_emergency,
        on_event_without_state: Callable[[LedgerEntry, RunRecord], None] = lambda _entry, _record: None,
    ) -> None:
        """Monitor and execute runs until stopped; on SQLite it waits for its turn at the queue.

        `credentials_until` is when the worker's credentials end for good, None where it can renew them. Of every
        unfinished run, whichever worker executes it, `on_event` gets each new entry, and `on_failure` once, as
        (run, why), each thing that work has failed with since. `on_notice` hears why the state cannot be used,
        other than that it is away: the caller must notice that; and which process runs the
        queue, where this one waits for it. Where the state cannot be used for a while, `on_emergency` is called by
        what the runs are watched until it can, and `on_event_without_state` each entry that is then made, with
        its run's record.
        """
        me = WorkerRecord("", os.uname().nodename, self._clock.now(), credentials_until)
        failures, faults = FailureReporter(on_failure), RecurringFaults(on_notice)
        with self._process(me) as process:
            feed, copies = LedgerFeed(self._state.ledger), self._state.copies
            waiting = WaitNotice(process, "", on_notice)

            def hear() -> None:
                for entry in feed.new_events():
                    copies.add(self._state.ledger, entry)
                    failures.report(entry)
                    on_event(entry)

            with faults.reporting():
                for run, _ in self._state.ledger.unfinished():
                    copies.catch_up(self._state.ledger, run)
            with self._emergency(process, on_emergency, on_event_without_state) as emergency:
                while not until():
                    with faults.reporting():
                        process.run_round()
                        if process.is_sound:
                            emergency.sound()
                        hear()
                        waiting.update()
                    process.rest(every)
            with faults.reporting():
                hear()

    def live_workers(self) -> tuple[WorkerRecord, ...]:
        """The workers whose process is alive."""
        alive = WorkerLeases(self._state.ledger, self._state).alive()
        return tuple(worker for worker in self._state.ledger.workers() if worker.id in alive)

    def _follow(
        self,
        process: "WorkerProcess",
        run: str,
        on_event: OnEvent,
        on_notice: OnNotice,
        emergency: EmergencyMonitor | None = None,
    ) -> RunRecord:
        """Pass on events until nothing is left to do; Ctrl-C stops the run after the current step.

        With an `emergency` monitor it waits until the watch is over, and once keys are watched a fault of the
        state does not end it.
        """
        projection = RunProjection()
        try:
            self._until_idle(process, projection, run, on_event, on_notice, emergency)
        except KeyboardInterrupt:
            if not projection.last or projection.record().state not in ("watching", "rollback_failed"):
                self._context.record(run, RunStopped(self._context.caller.arn, "interrupted"))
            self._until_idle(process, projection, run, on_event, on_notice)
            raise
        record = projection.record()
        failures = self._state.ledger.entries(run, kinds=(kind_of(WorkerFailed("", "", "")),))
        if record.state == "applying" and failures:
            why = f"run {run} was cut off: {failures[-1].body['why']}"
            raise StateError(why, "Apply the same plan again to resume.")
        return record

    def _until_idle(
        self,
        process: "WorkerProcess",
        projection: RunProjection,
        run: str,
        on_event: OnEvent,
        on_notice: OnNotice,
        emergency: EmergencyMonitor | None = None,
    ) -> None:
        """Go on until nothing of the run is to be done now; with `emergency` until nothing is to be done at all."""
        waiting, faults = WaitNotice(process, run, on_notice), RecurringFaults(on_notice)
        while True:
            idle = True
            watches = emergency is not None and watched_keys(projection)
            with faults.reporting() if watches else nullcontext():
                process.run_round()
                if emergency and process.is_sound:
                    emergency.sound()
                for entry in self._state.ledger.entries(run, after=projection.last):
                    projection.add(entry)
                    on_event(entry)
                    waiting.progressed()
                idle = self._is_idle(process, run, projection)
                if idle and not (emergency and self._outstanding(run)):
                    return
                if not idle:
                    waiting.update()
            process.rest(_LOOK if idle else _POLL)

    def _is_idle(self, process: "WorkerProcess", run: str, projection: RunProjection) -> bool:
        """True where nothing of a run is being done, or could be done now."""
        if process.engine.active(run) or process.is_busy(run):
            return False
        opened = load_header(self._context, run)
        moves = isinstance(rollout.next_wave(self._context, opened, projection), WaveStarted | RunStopped)
        return not moves and not rollout.accounts_to_enqueue(self._context, opened, projection)

    def _outstanding(self, run: str) -> bool:
        return run in dict(self._state.ledger.unfinished())
