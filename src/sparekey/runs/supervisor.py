"""The supervision of all runs: looks at every unfinished run again and again, and starts what is due.

Whatever it finds stands in the ledger and in the probes' observations, so a look may come early, late, twice or
after any other process has died. It waits for nothing itself: probes, reactivations and listings are tasks, apart
by probe and by account; deactivations go to the queue. Only the holder of a run's lease acts on it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from sparekey.ledger.events import Because, Said, Stopped, Waiting, WaveStarted
from sparekey.ledger.store import FencedError, Lease, Observation
from sparekey.runs import monitor, rollout
from sparekey.runs.context import Hands, Turn, Work
from sparekey.runs.probe_checks import ask
from sparekey.runs.projection import KeyId, Run, RunFold, UserId, catch_up
from sparekey.runs.scheduler import DEADLINE
from sparekey.runs.steps import leave_inactive, look_at, never_reactivates, reactivate
from sparekey.runs.tasks import Task, Tasks
from sparekey.runs.worker import load_run, note_failure
from sparekey.runs.worker_leases import Leases, Process

# A reactivation that fails is tried again by the supervision: two tries of a call are enough at a time.
_TRIES = 2
# How soon the same account is handed out again where nothing came of it, and a run looked at that failed us.
_AGAIN = timedelta(minutes=1)
_AFTER_FAULT = timedelta(seconds=10)
_STILL_ACTIVE = timedelta(seconds=1)
# How soon it is looked whether work that was handed out is still somebody's.
_LOST = timedelta(seconds=5)
# Reactivations, in tasks, that are under way at once.
_MOST_RETURNS = 64


# What comes back of one account: by user, each key with the cause and why.
Returns = dict[UserId, list[tuple[KeyId, Because, str]]]


class Queue(Protocol):
    """Who has deactivations done: one piece of work for an account and run at a time."""

    def enqueue(self, run: str, account: str) -> None:
        """Let an account's part of a run be done."""
        ...

    def active(self, run: str) -> set[str]:
        """The accounts of a run that are being worked at or are about to be."""
        ...


class Supervisor:
    """One process's supervision; `leases=None` is for a process that is alone."""

    def __init__(self, hands: Hands, queue: Queue, tasks: Tasks, leases: Leases | None = None) -> None:
        self._hands, self._queue, self._tasks, self._leases = hands, queue, tasks, leases
        self._runs: dict[str, _Supervised] = {}
        self._not_before: dict[str, datetime] = {}
        # What was supervised at the last look at it that ended well; read by another thread.
        self._watched: dict[str, Mapping[str, Observation]] = {}
        self._owed: dict[str, Mapping[KeyId, str]] = {}

    def look(self) -> datetime | None:
        """Look at every unfinished run that nobody else alive looks at; returns when the next thing is due.

        Raises StateError where the ledger cannot be read.
        """
        unfinished = dict(self._hands.ledger.unfinished())
        alive, held = ({}, {}) if self._leases is None else (self._leases.alive(), self._leases.held())
        for task, error in self._tasks.ended():
            if len(task) > 1 and task[1] in self._runs:
                self._runs[task[1]].ended(task, error)
        for run in set(self._runs) - set(unfinished):
            self._forget(run)
        due = [self._look_at(run, seq, alive, held) for run, seq in unfinished.items()]
        return min((moment for moment in due if moment is not None), default=None)

    @property
    def sound(self) -> bool:
        """False while a run could not be looked at, as when part of the ledger cannot be read."""
        return not self._not_before

    def watched(self, *, failing: bool) -> Mapping[str, Mapping[str, Observation]]:
        """The runs (or those that fail) that have watched keys, and what their probes answered last."""
        fail = set(self._not_before) if failing else self._watched.keys()
        return {run: seen for run, seen in list(self._watched.items()) if run in fail}

    def owe(self, run: str, keys: Mapping[KeyId, str]) -> None:
        """Put on record that keys came back while the state could not be used, by setting them active again."""
        self._owed[run] = {**self._owed.get(run, {}), **keys}

    def _look_at(
        self, run: str, seq: int, alive: dict[str, Process], held: dict[str, Lease]
    ) -> datetime | None:
        lease: Lease | None = None
        if self._leases is not None:
            lease = held.get(lease_of(run))
            if lease is None or lease.holder != self._leases.id:
                other = lease is not None and lease.holder in alive
                lease = None if other else self._leases.acquire(lease_of(run), alive)
            if lease is None:
                self._runs.pop(run, None)
                self._watched.pop(run, None)
                return None
        now = self._hands.clock.now()
        wait = self._not_before.get(run)
        if wait is not None and now < wait <= now + _AFTER_FAULT:
            return wait
        supervised = self._runs.get(run)
        if supervised is None or supervised.lease != lease:
            supervised = self._runs[run] = _Supervised(self._hands, self._queue, self._tasks, run, lease)
        try:
            if run in self._owed:
                supervised.owe(self._owed.pop(run))
            due = supervised.look(seq)
        except FencedError:
            self._runs.pop(run, None)
            self._watched.pop(run, None)
            return None
        except Exception as error:  # noqa: BLE001  # one run's fault ends no other's watch
            self._runs.pop(run, None)
            self._not_before[run] = now + _AFTER_FAULT
            note_failure(self._hands, run, "", error)
            return now + _AFTER_FAULT
        self._not_before.pop(run, None)
        if supervised.seen is not None:
            self._watched[run] = supervised.seen
        else:
            self._watched.pop(run, None)
        return due

    def _forget(self, run: str) -> None:
        del self._runs[run]
        self._watched.pop(run, None)
        self._not_before.pop(run, None)
        if self._leases is not None:
            self._leases.release(lease_of(run))


def lease_of(run: str) -> str:
    """The name of the lease of a run's supervision."""
    return f"run/{run}"


class _Supervised:
    """One run under this process's supervision. What it keeps may be lost: it only spares work."""

    def __init__(self, hands: Hands, queue: Queue, tasks: Tasks, run: str, lease: Lease | None) -> None:
        self._hands, self._queue, self._tasks, self.lease = hands, queue, tasks, lease
        self._run: Run = load_run(hands, run)
        self._fold = RunFold()
        self._unhealthy: dict[str, str] = {}
        self._returning: dict[Task, set[KeyId]] = {}
        self._handed: dict[str, tuple[int, datetime]] = {}
        self._returned: list[tuple[str, set[KeyId]]] = []
        # By account: how often in a row reactivating failed there, and when last.
        self._refused: dict[str, tuple[int, datetime]] = {}
        self._started = 0
        self._due: datetime | None = None
        self._looked = False
        self._looked_at = self._run.opened
        # What the probes answered last; None where no key is watched.
        self.seen: Mapping[str, Observation] | None = None
        self._owed: dict[KeyId, str] = {}

    def owe(self, keys: Mapping[KeyId, str]) -> None:
        """Reactivate these keys, which came back while the state could not be used."""
        self._looked = False
        self._owed |= keys

    def ended(self, task: Task, error: Exception | None) -> None:
        """A task of this run has ended: look again, and put on record what it failed with."""
        self._looked = False
        if task in self._returning:
            self._returned.append((task[2], self._returning.pop(task)))
        if error is not None and not isinstance(error, FencedError):
            note_failure(self._hands, self._run.id, "", error)

    def look(self, seq: int) -> datetime | None:
        """Start what is due; returns when to look again if nothing happens until then."""
        now = self._hands.clock.now()
        # What was due by a clock that has been set back since may be due now.
        steady, self._looked_at = now >= self._looked_at, now
        idle = self._looked and steady and seq == self._fold.last
        if idle and (self._due is None or now < self._due):
            return self._due
        self._looked, seen = True, -1
        while seen != self._fold.last:  # what this look puts on record may make more due
            catch_up(self._hands.ledger, self._run.id, self._fold)
            seen = self._fold.last
            watched = (self._ask_probes(), self._return_keys(), self._list_users(), self._judge())
            due = (*watched, self._go_on(), self._hand_out())
        later = min((moment for moment in due if moment is not None), default=None)
        if later is None and not self._busy():
            later = self._finish()
        self._due = later
        return later

    def _busy(self) -> bool:
        return any(self._tasks.busy((kind, self._run.id)) for kind in ("probe", "return", "list"))

    # What is watched

    def _ask_probes(self) -> datetime | None:
        hands, run = self._hands, self._run
        if not monitor.watched(self._fold):
            self.seen = None
            return None
        seen, now = hands.ledger.observations(run.id), hands.clock.now()
        self.seen = seen
        later = []
        for name, due in monitor.probes_due(hands, run, self._fold, seen, now).items():
            task = ("probe", run.id, name)
            if due > now:
                later.append(due)
            elif not self._tasks.busy(task):
                gap = monitor.gap(hands, run, self._fold, name, seen.get(name))
                if gap is not None:
                    self._note(gap)
                self._tasks.start(task, (self._ask(name),), deadline=hands.probes.deadline(run.policy, name))
        return min(later, default=None)

    def _ask(self, name: str) -> Work[None]:
        reading = yield from ask(self._hands, self._run, name)
        if reading.green is False:
            self._unhealthy[name] = reading.output
        elif reading.green:
            self._unhealthy.pop(name, None)

    def _return_keys(self) -> datetime | None:
        """Start to reactivate what must come back, account by account; returns when the next one must."""
        self._count_refusals()
        red = dict(self._unhealthy)
        found, later = monitor.returns(self._hands, self._fold, red)
        found |= self._take_owed()
        busy = {key for keys in self._returning.values() for key in keys}
        by_account: dict[str, Returns] = {}
        for key, (because, why) in found.items():
            if key not in busy:
                by_account.setdefault(key[0], {}).setdefault(key[:2], []).append((key, because, why))
        if not self._fold.halted and any(because == "rollback" for because, _ in found.values()):
            name, output = min(red.items(), default=("", ""))
            by = f"probe {name}" if name else "a rollback without the state"
            self._note(Stopped(by, output))
        for account, users in by_account.items():
            chosen, wait = self._those_to_try(account, users)
            if wait is not None:
                later = wait if later is None else min(later, wait)
            if chosen and len(self._returning) < _MOST_RETURNS:
                self._check()
                self._start_returns(account, chosen)
        return later

    def _take_owed(self) -> dict[KeyId, tuple[Because, str]]:
        owed, self._owed = self._owed, {}
        watched = monitor.watched(self._fold)
        return {
            key: ("rollback", f"{why}; it was reactivated while the state could not be used")
            for key, why in owed.items()
            if key in watched
        }

    def _those_to_try(self, account: str, users: Returns) -> tuple[Returns, datetime | None]:
        """All that must come back; or, where AWS has refused it more than once, one to see whether it still does."""
        now = self._hands.clock.now()
        refused, at = self._refused.get(account, (0, now))
        if refused < 2:
            return users, None
        wait = at + monitor.wait_after(refused)
        if now < wait <= now + monitor.wait_after(refused) or self._tasks.busy(
            ("return", self._run.id, account)
        ):
            return {}, wait if now < wait else None
        first = min(users)
        return {first: users[first]}, None

    def _count_refusals(self) -> None:
        """What came of the reactivations that have ended."""
        for account, keys in self._returned:
            failed = any(self._fold.facts[key].tries for key in keys if key in self._fold.facts)
            times, _ = self._refused.pop(account, (0, None))
            if failed:
                self._refused[account] = times + 1, self._hands.clock.now()
        self._returned.clear()

    def _start_returns(self, account: str, users: Returns) -> None:
        hands = self._hands
        if any(because == "rollback" for keys in users.values() for _, because, _ in keys):
            patience = msgspec.structs.replace(hands.patience, backoff=hands.patience.backoff[:_TRIES])
            hands = dataclasses.replace(hands, patience=patience)
        self._started += 1
        task = ("return", self._run.id, account, str(self._started))
        self._returning[task] = {key for keys in users.values() for key, _, _ in keys}
        works = [_come_back(hands, self._run, user, keys) for user, keys in users.items()]
        self._tasks.start(task, works, deadline=DEADLINE)

    def _list_users(self) -> datetime | None:
        hands, run, now = self._hands, self._run, self._hands.clock.now()
        watched = {
            key: found
            for key, found in monitor.watched(self._fold).items()
            if self._fold.facts[key].state == "watching"
        }
        if not watched:
            return None
        due = monitor.look_due(run, hands.ledger.observations(run.id), now)
        if due > now:
            return due
        self._check()
        hands.ledger.observe(run.id, monitor.LOOK, Observation(now, now, green=True))
        steps = {(step.account, step.user, step.key): step for step in run.plan.deactivations}
        by_account: dict[str, list[Work[None]]] = {}
        for user, keys in monitor.users_of(watched).items():
            told = tuple((steps[key], watched[key].since) for key in keys)
            by_account.setdefault(user[0], []).append(look_at(hands, run, user, told))
        for account, works in by_account.items():
            task = ("list", run.id, account)
            if not self._tasks.busy(task):
                self._tasks.start(task, works, deadline=DEADLINE)
        return now + monitor.LOOK_EVERY

    def _judge(self) -> datetime | None:
        hands, now = self._hands, self._hands.clock.now()
        ends = [found.until for found in monitor.watched(self._fold).values()]
        if any(end <= now for end in ends):
            for key, said in monitor.verdicts(
                hands, self._run, self._fold, hands.ledger.observations(self._run.id)
            ).items():
                self._check()
                Turn(hands, self._run, key[:2]).say_last(said)
            catch_up(hands.ledger, self._run.id, self._fold)
        return min((end for end in ends if end > now), default=None)

    # What is to be deactivated

    def _go_on(self) -> datetime | None:
        """Let the next wave go where the rule allows it, and say that a window is waited for."""
        said = rollout.next_step(self._hands, self._run, self._fold)
        if isinstance(said, WaveStarted | Stopped):
            self._note(said)
            return self._go_on()
        opens = rollout.wait_for_window(self._hands, self._run, self._fold)
        if opens is not None and self._fold.waits_until != opens:
            self._note(Waiting(opens))
        return min((moment for moment in (said, opens) if moment is not None), default=None)

    def _hand_out(self) -> datetime | None:
        hands, run, now = self._hands, self._run, self._hands.clock.now()
        later = [rollout.wait_for_another_try(hands, run, self._fold)]
        accounts = rollout.accounts_now(hands, run, self._fold)
        active = self._queue.active(run.id) if accounts else set()
        for account in accounts:
            tried, at = self._handed.get(account, (-1, now))
            if account in active:
                later.append(now + _LOST)  # whoever is at work on it may die without an entry
            elif tried == self._fold.last and at <= now < at + _AGAIN:
                later.append(at + _AGAIN)
            else:
                self._check()
                self._queue.enqueue(run.id, account)
                self._handed[account] = (self._fold.last, now)
                later.append(now + _LOST)
        return min((moment for moment in later if moment is not None), default=None)

    def _finish(self) -> datetime | None:
        """Nothing is left to do, as far as the ledger says: any further entry opens the run again."""
        if self._queue.active(self._run.id):
            return self._hands.clock.now() + _STILL_ACTIVE
        self._hands.ledger.finish(self._run.id, self._fold.last)
        return None

    # The lease

    def _note(self, said: Said) -> None:
        self._hands.note(self._run.id, said, lease=self.lease)
        catch_up(self._hands.ledger, self._run.id, self._fold)

    def _check(self) -> None:
        if self.lease is not None:
            self._hands.ledger.check_lease(self.lease)


def _come_back(
    hands: Hands, run: Run, user: UserId, keys: Iterable[tuple[KeyId, Because, str]]
) -> Work[None]:
    for key, because, why in keys:
        turn = Turn(hands, run, user)
        barred = never_reactivates(run, user, key[2]) if because == "undo" else ""
        if barred and turn.facts(key[2]).coming_back is None:
            # Of an undo of the whole run that was cut off; who names the key has stored an intent.
            leave_inactive(turn, key[2], because, "", barred)
        else:
            yield from reactivate(hands, run, user, key[2], because, why)
