"""The watch while the state cannot be used: keys come back by what is known of their runs without it.

Once the supervision has not come round for a while (a damaged or locked file, a full disk, a server that is away),
the runs that this process supervised are supervised on a scratch ledger: the database as far as it can be read,
and the copies beside it. Nothing is handed out there, so no key is deactivated. Once the state can be used again,
the supervision puts on record what came back. See docs/adr/0035.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sparekey.ledger.copies import LedgerCopies
from sparekey.ledger.records import LedgerEntry, ProbeObservation
from sparekey.ledger.store import Ledger
from sparekey.model import RunRecord, Value
from sparekey.runs import monitor
from sparekey.runs.context import RunContext
from sparekey.runs.event_feed import LedgerFeed
from sparekey.runs.key_facts import KeyId
from sparekey.runs.salvage import scratch_state
from sparekey.runs.storage import REVERSE
from sparekey.runs.supervisor import Supervisor
from sparekey.runs.tasks import ThreadTasks
from sparekey.runs.worker import failure_text, load_projection, load_record

# Seconds without a sound look at every run after which the scratch ledger is made, and between two looks there.
AFTER, _EVERY = 20, 1.0
# Seconds after which another scratch ledger is tried where the last one gave nothing.
_AGAIN = 30

# By run, what its probes answered last.
Watched = Mapping[str, Mapping[str, ProbeObservation]]
# By run, the keys that came back without the state, and why.
OutstandingKeys = Mapping[str, Mapping[KeyId, str]]


class OutageMessage(Value, frozen=True):
    """What a person must know at once: that runs are watched without the state, or that they are not."""

    text: str
    watched: tuple[str, ...]
    unwatched: tuple[str, ...]


class EmergencyMonitor:
    """Beside a process's supervision, in a thread of its own; `sound` is to be called after each sound look.

    `watched` returns what was supervised at the last sound look, `owe` is given what came back meanwhile.
    `tell` gets messages about the whole, `on_event` each entry of the scratch ledger, with its run's record.
    """

    def __init__(
        self,
        context: RunContext,
        directory: Path,
        url: str,
        *,
        watched: Callable[[], Watched],
        owe: Callable[[OutstandingKeys], None],
        tell: Callable[[OutageMessage], None],
        on_event: Callable[[LedgerEntry, RunRecord], None],
        after: int = 0,
    ) -> None:
        self._context, self._directory, self._url = context, directory, url
        self._watched, self._hand_back, self._notify, self._on_event = watched, owe, tell, on_event
        self._after = after or AFTER
        # Ticks of this thread, not seconds: a process that was frozen has done nothing wrong.
        self._silent_after, self._was_sound = 0, False
        self._reported: OutageMessage | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emergency", daemon=True)

    def start(self) -> None:
        """Begin to look whether the supervision comes round."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(2)

    def sound(self) -> None:
        """The supervision has looked at every run, and could write."""
        self._silent_after, self._was_sound = 0, True

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            self._silent_after += 1
            # A process that begins takes a while to come round.
            if self._silent_after < self._after * (1 if self._was_sound else 2):
                continue
            watched = {run: dict(seen) for run, seen in self._watched().items()}
            if not watched and self._was_sound:
                continue
            try:
                begun = self._watch(watched or self._with_copies())
            except Exception as error:  # noqa: BLE001  # whatever it is: somebody must hear of it, and it is tried again
                begun = False
                self._report(_unwatched_text(watched, failure_text(error)))
            if not begun:
                self._wait_for_state(_AGAIN)

    def _with_copies(self) -> Watched:
        """What a process may watch that has never seen the state whole: on one machine, the copies are complete."""
        copied = () if self._url else LedgerCopies(self._directory / REVERSE).runs()
        return {run: {} for run in copied}

    def _wait_for_state(self, ticks: int) -> None:
        while ticks > 0 and self._silent_after and not self._stopping.wait(_EVERY):
            self._silent_after += 1
            ticks -= 1

    def _watch(self, watched: Watched) -> bool:
        """Watch on a scratch ledger until the state can be used again; False where nothing is known of any run."""
        with scratch_state(self._directory, self._url, frozenset(watched)) as (state, sources):
            known = [run for run in state.ledger.runs() if run in watched]
            missing = tuple(sorted(set(watched) - set(known)))
            if not self._was_sound:
                watched_runs = [
                    run
                    for run in known
                    if monitor.watched_keys(load_projection(self._open_record(state.ledger), run))
                ]
                if known and not watched_runs:
                    return False  # nothing is watched
                known, missing = watched_runs, () if watched_runs else missing
            if not known:
                self._report(_unwatched_text(watched, "it cannot be read, and neither can a copy"))
                return False
            heads = {run: load_projection(self._open_record(state.ledger), run).last for run in known}
            for run in known:
                for name, observation in watched[run].items():
                    state.ledger.observe(run, name, observation)
            self._report(_watched_text(tuple(known), missing, sources))
            self._supervise(state.ledger, set(watched))
            returned = {
                run: reactivated(state.ledger.entries(run, after=head)) for run, head in heads.items()
            }
            self._hand_back({run: keys for run, keys in returned.items() if keys})
        if not self._silent_after:
            self._report(
                OutageMessage("the state can be used again; the runs are watched by it", tuple(known), ())
            )
        return True

    def _report(self, message: OutageMessage) -> None:
        if message != self._reported:
            self._reported = message
            self._notify(message)

    def _open_record(self, ledger: Ledger) -> RunContext:
        return dataclasses.replace(self._context, ledger=ledger)

    def _supervise(self, ledger: Ledger, runs: set[str]) -> None:
        context = self._open_record(ledger)
        tasks = ThreadTasks(context.clock, context.max_calls)
        supervisor, feed = Supervisor(context, _NoQueue(), tasks), LedgerFeed(ledger)
        while not self._stopping.is_set() and (self._silent_after or tasks.busy(("return",))):
            if set(self._watched()) - runs and not tasks.busy(("return",)):
                return  # more of them now: all are taken up again
            supervisor.run_round()
            for entry in feed.new_events():
                self._on_event(entry, load_record(context, entry.run))
            self._stopping.wait(_EVERY)
            if self._silent_after:
                self._silent_after += 1


class _NoQueue:
    """Nothing is deactivated without the state."""

    def enqueue(self, run: str, account: str) -> None:
        """Leave it to the supervision of the state itself."""

    def active(self, _run: str) -> set[str]:
        """Nobody is at work."""
        return set()


def reactivated(entries: tuple[LedgerEntry, ...]) -> Mapping[KeyId, str]:
    """The keys that these entries set active, and why."""
    return {
        (str(entry.body["account"]), str(entry.body["user"]), str(entry.body["key"])): str(
            entry.body.get("why", "")
        )
        for entry in entries
        if entry.kind == "intent" and entry.body["status"] == "Active"
    }


def _unwatched_text(watched: Watched, why: str) -> OutageMessage:
    runs = tuple(sorted(watched))
    if not runs:
        return OutageMessage(
            "the state cannot be used, and which runs would have to be watched is not known", (), ()
        )
    return OutageMessage(
        f"the state cannot be used: {why}; NOT MONITORED: {', '.join(runs)}: no probe is asked and no key comes "
        "back by itself; SPAREKEY_HOME/reverse/RUN.sh has the commands that reactivate a run's keys",
        (),
        runs,
    )


def _watched_text(
    known: tuple[str, ...], missing: tuple[str, ...], sources: tuple[str, ...]
) -> OutageMessage:
    text = (
        f"the state cannot be used for {', '.join(known)}, watched by what is known without it "
        f"({', '.join(sources)}): keys come back beside an unhealthy probe, and none is deactivated"
    )
    if missing:
        text += (
            f"; NOT MONITORED: {', '.join(missing)}: SPAREKEY_HOME/reverse/RUN.sh has the commands that reactivate "
            "a run's keys"
        )
    return OutageMessage(text, known, missing)
