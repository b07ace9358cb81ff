"""Runs, as the command line, the console and workers see them: apply, undo, stop, resume, list, show."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sparekey.aws.key_deletion import KeyDeleter
from sparekey.errors import RefusedError
from sparekey.ledger import plan_registry
from sparekey.ledger.database import StateError
from sparekey.ledger.events import (
    KeyEvent,
    RunOpened,
    RunOptions,
    RunResumed,
    RunStopped,
    UndoRequested,
    event_body,
    kind_of,
)
from sparekey.ledger.records import FencedError, OnEvent, StoppedError
from sparekey.model import AccessKey, RunRecord
from sparekey.plan import Plan, encode
from sparekey.planner import unprobed_note
from sparekey.policy import Policy
from sparekey.runs import deletion
from sparekey.runs.context import (
    StepCoroutine,
    UserLease,
)
from sparekey.runs.deactivate import hold_key
from sparekey.runs.deletion import Deletable
from sparekey.runs.key_facts import UserId
from sparekey.runs.projection import RunProjection
from sparekey.runs.reactivate import leave_inactive, never_reactivates, reactivate
from sparekey.runs.rotate import revert_handover
from sparekey.runs.run_header import RunHeader, policy_of
from sparekey.runs.run_ids import PREFIX, check_key, check_run_id, no_such_run
from sparekey.runs.run_loop import OnEmergency, RunLoop, ignore_emergency, ignore_event, ignore_notice
from sparekey.runs.scheduler import run_all
from sparekey.runs.worker import ProjectionCache, load_header, load_projection
from sparekey.runs.worker_process import (
    OnNotice,
)
from sparekey.states import RUN_STATES, STEP_STATES

_SHORTEST_WATCH = timedelta(hours=48)
_RECORDS = ProjectionCache()


class RunService(RunLoop):
    """All runs of one state; everything it needs is injected."""

    def apply(
        self,
        plan: Plan,
        policy: Policy,
        *,
        asked_for: Plan | None = None,
        options: RunOptions | None = None,
        reverse: tuple[str, ...] = (),
        on_event: OnEvent = ignore_event,
        on_notice: OnNotice = ignore_notice,
        on_emergency: OnEmergency = ignore_emergency,
        wait: bool = False,
        detach: bool = False,
    ) -> RunRecord:
        """Execute a plan, or continue where it was cut off.

        `asked_for` is the plan as its file has it, where the plan to execute was decided again; the run
        is named by its digest.
        Returns once nothing is left to do now, with `wait` once the watch is over, with `detach` at once.
        `on_notice` gets whom this process waits for; with `wait` it also gets faults of the state, and
        `on_emergency` by what the run is watched while the state cannot be used. Guards and the plan's age are
        asked beforehand. Raises RefusedError for a plan that was executed or that no process would monitor,
        StateFullError before anything is written, KeyboardInterrupt after the step in hand is on record.
        """
        options = options or RunOptions()
        asked_for = asked_for or plan
        run = self.run_id(asked_for)
        self._state.check_room(len(plan.steps))
        begun = self.is_started(asked_for)
        if begun is None or begun.state != "watching":
            self._refuse_unwatched(plan, policy, options, wait=wait)
        self._write_reverse(run, reverse)
        self._open(run, asked_for, plan, policy, options, reverse)
        return self._continue(run, on_event, on_notice, on_emergency, wait=wait, detach=detach)

    def resume(
        self,
        run_id: str,
        *,
        on_event: OnEvent = ignore_event,
        on_notice: OnNotice = ignore_notice,
        on_emergency: OnEmergency = ignore_emergency,
        wait: bool = False,
        detach: bool = False,
    ) -> RunRecord:
        """Let a stopped run go on."""
        run = self._unfinished(run_id)
        self._record_resumed(run)
        return self._continue(run, on_event, on_notice, on_emergency, wait=wait, detach=detach)

    def stop(self, run_id: str, why: str = "asked") -> RunRecord:
        """Deactivate no further key; the current step is finished, and the watch continues."""
        run = self._unfinished(run_id)
        self._context.record(run, RunStopped(self._context.caller.arn, why))
        return self.show(run)

    def _unfinished(self, run_id: str) -> str:
        record = self.show(run_id)
        if RUN_STATES[record.state].ended:
            raise RefusedError(f"run {record.id} is {record.state}: it has ended")
        return record.id

    def _continue(
        self,
        run: str,
        on_event: OnEvent,
        on_notice: OnNotice,
        on_emergency: OnEmergency,
        *,
        wait: bool,
        detach: bool,
    ) -> RunRecord:
        if detach:
            return self.show(run)
        with self._process() as process:
            if not wait:
                return self._follow(process, run, on_event, on_notice)
            with self._emergency(process, on_emergency) as emergency:
                return self._follow(process, run, on_event, on_notice, emergency)

    def _refuse_unwatched(self, plan: Plan, policy: Policy, options: RunOptions, *, wait: bool) -> None:
        if options.watch <= 0 or wait or not self._probed_users(plan, policy) or self.live_workers():
            return
        raise RefusedError(
            "there are probes, but no worker is alive that would ask them after this command ends",
            "Start `sparekey worker` as well, wait and monitor with --wait, or use --no-watch.",
        )

    def _probed_users(self, plan: Plan, policy: Policy) -> set[UserId]:
        speaking_for = self._context.probes.probes_for
        users = {(step.account, step.user) for step in plan.writes}
        return {user for user in users if speaking_for(policy, *user)}

    def warnings(self, plan: Plan, policy: Policy, options: RunOptions) -> tuple[str, ...]:
        """What a person should know before the first write: who will notice a breakage, and who will not."""
        warnings = []
        users = {(step.account, step.user) for step in plan.writes}
        blind = len(users) - len(self._probed_users(plan, policy))
        if blind:
            warnings.append(unprobed_note(blind, len(users)))
        if 0 < options.watch < _SHORTEST_WATCH.total_seconds():
            warnings.append(
                "the watch is shorter than 48 h: sessions minted from a key may live on for longer"
            )
        end = self._clock.now() + timedelta(seconds=options.watch)
        warnings += [
            f"the credentials of worker {worker.id} on {worker.host} may expire before the watch ends: they "
            "last as long as a session or a sign-in (SSO, aws login) and cannot be renewed"
            for worker in self.live_workers()
            if worker.credentials_until is not None and worker.credentials_until < end
        ]
        return tuple(warnings)

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
        options: RunOptions,
        reverse: tuple[str, ...],
    ) -> None:
        opened = RunOpened(
            plan=encode(plan).decode(),
            plan_digest=asked_for.digest,
            caller=self._context.caller,
            policy=policy_of(policy),
            options=options,
            reverse=reverse,
        )
        try:
            self._state.ledger.append(
                run, kind_of(opened), event_body(opened), at=self._clock.now(), must_be_first=True
            )
        except FencedError:
            record = self.is_started(asked_for)
            if record and record.state != "watching":
                self._record_resumed(run)

    def _record_resumed(self, run: str) -> None:
        """Let keys be deactivated again; raises RefusedError for a run that is undone, which is for good."""
        event, undone = RunResumed(self._context.caller.arn), (("undoing",), ("opened",))
        try:
            self._state.ledger.append(
                run, kind_of(event), event_body(event), at=self._clock.now(), unless_last=undone
            )
        except StoppedError:
            raise RefusedError(
                f"run {run} is being undone and deactivates no further key",
                f"`sparekey undo {run}` continues the undo; `sparekey plan -o plan.json` makes a new plan.",
            ) from None

    def register(self, plan: Plan) -> None:
        """Put a plan that was just made on record, so that apply knows it again; raises StateError."""
        plan_registry.register_plan(self._state.ledger, plan, self._clock.now())

    def is_registered(self, plan: Plan) -> bool:
        """True where this state made the plan: nothing in it was edited since."""
        return plan_registry.is_registered(self._state.ledger, plan)

    def plan_of(self, run: str) -> Plan:
        """The plan that a run executes, which need not be its file's."""
        return load_header(self._context, run).plan

    def is_started(self, plan: Plan) -> RunRecord | None:
        """The run of a plan that was started and can continue; RefusedError where it is finished."""
        run = self.run_id(plan)
        if not self._state.ledger.entries(run, limit=1):
            return None
        record = self.show(run)
        if RUN_STATES[record.state].ended:
            raise RefusedError(
                f"this plan was executed as run {run}, which is {record.state}: it needs a new plan",
                f"`sparekey show {run}` shows what was done; `sparekey plan -o plan.json` makes a new plan.",
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
        """Where the commands that revert a run manually are kept."""
        return self._state.directory / "reverse" / f"{run}.sh"

    def follow(
        self, run_id: str, on_event: OnEvent, until: Callable[[RunRecord], bool] = lambda _: False
    ) -> RunRecord:
        """Pass on the events of a run, from anywhere, until it ends, is stopped, or `until` returns True."""
        run = self.find(run_id)
        projection = RunProjection()
        while True:
            for entry in self._state.ledger.entries(run, after=projection.last):
                projection.add(entry)
                on_event(entry)
            record = projection.record()
            if until(record) or _is_over(record):
                return record
            self._clock.sleep(1.0)

    def undo(self, run_id: str, key: str = "", *, on_event: OnEvent = ignore_event) -> RunRecord:
        """Reactivate what a run deactivated, all of it or one key; waits for nothing and stops the run.

        A key that somebody else changed since is left alone and reported as `changed`; the one key, where the
        run has not deactivated it yet, is held, so that it never will.
        """
        run = self.find(run_id)
        opened = load_header(self._context, run)
        check_key(run, key, opened.plan.steps)
        last = load_projection(self._context, run).last
        who = self._context.caller.arn
        if key:
            early = f"undone by {who} before it was deactivated"
            users = sorted({(s.account, s.user) for s in opened.plan.writes if s.key == key})
            run_all((hold_key(self._context, opened, user, key, early) for user in users), self._clock)
        else:
            self._context.record(run, UndoRequested(who))
        # Read after the run was stopped: no intent can slip in between.
        users_to_undo = sorted(
            name for name in load_projection(self._context, run).facts if key in ("", name[2])
        )
        why = f"reactivated on request of {who}"
        # Of the whole run, a key that only a person may reactivate is left inactive: a person names it.
        forbidden = (
            {} if key else {name: never_reactivates(opened, name[:2], name[2]) for name in users_to_undo}
        )
        by_user: dict[UserId, list[str]] = {}
        for account, user, name in users_to_undo:
            if why_not := forbidden.get((account, user, name)):
                leave_inactive(UserLease(self._context, opened, (account, user)), name, "undo", "", why_not)
            else:
                by_user.setdefault((account, user), []).append(name)
        # One user's keys one after the other: each write ends every other turn at the user.
        works = (self._undo_user(opened, user, names, why) for user, names in by_user.items())
        run_all(works, self._clock, at_once=self._context.max_calls)
        for entry in self._state.ledger.entries(run, after=last):
            on_event(entry)
        return self.show(run)

    def plan_undo(self, run_id: str, key: str = "") -> RunRecord:
        """The run that `undo` would revert, as it is now; raises BadInputError where it has no such key."""
        run = self.find(run_id)
        check_key(run, key, load_header(self._context, run).plan.steps)
        return self.show(run)

    def _undo_user(self, run: RunHeader, user: UserId, keys: "list[str]", why: str) -> StepCoroutine[None]:
        for key in keys:
            yield from reactivate(self._context, run, user, key, "undo", why)
            yield from revert_handover(self._context, run, user, key, why)

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
        return tuple(run for run in self._state.ledger.runs() if run.startswith(PREFIX))

    def deletable(self, older_than: timedelta) -> tuple[Deletable, ...]:
        """The keys that our runs deactivated at least that long ago; AWS is asked when each is deleted."""
        return deletion.deletable(self._state.ledger, self._runs(), self._clock.now(), older_than)

    def orphan(self, key: str) -> Deletable:
        """The new key of a rotation whose secret nobody has; raises BadInputError where no run knows it as such."""
        return deletion.orphan(self._state.ledger, self._runs(), key)

    def delete(self, what: Deletable, deleter: KeyDeleter, *, orphan: bool = False) -> KeyEvent:
        """Delete one of them if AWS still reports the same; returns `Deleted` or `Kept`. Raises AwsError."""
        return deletion.delete(self._context, what, deleter, orphan=orphan)

    def delete_root(self, account: str, key: AccessKey, deleter: KeyDeleter, older_than: timedelta) -> str:
        """Delete a member account's root key whose last use is old enough; returns the request id."""
        return deletion.delete_root(self._context, account, key, deleter, older_than)

    def show(self, run_id: str) -> RunRecord:
        """One run by its ledger; an id may be cut short where it is still unique."""
        return _RECORDS.get(self._state.ledger, self.find(run_id))

    def find(self, run_id: str) -> str:
        """The whole id of a run; raises BadInputError where none or several match.

        An id may be cut short to "r-" and four characters of it or more, where that is unique: what an unset
        variable of a script leaves, nothing or a letter, names no run.
        """
        check_run_id(run_id)
        runs = self._runs()
        matches = [run_id] if run_id in runs else [run for run in runs if run.startswith(run_id)]
        if len(matches) != 1:
            raise no_such_run(run_id, len(matches))
        return matches[0]


def _is_over(record: RunRecord) -> bool:
    """True where no further event is due: a stopped run finishes the current step and its rollbacks."""
    if record.state == "stopped":
        return not any(STEP_STATES[step.state].phase == "in_progress" for step in record.steps)
    return RUN_STATES[record.state].ended or record.state == "failed"
