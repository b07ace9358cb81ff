"""What the engine's workflows do, without the engine: carry an account's users, look after a run."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from sparekey.model import RunRecord
from sparekey.run import watch, waves
from sparekey.run.drive import drive
from sparekey.run.record import Run, RunFold, UserId, open_run
from sparekey.run.steps import carry_user, finish_reactivations, reactivate
from sparekey.run.turn import Hands
from sparekey.run.turn import Work as Job

# Users in one durable step: their waits overlap, and after a crash the ledger tells which are through.
CHUNK = 500


class Hub(Protocol):
    """Who hands work out to the queues."""

    def hand_out(self, run: str, account: str, name: str) -> None:
        """Let an account's part of a run be carried; the same `name` again is the same piece of work."""
        ...


class RunWork:
    """The work of one process; every method may be called again for the same arguments."""

    def __init__(self, hands: Hands, hub: Hub) -> None:
        self._hands, self._hub = hands, hub

    def chunks(self, run: str, account: str) -> int:
        """Into how many parts an account's users are cut."""
        users = _users(load_run(self._hands, run), account)
        return -(-len(users) // CHUNK)

    def carry(self, run: str, account: str, chunk: int) -> None:
        """Carry one part of an account's users, those whose wave has come."""
        opened = load_run(self._hands, run)
        users = _users(opened, account)[chunk * CHUNK : (chunk + 1) * CHUNK]
        wave = load_record(self._hands, run).wave
        drive(self._carry(opened, users, wave), self._hands.clock, at_once=self._hands.calls)

    def _carry(self, run: Run, users: Iterable[UserId], wave: int) -> Iterable[Job[None]]:
        steps, waves = run.users(), run.wave_of()
        return (carry_user(self._hands, run, user, steps[user]) for user in users if waves[user] <= wave)

    def supervise(self, run: str) -> datetime | None:
        """Look after a run; returns when it must be looked after again, None for never."""
        hands, opened, fold = self._hands, load_run(self._hands, run), load_fold(self._hands, run)
        coming = sorted({key[:2] for key, facts in fold.facts.items() if facts.coming_back is not None})
        drive(
            (finish_reactivations(hands, opened, user) for user in coming), hands.clock, at_once=hands.calls
        )
        if fold.undoing:
            ours = [key for key, facts in watch.reload(hands, fold).facts.items() if facts.ours]
            drive(
                (reactivate(hands, opened, key[:2], key[2], "undo") for key in ours),
                hands.clock,
                at_once=hands.calls,
            )
        watch.look_after(hands, opened, watch.reload(hands, fold))
        again = waves.start_next(hands, opened, watch.reload(hands, fold))
        watch.reload(hands, fold)
        accounts, name = waves.accounts_now(hands, opened, fold)
        for account in accounts:
            self._hub.hand_out(run, account, name)
        due = (again, waves.wait_for_window(hands, opened, fold), watch.next_due(hands, opened, fold))
        return min((moment for moment in due if moment is not None), default=None)


def _users(run: Run, account: str) -> list[UserId]:
    return [user for user in run.users() if user[0] == account]


def load_run(hands: Hands, run: str) -> Run:
    """What a run was opened with."""
    return open_run(hands.ledger.entries(run, limit=1)[0])


def load_fold(hands: Hands, run: str) -> RunFold:
    """A run's entries, folded."""
    fold = RunFold()
    after = 0
    while page := hands.ledger.entries(run, after=after, limit=1000):
        for entry in page:
            fold.add(entry)
        after = page[-1].seq
    return fold


def load_record(hands: Hands, run: str) -> RunRecord:
    """A run as its ledger tells it."""
    return load_fold(hands, run).record()
