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

from sparekey.ledger.events import RunEvent, RunStopped, WaveStarted, WindowAwaited, WriteReason
from sparekey.ledger.records import AccountLease, FencedError, ProbeObservation
from sparekey.plan import Step
from sparekey.runs import monitor, rollout
from sparekey.runs.context import RunContext, StepCoroutine, UserLease
from sparekey.runs.key_facts import KeyId, UserId
from sparekey.runs.probe_checks import check_probe
from sparekey.runs.projection import RunProjection, catch_up
from sparekey.runs.reactivate import check_user, leave_inactive, never_reactivates, reactivate
from sparekey.runs.run_header import RunHeader
from sparekey.runs.scheduler import DEADLINE
from sparekey.runs.tasks import Task, TaskRunner
from sparekey.runs.worker import load_header, note_failure
from sparekey.runs.worker_leases import WorkerInfo, WorkerLeases

# A reactivation that fails is tried again by the supervision: two tries of a call are enough at a time.
_MAX_TRIES = 2
# How soon the same account is handed out again where nothing came of it, and a run looked at that failed us.
_RETRY_AFTER = timedelta(minutes=1)
_AFTER_FAULT = timedelta(seconds=10)
_STILL_ACTIVE = timedelta(seconds=1)
# How soon it is looked whether work that was handed out is still somebody's.
_LOST_AFTER = timedelta(seconds=5)
# Reactivations, in tasks, that are under way at once.
_MAX_REACTIVATIONS = 64


# What comes back of one account: by user, each key with the cause and why.
ReactivationReasons = dict[UserId, list[tuple[KeyId, WriteReason, str]]]


class RunQueue(Protocol):
    """Who has deactivations done: one piece of work for an account and run at a time."""

    def enqueue(self, run: str, account: str) -> None:
        """Let an account's part of a run be done."""
        ...

    def active(self, run: str) -> set[str]:
        """The accounts of a run that are being worked at or are about to be."""
        ...


class Supervisor:
    """One process's supervision; `leases=None` is for a process that is alone."""

    def __init__(
        self, context: RunContext, queue: RunQueue, tasks: TaskRunner, leases: WorkerLeases | None = None
    ) -> None:
        self._context, self._queue, self._tasks, self._leases = context, queue, tasks, leases
        self._runs: dict[str, _SupervisedRun] = {}
        self._not_before: dict[str, datetime] = {}
        # What was supervised at the last look at it that ended well; read by another thread.
        self._supervised: dict[str, Mapping[str, ProbeObservation]] = {}
        self._handed_over: dict[str, Mapping[KeyId, str]] = {}

    def run_round(self) -> datetime | None:
        """Look at every unfinished run that nobody else alive looks at; returns when the next thing is due.

        Raises StateError where the ledger cannot be read.
        """
        unfinished = dict(self._context.ledger.unfinished())
        alive, held = ({}, {}) if self._leases is None else (self._leases.alive(), self._leases.held())
        for task, error in self._tasks.ended():
            if len(task) > 1 and task[1] in self._runs:
                self._runs[task[1]].ended(task, error)
        for run in set(self._runs) - set(unfinished):
            self._forget(run)
        due = [self._supervise(run, seq, alive, held) for run, seq in unfinished.items()]
        return min((moment for moment in due if moment is not None), default=None)

    @property
    def is_sound(self) -> bool:
        """False while a run could not be looked at, as when part of the ledger cannot be read."""
        return not self._not_before

    def watched(self, *, failing: bool) -> Mapping[str, Mapping[str, ProbeObservation]]:
        """The runs (or those that fail) that have watched keys, and what their probes answered last."""
        fail = set(self._not_before) if failing else self._supervised.keys()
        return {run: seen for run, seen in list(self._supervised.items()) if run in fail}

    def hand_over(self, run: str, keys: Mapping[KeyId, str]) -> None:
        """Put on record that keys came back while the state could not be used, by setting them active again."""
        self._handed_over[run] = {**self._handed_over.get(run, {}), **keys}

    def _supervise(
        self, run: str, seq: int, alive: dict[str, WorkerInfo], held: dict[str, AccountLease]
    ) -> datetime | None:
        lease: AccountLease | None = None
        if self._leases is not None:
            lease = held.get(supervision_lease(run))
            if lease is None or lease.holder != self._leases.id:
                other = lease is not None and lease.holder in alive
                lease = None if other else self._leases.acquire(supervision_lease(run), alive)
            if lease is None:
                self._runs.pop(run, None)
                self._supervised.pop(run, None)
                return None
        now = self._context.clock.now()
        wait = self._not_before.get(run)
        if wait is not None and now < wait <= now + _AFTER_FAULT:
            return wait
        supervised = self._runs.get(run)
        if supervised is None or supervised.lease != lease:
            supervised = self._runs[run] = _SupervisedRun(self._context, self._queue, self._tasks, run, lease)
        try:
            if run in self._handed_over:
                supervised.hand_over(self._handed_over.pop(run))
            due = supervised.run_round(seq)
        except FencedError:
            self._runs.pop(run, None)
            self._supervised.pop(run, None)
            return None
        except Exception as error:  # noqa: BLE001  # one run's fault ends no other's watch
            self._runs.pop(run, None)
            self._not_before[run] = now + _AFTER_FAULT
            note_failure(self._context, run, "", error)
            return now + _AFTER_FAULT
        self._not_before.pop(run, None)
        if supervised.seen is not None:
            self._supervised[run] = supervised.seen
        else:
            self._supervised.pop(run, None)
        return due

    def _forget(self, run: str) -> None:
        del self._runs[run]
        self._supervised.pop(run, None)
        self._not_before.pop(run, None)
        if self._leases is not None:
            self._leases.release(supervision_lease(run))


def supervision_lease(run: str) -> str:
    """The name of the lease of a run's supervision."""
    return f"run/{run}"


class _SupervisedRun:
    """One run under this process's supervision. What it keeps may be lost: it only spares work."""

    def __init__(
        self,
        context: RunContext,
        queue: RunQueue,
        tasks: TaskRunner,
        run: str,
        lease: AccountLease | None,
    ) -> None:
        self._context, self._queue, self._tasks, self.lease = context, queue, tasks, lease
        self._run: RunHeader = load_header(context, run)
        self._fold = RunProjection()
        self._unhealthy: dict[str, str] = {}
        self._reactivating: dict[Task, set[KeyId]] = {}
        self._enqueued: dict[str, tuple[int, datetime]] = {}
        self._reactivated: list[tuple[str, set[KeyId]]] = []
        # By account: how often in a row reactivating failed there, and when last.
        self._refused: dict[str, tuple[int, datetime]] = {}
        self._started = 0
        self._probes_due: datetime | None = None
        self._users_listed = False
        self._listed_at = self._run.opened
        # What the probes answered last; None where no key is watched.
        self.seen: Mapping[str, ProbeObservation] | None = None
        self._handed_over: dict[KeyId, str] = {}

    def hand_over(self, keys: Mapping[KeyId, str]) -> None:
        """Reactivate these keys, which came back while the state could not be used."""
        self._users_listed = False
        self._handed_over |= keys

    def ended(self, task: Task, error: Exception | None) -> None:
        """A task of this run has ended: look again, and put on record what it failed with."""
        self._users_listed = False
        if task in self._reactivating:
            self._reactivated.append((task[2], self._reactivating.pop(task)))
        if error is not None and not isinstance(error, FencedError):
            note_failure(self._context, self._run.id, "", error)

    def run_round(self, seq: int) -> datetime | None:
        """Start what is due; returns when to look again if nothing happens until then."""
        now = self._context.clock.now()
        # What was due by a clock that has been set back since may be due now.
        steady, self._listed_at = now >= self._listed_at, now
        idle = self._users_listed and steady and seq == self._fold.last
        if idle and (self._probes_due is None or now < self._probes_due):
            return self._probes_due
        self._users_listed, seen = True, -1
        while seen != self._fold.last:  # what this look puts on record may make more due
            catch_up(self._context.ledger, self._run.id, self._fold)
            seen = self._fold.last
            watched = (self._check_probes(), self._start_rollback(), self._list_users(), self._end_watches())
            due = (*watched, self._enqueue_accounts(), self._enqueue())
        later = min((moment for moment in due if moment is not None), default=None)
        if later is None and not self._busy():
            later = self._finish()
        self._probes_due = later
        return later

    def _busy(self) -> bool:
        return any(self._tasks.busy((kind, self._run.id)) for kind in ("probe", "return", "list"))

    # What is watched

    def _check_probes(self) -> datetime | None:
        context, run = self._context, self._run
        if not monitor.watched_keys(self._fold):
            self.seen = None
            return None
        seen, now = context.ledger.observations(run.id), context.clock.now()
        self.seen = seen
        later = []
        for name, due in monitor.probes_due(context, run, self._fold, seen, now).items():
            task = ("probe", run.id, name)
            if due > now:
                later.append(due)
            elif not self._tasks.busy(task):
                gap = monitor.observation_gap(context, run, self._fold, name, seen.get(name))
                if gap is not None:
                    self._record(gap)
                self._tasks.start(
                    task, (self._check_probe(name),), deadline=context.probes.deadline(run.policy, name)
                )
        return min(later, default=None)

    def _check_probe(self, name: str) -> StepCoroutine[None]:
        reading = yield from check_probe(self._context, self._run, name)
        if reading.healthy is False:
            self._unhealthy[name] = reading.output
        elif reading.healthy:
            self._unhealthy.pop(name, None)

    def _start_rollback(self) -> datetime | None:
        """Start to reactivate what must come back, account by account; returns when the next one must."""
        self._count_refusals()
        red = dict(self._unhealthy)
        reasons, later = monitor.keys_to_roll_back(self._context, self._fold, red)
        reasons |= self._accept_handed_over()
        busy = {key for keys in self._reactivating.values() for key in keys}
        by_account: dict[str, ReactivationReasons] = {}
        for key, (because, why) in reasons.items():
            if key not in busy:
                by_account.setdefault(key[0], {}).setdefault(key[:2], []).append((key, because, why))
        if not self._fold.is_stopped and any(because == "rollback" for because, _ in reasons.values()):
            name, output = min(red.items(), default=("", ""))
            by = f"probe {name}" if name else "a rollback without the state"
            self._record(RunStopped(by, output))
        for account, users in by_account.items():
            chosen, wait = self._keys_to_try(account, users)
            if wait is not None:
                later = wait if later is None else min(later, wait)
            if chosen and len(self._reactivating) < _MAX_REACTIVATIONS:
                self._check()
                self._start_reactivations(account, chosen)
        return later

    def _accept_handed_over(self) -> dict[KeyId, tuple[WriteReason, str]]:
        owed, self._handed_over = self._handed_over, {}
        watched = monitor.watched_keys(self._fold)
        return {
            key: ("rollback", f"{why}; it was reactivated while the state could not be used")
            for key, why in owed.items()
            if key in watched
        }

    def _keys_to_try(
        self, account: str, users: ReactivationReasons
    ) -> tuple[ReactivationReasons, datetime | None]:
        """All that must come back; or, where AWS has refused it more than once, one to see whether it still does."""
        now = self._context.clock.now()
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
        for account, keys in self._reactivated:
            failed = any(self._fold.facts[key].reactivation_tries for key in keys if key in self._fold.facts)
            times, _ = self._refused.pop(account, (0, None))
            if failed:
                self._refused[account] = times + 1, self._context.clock.now()
        self._reactivated.clear()

    def _start_reactivations(self, account: str, users: ReactivationReasons) -> None:
        context = self._context
        if any(because == "rollback" for keys in users.values() for _, because, _ in keys):
            retry_policy = msgspec.structs.replace(
                context.retry_policy, backoff=context.retry_policy.backoff[:_MAX_TRIES]
            )
            context = dataclasses.replace(context, retry_policy=retry_policy)
        self._started += 1
        task = ("return", self._run.id, account, str(self._started))
        self._reactivating[task] = {key for keys in users.values() for key, _, _ in keys}
        works = [_reactivate_users(context, self._run, user, keys) for user, keys in users.items()]
        self._tasks.start(task, works, deadline=DEADLINE)

    def _list_users(self) -> datetime | None:
        context, run, now = self._context, self._run, self._context.clock.now()
        watched = {
            key: watch
            for key, watch in monitor.watched_keys(self._fold).items()
            if self._fold.facts[key].state == "watching"
        }
        if not watched:
            return None
        due = monitor.check_due(run, context.ledger.observations(run.id), now)
        if due > now:
            return due
        self._check()
        context.ledger.observe(run.id, monitor.CHECK_TASK, ProbeObservation(now, now, healthy=True))
        steps = {(step.account, step.user, step.key): step for step in run.plan.writes}
        by_account: dict[str, list[StepCoroutine[None]]] = {}
        for user, keys in monitor.users_of(watched).items():
            watched_steps = tuple((self._with_kept(steps[key]), watched[key].since) for key in keys)
            by_account.setdefault(user[0], []).append(check_user(context, run, user, watched_steps))
        for account, works in by_account.items():
            task = ("list", run.id, account)
            if not self._tasks.busy(task):
                self._tasks.start(task, works, deadline=DEADLINE)
        return now + monitor.CHECK_EVERY

    def _with_kept(self, step: Step) -> Step:
        """A step with the key that is kept beside its own: of a rotation that is the new one."""
        rotation = self._fold.facts[step.account, step.user, step.key].rotation
        return msgspec.structs.replace(step, keep=rotation.new_key) if rotation else step

    def _end_watches(self) -> datetime | None:
        context, now = self._context, self._context.clock.now()
        ends = [watch.until for watch in monitor.watched_keys(self._fold).values()]
        if any(end <= now for end in ends):
            for key, event in monitor.watches_ended(
                context, self._run, self._fold, context.ledger.observations(self._run.id)
            ).items():
                self._check()
                UserLease(context, self._run, key[:2]).try_record(event)
            catch_up(context.ledger, self._run.id, self._fold)
        return min((end for end in ends if end > now), default=None)

    # What is to be deactivated

    def _enqueue_accounts(self) -> datetime | None:
        """Let the next wave go where the rule allows it, and say that a window is waited for."""
        event = rollout.next_wave(self._context, self._run, self._fold)
        if isinstance(event, WaveStarted | RunStopped):
            self._record(event)
            return self._enqueue_accounts()
        opens = rollout.wait_for_window(self._context, self._run, self._fold)
        if opens is not None and self._fold.waits_until != opens:
            self._record(WindowAwaited(opens))
        return min((moment for moment in (event, opens) if moment is not None), default=None)

    def _enqueue(self) -> datetime | None:
        context, run, now = self._context, self._run, self._context.clock.now()
        later = [
            rollout.wait_for_retry(context, run, self._fold),
            rollout.next_move_check(context, run, self._fold),
        ]
        accounts = rollout.accounts_to_enqueue(context, run, self._fold)
        active = self._queue.active(run.id) if accounts else set()
        for account in accounts:
            tried, at = self._enqueued.get(account, (-1, now))
            if account in active:
                later.append(now + _LOST_AFTER)  # a worker that executes it may die without an entry
            elif tried == self._fold.last and at <= now < at + _RETRY_AFTER:
                later.append(at + _RETRY_AFTER)
            else:
                self._check()
                self._queue.enqueue(run.id, account)
                self._enqueued[account] = (self._fold.last, now)
                later.append(now + _LOST_AFTER)
        return min((moment for moment in later if moment is not None), default=None)

    def _finish(self) -> datetime | None:
        """Nothing is left to do, as far as the ledger says: any further entry opens the run again."""
        if self._queue.active(self._run.id):
            return self._context.clock.now() + _STILL_ACTIVE
        self._context.ledger.finish(self._run.id, self._fold.last)
        return None

    # The lease

    def _record(self, event: RunEvent) -> None:
        self._context.record(self._run.id, event, lease=self.lease)
        catch_up(self._context.ledger, self._run.id, self._fold)

    def _check(self) -> None:
        if self.lease is not None:
            self._context.ledger.check_lease(self.lease)


def _reactivate_users(
    context: RunContext, run: RunHeader, user: UserId, keys: Iterable[tuple[KeyId, WriteReason, str]]
) -> StepCoroutine[None]:
    for key, because, why in keys:
        lease = UserLease(context, run, user)
        forbidden = never_reactivates(run, user, key[2]) if because == "undo" else ""
        if forbidden and lease.facts(key[2]).pending_reactivation is None:
            # Of an undo of the whole run that was cut off; who names the key has stored an intent.
            leave_inactive(lease, key[2], because, "", forbidden)
        else:
            yield from reactivate(context, run, user, key[2], because, why)
