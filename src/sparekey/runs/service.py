"""Runs, as the command line, the console and workers see them: apply, undo, stop, resume, list, show."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sparekey.aws.key_deletion import KeyDeleter
from sparekey.clock import Clock
from sparekey.errors import BadInputError, RefusedError, SparekeyError, UnexpectedError
from sparekey.ledger import plan_registry
from sparekey.ledger.events import (
    Opened,
    Options,
    Resumed,
    SaidOfKey,
    Stopped,
    Stumbled,
    Undoing,
    WaveStarted,
    kind_of,
    write,
)
from sparekey.ledger.store import (
    Entry,
    FencedError,
    Observation,
    StateAwayError,
    StateError,
    StoppedError,
    WorkerSeen,
)
from sparekey.model import AccessKey, Caller, RunRecord, StepRecord
from sparekey.plan import Plan, Step, encode
from sparekey.policy import Policy
from sparekey.runs import deletion, rollout
from sparekey.runs.context import Gateway, Hands, NoProbes, Patience, Prober, Turn, Work
from sparekey.runs.deletion import Deletable
from sparekey.runs.emergency import Emergency, Owed, Told
from sparekey.runs.event_feed import Feed
from sparekey.runs.projection import Run, RunFold, UserId, as_policy
from sparekey.runs.scheduler import drive
from sparekey.runs.steps import hold_back, leave_inactive, never_reactivates, reactivate
from sparekey.runs.storage import State
from sparekey.runs.supervisor import Supervisor, lease_of
from sparekey.runs.tasks import Threads
from sparekey.runs.worker import Records, RunWork, load_fold, load_run
from sparekey.runs.worker_leases import Leases

if TYPE_CHECKING:
    from sparekey.runs.queue import Engine

OnEvent = Callable[[Entry], None]
OnFailure = Callable[[str, str], None]
# What is put into words for a person: whom a command waits for, of faults of the state.
OnNotice = Callable[[str], None]
# Calls of AWS under way at once for one account's part of a run: IAM is slow, and its limits are low.
CALLS = 8
# Seconds between two looks: while keys are being changed, and while they are only watched.
_POLL, _LOOK = 0.1, 1.0
# Seconds without any entry after which a command says whom it waits for.
_SILENT = 3.0
# Seconds since the last look that did not fail as a whole, after which the supervision does not come round.
_COMES_ROUND = 10.0
# A fault that comes back within so many seconds is the same one.
_LASTING = 60.0
_SHORTEST_WATCH = timedelta(hours=48)
_PREFIX = "r-"
_SHORTEST_ID = 4
_RUNS_HINT = "`sparekey runs` lists them; an id may be cut short to r- and four characters."
_FINISHED = ("settled", "unwatched", "rolled_back", "undone")
_UNDER_WAY = ("in_doubt", "applied", "confirmed", "reactivating")


def _ignore(_entry: Entry) -> None:
    return


def _ignore_failure(_run: str, _why: str) -> None:
    return


def _ignore_notice(_text: str) -> None:
    return


_RECORDS = Records()


class Runs:
    """All runs of one state; everything it needs is injected."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        gateway_for: Callable[[str], Gateway],
        caller: Caller,
        *,
        probes: Prober | None = None,
        patience: Patience | None = None,
        calls: int = CALLS,
        caller_now: Callable[[], Caller] | None = None,
    ) -> None:
        self._state, self._clock = state, clock
        self._hands = Hands(
            ledger=state.ledger,
            clock=clock,
            gateway_for=gateway_for,
            caller=caller,
            worker=f"{os.uname().nodename}/{os.getpid()}",
            patience=patience or Patience(),
            probes=probes or NoProbes(),
            calls=calls,
            caller_now=caller_now,
        )

    def apply(
        self,
        plan: Plan,
        policy: Policy,
        *,
        asked_for: Plan | None = None,
        options: Options | None = None,
        reverse: tuple[str, ...] = (),
        on_event: OnEvent = _ignore,
        on_notice: OnNotice = _ignore_notice,
        wait: bool = False,
        detach: bool = False,
    ) -> RunRecord:
        """Carry out a plan, or go on with it where it was cut off.

        `asked_for` is the plan as its file has it, where the plan to carry out was decided on anew; the run
        goes by its digest.
        Returns once nothing is left to do now, with `wait` once the watch is over, with `detach` at once.
        `on_notice` hears whom this process waits for. Guards and the plan's age are asked beforehand. Raises
        RefusedError for a plan that was carried out or that nobody would watch, StateFullError before anything
        is written, KeyboardInterrupt after the step in hand is on record.
        """
        options = options or Options()
        asked_for = asked_for or plan
        run = self.run_id(asked_for)
        self._state.check_room(len(plan.steps))
        begun = self.begun(asked_for)
        if begun is None or begun.state != "watching":
            self._refuse_unwatched(plan, policy, options, wait=wait)
        self._write_reverse(run, reverse)
        self._open(run, asked_for, plan, policy, options, reverse)
        return self._go_on(run, on_event, on_notice, wait=wait, detach=detach)

    def resume(
        self,
        run_id: str,
        *,
        on_event: OnEvent = _ignore,
        on_notice: OnNotice = _ignore_notice,
        wait: bool = False,
        detach: bool = False,
    ) -> RunRecord:
        """Let a stopped run go on."""
        run = self._unfinished(run_id)
        self._say_resumed(run)
        return self._go_on(run, on_event, on_notice, wait=wait, detach=detach)

    def stop(self, run_id: str, why: str = "asked") -> RunRecord:
        """Let no further key be deactivated; the step in hand is finished, and the watch goes on."""
        run = self._unfinished(run_id)
        self._hands.note(run, Stopped(self._hands.caller.arn, why))
        return self.show(run)

    def _unfinished(self, run_id: str) -> str:
        record = self.show(run_id)
        if record.state in _FINISHED:
            raise RefusedError(f"run {record.id} is {record.state}: it has ended")
        return record.id

    def _go_on(
        self, run: str, on_event: OnEvent, on_notice: OnNotice, *, wait: bool, detach: bool
    ) -> RunRecord:
        if detach:
            return self.show(run)
        with self._process() as process:
            return self._follow(process, run, on_event, on_notice, wait=wait)

    @contextmanager
    def _process(self, who: WorkerSeen | None = None) -> Iterator["_Process"]:
        """Take part in the runs: a heartbeat, the queue, the supervision; given up at the end."""
        leases = Leases(self._state.ledger, self._state)
        engine = self._engine(leases)
        process = _Process(self._hands, leases, engine)
        try:
            leases.start()
            if who is not None:
                leases.forget_the_dead()
                self._state.ledger.sign_on(msgspec.structs.replace(who, id=leases.id))
            yield process
        finally:
            engine.stop()
            leases.stop()
            if who is not None:
                with suppress(SparekeyError):
                    self._state.ledger.sign_off(leases.id)

    def _engine(self, leases: Leases | None = None) -> "Engine":
        from sparekey.runs.queue import Engine  # noqa: PLC0415  # half a second, and only runs need it

        return Engine(self._state, leases or Leases(self._state.ledger, self._state), RunWork(self._hands))

    def work(
        self,
        until: Callable[[], bool],
        *,
        credentials_until: datetime | None = None,
        every: float = _LOOK,
        on_event: Callable[[Entry], None] = _ignore,
        on_failure: OnFailure = _ignore_failure,
        on_notice: OnNotice = _ignore_notice,
        on_emergency: Callable[[Told], None] = lambda _told: None,
        on_event_without_state: Callable[[Entry, RunRecord], None] = lambda _entry, _record: None,
    ) -> None:
        """Watch and carry runs until told to stop; on SQLite it waits for its turn at the queue.

        `credentials_until` is when the worker's credentials end for good, None where it can renew them. Of every
        unfinished run, whoever is at work on it, `on_event` is told each new entry, and `on_failure` once, as
        (run, why), each thing that work has failed with since. `on_notice` hears why the state cannot be used,
        other than that it is away: that is for whoever started the worker to notice; and which process runs the
        queue, where this one waits for it. Where the state cannot be used for a while, `on_emergency` is told by
        what the runs are watched until it can, and `on_event_without_state` each entry that is then made, with
        its run's record.
        """
        me = WorkerSeen("", os.uname().nodename, self._clock.now(), credentials_until)
        failures, faults = _Failures(on_failure), _Faults(on_notice)
        with self._process(me) as process:
            feed, copies = Feed(self._state.ledger), self._state.copies
            waiting = _WaitingFor(process, "", on_notice)
            emergency = Emergency(
                self._hands,
                self._state.directory,
                self._state.url if self._state.shared else "",
                watched=process.watched,
                owe=process.owe,
                tell=on_emergency,
                on_event=on_event_without_state,
            )

            def hear() -> None:
                for entry in feed.new():
                    copies.add(self._state.ledger, entry)
                    failures.tell(entry)
                    on_event(entry)

            with faults.reported():
                for run, _ in self._state.ledger.unfinished():
                    copies.catch_up(self._state.ledger, run)
            emergency.start()
            try:
                while not until():
                    with faults.reported():
                        process.look()
                        if process.sound:
                            emergency.sound()
                        hear()
                        waiting.look()
                    process.rest(every)
            finally:
                emergency.stop()
            with faults.reported():
                hear()

    def live_workers(self) -> tuple[WorkerSeen, ...]:
        """The workers whose process is alive."""
        alive = Leases(self._state.ledger, self._state).alive()
        return tuple(worker for worker in self._state.ledger.workers() if worker.id in alive)

    def _refuse_unwatched(self, plan: Plan, policy: Policy, options: Options, *, wait: bool) -> None:
        if options.watch <= 0 or wait or not self._probed_users(plan, policy) or self.live_workers():
            return
        raise RefusedError(
            "there are probes, but no worker is alive that would ask them after this command ends",
            "Start `sparekey worker` beside it, or stay and watch with --wait, or say --no-watch.",
        )

    def _probed_users(self, plan: Plan, policy: Policy) -> set[UserId]:
        speaking_for = self._hands.probes.speaking_for
        users = {(step.account, step.user) for step in plan.deactivations}
        return {user for user in users if speaking_for(policy, *user)}

    def warnings(self, plan: Plan, policy: Policy, options: Options) -> tuple[str, ...]:
        """What a person should know before the first write: who will notice a breakage, and who will not."""
        told = []
        users = {(step.account, step.user) for step in plan.deactivations}
        blind = len(users) - len(self._probed_users(plan, policy))
        if blind:
            told.append(f"nothing will notice a breakage for {blind} of {len(users)} users: no probe")
        if 0 < options.watch < _SHORTEST_WATCH.total_seconds():
            told.append("the watch is shorter than 48 h: sessions minted from a key may live on for longer")
        end = self._clock.now() + timedelta(seconds=options.watch)
        told += [
            f"the credentials of worker {worker.id} on {worker.host} may end before the watch does: they last as "
            "long as a session or a sign-in (SSO, aws login), and nothing renews them"
            for worker in self.live_workers()
            if worker.credentials_until is not None and worker.credentials_until < end
        ]
        return tuple(told)

    def run_id(self, plan: Plan) -> str:
        """The id of a plan's run: short, and the same for the same plan."""
        short = f"r-{plan.digest[:8]}"
        first = self._state.ledger.entries(short, limit=1)
        mine = not first or first[0].body["plan_digest"] == plan.digest
        return short if mine else f"r-{plan.digest[:32]}"

    def _open(
        self,
        run: str,
        asked_for: Plan,
        plan: Plan,
        policy: Policy,
        options: Options,
        reverse: tuple[str, ...],
    ) -> None:
        opened = Opened(
            plan=encode(plan).decode(),
            plan_digest=asked_for.digest,
            caller=self._hands.caller,
            policy=as_policy(policy),
            options=options,
            reverse=reverse,
        )
        try:
            self._state.ledger.append(run, kind_of(opened), write(opened), at=self._clock.now(), first=True)
        except FencedError:
            record = self.begun(asked_for)
            if record and record.state != "watching":
                self._say_resumed(run)

    def _say_resumed(self, run: str) -> None:
        """Let keys be deactivated again; raises RefusedError for a run that is undone, which is for good."""
        said, undone = Resumed(self._hands.caller.arn), (("undoing",), ("opened",))
        try:
            self._state.ledger.append(run, kind_of(said), write(said), at=self._clock.now(), unless=undone)
        except StoppedError:
            raise RefusedError(
                f"run {run} is being undone: it deactivates nothing more",
                f"`sparekey undo {run}` goes on with that; `sparekey plan -o plan.json` makes a new plan.",
            ) from None

    def remember(self, plan: Plan) -> None:
        """Put a plan that was just made on record, so that apply knows it again; raises StateError."""
        plan_registry.remember(self._state.ledger, plan, self._clock.now())

    def knows(self, plan: Plan) -> bool:
        """True where this state made the plan: nothing in it was edited since."""
        return plan_registry.is_known(self._state.ledger, plan)

    def plan_of(self, run: str) -> Plan:
        """The plan that a run carries out, which need not be what its file says."""
        return load_run(self._hands, run).plan

    def begun(self, plan: Plan) -> RunRecord | None:
        """The run of a plan that was begun and can go on; RefusedError where it is finished."""
        run = self.run_id(plan)
        if not self._state.ledger.entries(run, limit=1):
            return None
        record = self.show(run)
        if record.state in _FINISHED:
            raise RefusedError(
                f"this plan was carried out as run {run}, which is {record.state}: it needs a new plan",
                f"`sparekey show {run}` tells what was done; `sparekey plan -o plan.json` makes a new plan.",
            )
        return record

    def _write_reverse(self, run: str, reverse: tuple[str, ...]) -> None:
        if not reverse:
            return
        path = self.reverse_file(run)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write("\n".join(reverse) + "\n")
        except OSError as error:
            raise StateError(f"{path} cannot be written: {error.strerror}; nothing was changed") from error

    def reverse_file(self, run: str) -> Path:
        """Where the commands that reverse a run by hand are kept."""
        return self._state.directory / "reverse" / f"{run}.sh"

    def _follow(
        self, process: "_Process", run: str, on_event: OnEvent, on_notice: OnNotice, *, wait: bool
    ) -> RunRecord:
        """Tell what happens until nothing is left to do; Ctrl-C stops the run after the step in hand."""
        fold = RunFold()
        try:
            self._until_idle(process, fold, run, on_event, on_notice, wait=wait)
        except KeyboardInterrupt:
            if not fold.last or fold.record().state not in ("watching", "rollback_failed"):
                self._hands.note(run, Stopped(self._hands.caller.arn, "interrupted"))
            self._until_idle(process, fold, run, on_event, on_notice, wait=False)
            raise
        record = fold.record()
        said = self._state.ledger.entries(run, kinds=(kind_of(Stumbled("", "", "")),))
        if record.state == "applying" and said:
            why = f"run {run} was cut off: {said[-1].body['why']}"
            raise StateError(why, "Apply the same plan again: it goes on.")
        return record

    def _until_idle(
        self,
        process: "_Process",
        fold: RunFold,
        run: str,
        on_event: OnEvent,
        on_notice: OnNotice,
        *,
        wait: bool,
    ) -> None:
        """Go on until nothing of the run is to be done now; with `wait` until nothing is to be done at all."""
        waiting = _WaitingFor(process, run, on_notice)
        while True:
            process.look()
            for entry in self._state.ledger.entries(run, after=fold.last):
                fold.add(entry)
                on_event(entry)
                waiting.heard()
            idle = self._is_idle(process, run, fold)
            if idle and not (wait and self._outstanding(run)):
                return
            if not idle:
                waiting.look()
            process.rest(_LOOK if idle else _POLL)

    def _is_idle(self, process: "_Process", run: str, fold: RunFold) -> bool:
        """True where nothing of a run is being done, or could be done now."""
        if process.engine.active(run) or process.busy(run):
            return False
        opened = load_run(self._hands, run)
        moves = isinstance(rollout.next_step(self._hands, opened, fold), WaveStarted | Stopped)
        return not moves and not rollout.accounts_now(self._hands, opened, fold)

    def _outstanding(self, run: str) -> bool:
        return run in dict(self._state.ledger.unfinished())

    def follow(self, run_id: str, on_event: OnEvent, until: Callable[[RunRecord], bool]) -> RunRecord:
        """Tell what happens in a run, from anywhere, until it is over or stopped, or `until` says so."""
        run = self.find(run_id)
        fold = RunFold()
        while True:
            for entry in self._state.ledger.entries(run, after=fold.last):
                fold.add(entry)
                on_event(entry)
            record = fold.record()
            if until(record) or _is_over(record):
                return record
            self._clock.sleep(1.0)

    def undo(self, run_id: str, key: str = "", *, on_event: OnEvent = _ignore) -> RunRecord:
        """Reactivate what a run deactivated, all of it or one key; waits for nothing and stops the run.

        A key that somebody else changed since is left alone and reported as `changed`; the one key, where the
        run has not deactivated it yet, is held, so that it never will.
        """
        run = self.find(run_id)
        opened = load_run(self._hands, run)
        check_key(run, key, opened.plan.steps)
        last = load_fold(self._hands, run).last
        who = self._hands.caller.arn
        if key:
            early = f"undone by {who} before it was deactivated"
            users = sorted({(s.account, s.user) for s in opened.plan.deactivations if s.key == key})
            drive((hold_back(self._hands, opened, user, key, early) for user in users), self._clock)
        else:
            self._hands.note(run, Undoing(who))
        # Read after the run was stopped: no intent can slip in between.
        wanted = sorted(name for name in load_fold(self._hands, run).facts if key in ("", name[2]))
        why = f"reactivated on request of {who}"
        # Of the whole run, a key that only a person may reactivate stays inactive: a person names it.
        barred = {} if key else {name: never_reactivates(opened, name[:2], name[2]) for name in wanted}
        by_user: dict[UserId, list[str]] = {}
        for account, user, name in wanted:
            if why_not := barred.get((account, user, name)):
                leave_inactive(Turn(self._hands, opened, (account, user)), name, "undo", "", why_not)
            else:
                by_user.setdefault((account, user), []).append(name)
        # One user's keys one after the other: each write ends every other turn at the user.
        works = (self._undo_user(opened, user, names, why) for user, names in by_user.items())
        drive(works, self._clock, at_once=self._hands.calls)
        for entry in self._state.ledger.entries(run, after=last):
            on_event(entry)
        return self.show(run)

    def _undo_user(self, run: Run, user: UserId, keys: "list[str]", why: str) -> Work[None]:
        for key in keys:
            yield from reactivate(self._hands, run, user, key, "undo", why)

    def list(self) -> tuple[RunRecord, ...]:
        """Every run, oldest first."""
        unfinished = dict(self._state.ledger.unfinished())
        heads = self._state.ledger.heads()
        return tuple(self._summary(run, heads[run], ended=run not in unfinished) for run in self._runs())

    def _summary(self, run: str, head: str, *, ended: bool) -> RunRecord:
        """A run's record, which is kept where the run has ended: its entries are not read again."""
        kept = self._state.summaries.get(run, head) if ended else None
        if kept is not None:
            return kept
        record = _RECORDS.get(self._state.ledger, run)
        if ended:
            self._state.summaries.put(record)
        return record

    def _runs(self) -> tuple[str, ...]:
        return tuple(run for run in self._state.ledger.runs() if run.startswith(_PREFIX))

    def deletable(self, older_than: timedelta) -> tuple[Deletable, ...]:
        """The keys that our runs deactivated at least that long ago; AWS is asked when each is deleted."""
        return deletion.deletable(self._state.ledger, self._runs(), self._clock.now(), older_than)

    def delete(self, what: Deletable, deleter: KeyDeleter) -> SaidOfKey:
        """Delete one of them if AWS still says the same; returns `Deleted` or `Kept`. Raises AwsError."""
        return deletion.delete(self._hands, what, deleter)

    def delete_root(self, account: str, key: AccessKey, deleter: KeyDeleter, older_than: timedelta) -> str:
        """Delete a member account's root key whose last use is old enough; returns the request id."""
        return deletion.delete_root(self._hands, account, key, deleter, older_than)

    def show(self, run_id: str) -> RunRecord:
        """One run as its ledger tells it; an id may be cut short where it stays unique."""
        return _RECORDS.get(self._state.ledger, self.find(run_id))

    def find(self, run_id: str) -> str:
        """The whole id of a run; raises BadInputError where none or several match.

        An id may be cut short to "r-" and four characters of it or more, where that is unique: what an unset
        variable of a script leaves, nothing or a letter, names no run.
        """
        check_run_id(run_id)
        runs = self._runs()
        found = [run_id] if run_id in runs else [run for run in runs if run.startswith(run_id)]
        if len(found) != 1:
            raise _no_such_run(run_id, len(found))
        return found[0]


def check_run_id(text: str) -> None:
    """Raise BadInputError for what names no run: nothing, or less than "r-" and four characters."""
    if not text.strip():
        raise BadInputError("the id of the run is empty", "`sparekey runs` lists them.")
    if not text.startswith(_PREFIX) or len(text) < len(_PREFIX) + _SHORTEST_ID:
        raise BadInputError(f"{text!r} is not the id of a run: nothing was done", _RUNS_HINT)


def check_key(run: str, key: str, steps: Iterable[Step | StepRecord]) -> None:
    """Raise BadInputError where a key is named that the run does not have."""
    if key and not any(step.key == key for step in steps):
        raise BadInputError(f"run {run} has no key {key}", f"`sparekey show {run}` lists its keys.")


def _no_such_run(text: str, found: int) -> BadInputError:
    return BadInputError(
        f"{f'{found} runs match' if found else 'no run matches'} {text!r}",
        _RUNS_HINT,
    )


def _is_over(record: RunRecord) -> bool:
    """True where nothing more is to be told: a stopped run finishes the step in hand and its rollbacks."""
    if record.state == "stopped":
        return not any(step.state in _UNDER_WAY for step in record.steps)
    return record.state in (*_FINISHED, "failed")


class _Process:
    """This process's part in the runs: the supervision, and the queue where it may listen to it."""

    def __init__(self, hands: Hands, leases: Leases, engine: "Engine") -> None:
        self.leases, self.engine = leases, engine
        self._looked = 0.0
        self._wake = threading.Event()
        self._tasks = Threads(hands.clock, hands.calls, self._wake.set)
        self._supervisor = Supervisor(hands, engine, self._tasks, leases)

    def look(self) -> None:
        """Look once; raises StateError where the database is away."""
        self.leases.mark()
        self.engine.listen()
        self._supervisor.look()
        self._looked = time.monotonic()

    @property
    def sound(self) -> bool:
        """True where the last look was at every run, and this process can write."""
        return self._supervisor.sound and self.leases.beating

    def watched(self) -> Mapping[str, Mapping[str, Observation]]:
        """The runs that would have to be watched without the state, and what their probes answered last.

        Those that cannot be looked at, or all where this process writes nothing or comes round no more.
        """
        well = self.leases.beating and time.monotonic() - self._looked < _COMES_ROUND
        return self._supervisor.watched(failing=well)

    def owe(self, owed: Owed) -> None:
        """Let the supervision put on record what came back without the state."""
        for run, keys in owed.items():
            self._supervisor.owe(run, keys)

    def busy(self, run: str) -> bool:
        """True while this process reactivates keys of a run."""
        return self._tasks.busy(("return", run))

    def rest(self, seconds: float) -> None:
        """Wait, until a task has ended."""
        self._wake.wait(seconds)
        self._wake.clear()


class _WaitingFor:
    """Says whom this process waits for, once a holder, when nothing has happened for a while."""

    def __init__(self, process: _Process, run: str, tell: OnNotice) -> None:
        self._process, self._run, self._tell = process, run, tell
        self._since, self._told = time.monotonic(), set[str]()

    def heard(self) -> None:
        """Something has happened."""
        self._since = time.monotonic()

    def look(self) -> None:
        """Say it, if it is time."""
        if time.monotonic() - self._since < _SILENT:
            return
        self._since = time.monotonic()
        leases, held = self._process.leases, self._process.leases.held()
        alive = leases.alive()
        for name, does in ((lease_of(self._run), f"supervises run {self._run}"), ("queue", "runs the queue")):
            holder = held[name].holder if name in held else ""
            if holder not in ("", leases.id, *self._told) and holder in alive:
                self._told.add(holder)
                other = alive[holder]
                self._tell(
                    f"waiting for {other.id} on {other.name}, which {does} (last heartbeat {other.age:.0f} s ago)"
                )


class _Failures:
    """What work has failed with, each thing once."""

    def __init__(self, tell: OnFailure) -> None:
        self._tell = tell
        self._told: set[tuple[str, str]] = set()

    def tell(self, entry: Entry) -> None:
        """Tell it if this is a failure, and a new one."""
        if entry.kind == kind_of(Stumbled("", "", "")):
            found = (entry.run, str(entry.body["why"]))
            if found not in self._told:
                self._told.add(found)
                self._tell(*found)


class _Faults:
    """Faults of the state, which end no watch; one that is not a state that is away is reported once."""

    def __init__(self, report: OnNotice, lasting: float = _LASTING) -> None:
        self._report, self._lasting = report, lasting
        self._last, self._at = "", 0.0

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Go on in spite of a fault: the next look tries again."""
        try:
            yield
        except StateAwayError:
            return
        except SparekeyError as error:
            self._say(error.message)
        except Exception as error:  # noqa: BLE001  # a worker that ends watches nothing
            self._say(UnexpectedError.of(error).message)
        else:
            if time.monotonic() - self._at >= self._lasting:
                self._last = ""

    def _say(self, fault: str) -> None:
        self._at = time.monotonic()
        if fault != self._last:
            self._last = fault
            self._report(f"{fault}; it is tried again")
