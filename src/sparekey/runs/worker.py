"""What the queue's work is: an account's users, brought to confirmed, held or failed."""

from collections.abc import Iterator
from threading import Lock

from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.ledger.events import WorkerFailed, event_body, kind_of
from sparekey.ledger.store import Ledger
from sparekey.model import RunRecord
from sparekey.runs.context import RunContext
from sparekey.runs.context import StepCoroutine as Job
from sparekey.runs.deactivate import execute_user
from sparekey.runs.key_facts import UserId
from sparekey.runs.projection import RunProjection, catch_up
from sparekey.runs.run_header import RunHeader, open_run, opened_run
from sparekey.runs.scheduler import run_all

# Users in one durable step: their waits overlap, and after a crash the ledger shows which are through.
CHUNK = 500
# Seconds that a call of AWS may take here: nobody waits for a deactivation as for a rollback.
DEADLINE = 90.0
# Runs whose folded entries are kept.
_KEPT = 16


class RunExecutor:
    """The work of one process; every method may be called again for the same arguments."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def chunk_count(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        return -(-len(_users(load_header(self._context, run), account)) // CHUNK)

    def execute(self, run: str, account: str, chunk: int) -> None:
        """Execute one part of an account's users, those whose wave has started."""
        run_all(
            self.step_coroutines(run, account, chunk),
            self._context.clock,
            at_once=self._context.max_calls,
            deadline=DEADLINE,
        )

    def step_coroutines(self, run: str, account: str, chunk: int) -> Iterator[Job[None]]:
        """The same, not driven yet; raises RefusedError where the account cannot be entered."""
        self._context.gateway_for(account)  # reported once, rather than for each user
        opened = load_header(self._context, run)
        users = _users(opened, account)[chunk * CHUNK : (chunk + 1) * CHUNK]
        wave = RunProjection(self._context.ledger.entries(run, kinds=("wave",))).wave
        steps, waves = opened.users(), opened.wave_of()
        return (
            execute_user(self._context, opened, user, steps[user]) for user in users if waves[user] <= wave
        )

    def record_failure(self, run: str, account: str, error: Exception) -> None:
        """Put on record what cut an account's work off."""
        note_failure(self._context, run, account, error)


def note_failure(context: RunContext, run: str, account: str, error: Exception) -> None:
    """Record what cut work off; of the supervision of a run (no account), which lasts for days, only changes."""
    event = WorkerFailed(context.worker, account, failure_text(error))
    before = () if account else context.ledger.entries(run, kinds=(kind_of(event),))
    if not before or before[-1].body != event_body(event):
        context.record(run, event)


def failure_text(error: Exception) -> str:
    """What went wrong, in words: of an unforeseen error only type and place, for its text may hold anything."""
    return (error if isinstance(error, SparekeyError) else UnexpectedError.of(error)).message


def _users(run: RunHeader, account: str) -> list[UserId]:
    return [user for user in run.users() if user[0] == account]


def load_header(context: RunContext, run: str) -> RunHeader:
    """What a run was opened with; its first entry, which holds the plan, is read once."""
    return opened_run(context.ledger.opening(run)) or open_run(context.ledger.entries(run, limit=1)[0])


def load_projection(context: RunContext, run: str) -> RunProjection:
    """A run's entries, folded."""
    return catch_up(context.ledger, run, RunProjection())


def load_record(context: RunContext, run: str) -> RunRecord:
    """A run by its ledger."""
    return load_projection(context, run).record()


class ProjectionCache:
    """Runs by their ledger; what was folded is kept, so that only new entries are read. Thread-safe."""

    def __init__(self) -> None:
        self._folds: dict[str, _CachedProjection] = {}
        self._lock = Lock()

    def get(self, ledger: Ledger, run: str) -> RunRecord:
        """One run's record, up to its last entry."""
        opening = ledger.opening(run)
        with self._lock:
            kept = self._folds.pop(opening, None) or _CachedProjection()
            while len(self._folds) >= _KEPT:
                del self._folds[next(iter(self._folds))]
            self._folds[opening] = kept
        with kept.lock:
            if kept.fold.last and not ledger.has(run, kept.fold.last, kept.fold.head):
                kept.fold = (
                    RunProjection()
                )  # restored from an earlier copy, or edited: this fold is of another chain
            return catch_up(ledger, run, kept.fold).record()


class _CachedProjection:
    def __init__(self) -> None:
        self.fold, self.lock = RunProjection(), Lock()
