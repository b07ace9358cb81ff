"""What the queue's work is: an account's users, brought to confirmed, held or failed."""

from collections.abc import Iterator
from threading import Lock

from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.ledger.events import Stumbled, kind_of, write
from sparekey.ledger.store import Ledger
from sparekey.model import RunRecord
from sparekey.runs.context import Hands
from sparekey.runs.context import Work as Job
from sparekey.runs.projection import Run, RunFold, UserId, catch_up, open_run, opened_run
from sparekey.runs.scheduler import drive
from sparekey.runs.steps import carry_user

# Users in one durable step: their waits overlap, and after a crash the ledger tells which are through.
CHUNK = 500
# Seconds that a call of AWS may take here: nobody waits for a deactivation as for a rollback.
DEADLINE = 90.0
# Runs whose folded entries are kept.
_KEPT = 16


class RunWork:
    """The work of one process; every method may be called again for the same arguments."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def chunks(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        return -(-len(_users(load_run(self._hands, run), account)) // CHUNK)

    def carry(self, run: str, account: str, chunk: int) -> None:
        """Carry one part of an account's users, those whose wave has come."""
        drive(
            self.works(run, account, chunk), self._hands.clock, at_once=self._hands.calls, deadline=DEADLINE
        )

    def works(self, run: str, account: str, chunk: int) -> Iterator[Job[None]]:
        """The same, not driven yet; raises RefusedError where the account cannot be entered."""
        self._hands.gateway_for(account)  # told once, rather than for each user
        opened = load_run(self._hands, run)
        users = _users(opened, account)[chunk * CHUNK : (chunk + 1) * CHUNK]
        wave = RunFold(self._hands.ledger.entries(run, kinds=("wave",))).wave
        steps, waves = opened.users(), opened.wave_of()
        return (carry_user(self._hands, opened, user, steps[user]) for user in users if waves[user] <= wave)

    def stumbled(self, run: str, account: str, error: Exception) -> None:
        """Put on record what cut an account's work off."""
        note_failure(self._hands, run, account, error)


def note_failure(hands: Hands, run: str, account: str, error: Exception) -> None:
    """Put on record what cut work off; of looking after a run (no account), which goes on for days, only news."""
    said = Stumbled(hands.worker, account, why_failed(error))
    before = () if account else hands.ledger.entries(run, kinds=(kind_of(said),))
    if not before or before[-1].body != write(said):
        hands.note(run, said)


def why_failed(error: Exception) -> str:
    """What went wrong, in words: of an unforeseen error only type and place, for its text may hold anything."""
    return (error if isinstance(error, SparekeyError) else UnexpectedError.of(error)).message


def _users(run: Run, account: str) -> list[UserId]:
    return [user for user in run.users() if user[0] == account]


def load_run(hands: Hands, run: str) -> Run:
    """What a run was opened with; its first entry, which holds the plan, is read once."""
    return opened_run(hands.ledger.opening(run)) or open_run(hands.ledger.entries(run, limit=1)[0])


def load_fold(hands: Hands, run: str) -> RunFold:
    """A run's entries, folded."""
    return catch_up(hands.ledger, run, RunFold())


def load_record(hands: Hands, run: str) -> RunRecord:
    """A run as its ledger tells it."""
    return load_fold(hands, run).record()


class Records:
    """Runs as their ledger tells them; what was folded is kept, so that only new entries are read. Thread-safe."""

    def __init__(self) -> None:
        self._folds: dict[str, _Kept] = {}
        self._lock = Lock()

    def get(self, ledger: Ledger, run: str) -> RunRecord:
        """One run's record, up to its last entry."""
        opening = ledger.opening(run)
        with self._lock:
            kept = self._folds.pop(opening, None) or _Kept()
            while len(self._folds) >= _KEPT:
                del self._folds[next(iter(self._folds))]
            self._folds[opening] = kept
        with kept.lock:
            if kept.fold.last and not ledger.has(run, kept.fold.last, kept.fold.head):
                kept.fold = (
                    RunFold()
                )  # restored from an earlier copy, or edited: this fold is of another chain
            return catch_up(ledger, run, kept.fold).record()


class _Kept:
    def __init__(self) -> None:
        self.fold, self.lock = RunFold(), Lock()
