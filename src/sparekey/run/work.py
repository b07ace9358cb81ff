"""What the engine's workflows do, without the engine: carry an account's users, look after a run."""

from collections.abc import Iterable
from datetime import datetime
from threading import Lock
from typing import Protocol

from sparekey.errors import SparekeyError, UnexpectedError
from sparekey.model import RunRecord
from sparekey.run import watch, waves
from sparekey.run.drive import drive
from sparekey.run.entries import Stumbled, kind_of, write
from sparekey.run.record import Run, RunFold, UserId, catch_up, open_run, opened_run
from sparekey.run.steps import carry_user, finish_reactivations, reactivate
from sparekey.run.turn import Hands
from sparekey.run.turn import Work as Job

# Users in one durable step: their waits overlap, and after a crash the ledger tells which are through.
CHUNK = 500
# Runs whose folded entries are kept from one round to the next.
_KEPT = 8


class Hub(Protocol):
    """Who hands work out to the queues."""

    def hand_out(self, run: str, account: str, name: str) -> None:
        """Let an account's part of a run be carried; the same `name` again is the same piece of work."""
        ...


class RunWork:
    """The work of one process; every method may be called again for the same arguments."""

    def __init__(self, hands: Hands, hub: Hub) -> None:
        self._hands, self._hub = hands, hub
        self._folds: dict[str, RunFold] = {}
        self._keeping = Lock()

    def chunks(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        users = _users(load_run(self._hands, run), account)
        return -(-len(users) // CHUNK)

    def carry(self, run: str, account: str, chunk: int) -> None:
        """Carry one part of an account's users, those whose wave has come."""
        self._hands.gateway_for(account)  # told once, rather than for each user
        opened = load_run(self._hands, run)
        users = _users(opened, account)[chunk * CHUNK : (chunk + 1) * CHUNK]
        wave = RunFold(self._hands.ledger.entries(run, kinds=("wave",))).wave
        self._drive(self._carry(opened, users, wave))

    def stumbled(self, run: str, account: str, error: Exception) -> None:
        """Put on record what cut work off; of looking after a run (no account), which goes on for days, only news."""
        why = (error if isinstance(error, SparekeyError) else UnexpectedError.of(error)).message
        said = Stumbled(self._hands.worker, account, why)
        before = self._hands.ledger.entries(run, kinds=(kind_of(said),))
        if account or not before or before[-1].body != write(said):
            self._hands.note(run, said)

    def _carry(self, run: Run, users: Iterable[UserId], wave: int) -> Iterable[Job[None]]:
        steps, waves = run.users(), run.wave_of()
        return (carry_user(self._hands, run, user, steps[user]) for user in users if waves[user] <= wave)

    def supervise(self, run: str) -> datetime | None:
        """Look after a run; returns when it must be looked after again, None for never."""
        return self._supervise(load_run(self._hands, run), self._take_fold(run))

    def _take_fold(self, run: str) -> RunFold:
        """The run's entries folded: from where this process left off, since a watch looks at them often."""
        with self._keeping:
            fold = self._folds.pop(run, RunFold())
        return catch_up(self._hands.ledger, run, fold)

    def _keep_fold(self, fold: RunFold) -> None:
        with self._keeping:
            while len(self._folds) >= _KEPT:
                del self._folds[next(iter(self._folds))]
            self._folds[fold.run] = fold

    def _supervise(self, opened: Run, fold: RunFold) -> datetime | None:
        hands = self._hands
        coming = sorted({key[:2] for key, facts in fold.facts.items() if facts.coming_back is not None})
        self._drive(finish_reactivations(hands, opened, user) for user in coming)
        if fold.undoing:
            ours = [key for key, facts in watch.reload(hands, fold).facts.items() if facts.ours]
            self._drive(reactivate(hands, opened, key[:2], key[2], "undo") for key in ours)
        watch.look_after(hands, opened, watch.reload(hands, fold))
        again = waves.start_next(hands, opened, watch.reload(hands, fold))
        watch.reload(hands, fold)
        for account, name in waves.accounts_now(hands, opened, fold):
            self._hub.hand_out(opened.id, account, name)
        waits = (waves.wait_for_window(hands, opened, fold), waves.wait_for_another_try(hands, opened, fold))
        due = (again, *waits, watch.next_due(hands, opened, fold))
        self._keep_fold(fold)
        return min((moment for moment in due if moment is not None), default=None)

    def _drive(self, works: Iterable[Job[None]]) -> None:
        drive(works, self._hands.clock, at_once=self._hands.calls)


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
