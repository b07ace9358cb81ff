"""What the console holds between requests: the last reading, plans not yet applied, the work in hand.

Everything here is touched on the event loop alone; the verbs run in threads.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import anyio.to_thread

from sparekey import app
from sparekey.app import (
    NO_OVERRIDES,
    Connection,
    ExemptionChange,
    LedgerEntry,
    Limits,
    Overrides,
    Plan,
    Preflight,
    ProposedPolicy,
    ReadMode,
    RunOptions,
    UsageRequest,
)
from sparekey.console.views import AuditView, UserId, audit_view, listed
from sparekey.errors import BadInputError, RefusedError, SparekeyError, UnexpectedError
from sparekey.model import Audit, RunRecord, StepRecord, Unreadable, Usage, Value
from sparekey.states import STEP_STATES

_MAX_PLANS = 200


class AlreadyStartedError(SparekeyError):
    """Somebody else, or another tab, acted on the same key first; `run` says where."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, run: str) -> None:
        super().__init__(message, "Nothing was changed by this request. Check that run before you continue.")
        self.run = run


class ConsoleOptions(Value, frozen=True):
    """How a console reads: the accounts, and who uses a key (a usage source such as history); `demo`: none is real."""

    mode: ReadMode = "auto"
    usage: str = "history"
    demo: bool = False


class ConsoleState:
    """The state of one console; `usage_request` is what a usage source is asked for."""

    def __init__(self, connection: Connection, options: ConsoleOptions, usage_request: UsageRequest) -> None:
        self.connection = connection
        self.console_options = options
        self._wanted = usage_request
        self.usage_unread: dict[UserId, SparekeyError] = {}
        self._checking_usage: dict[UserId, asyncio.Task[None]] = {}
        self.view: AuditView | None = None
        self.progress: tuple[int, int | None] = (0, None)
        self.failure: SparekeyError | None = None
        self.usages: dict[str, Usage] = {}
        self.chosen: set[UserId] = set()
        self.failures: dict[str, SparekeyError] = {}
        self.busy: dict[str, int] = {}
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._reading: asyncio.Task[None] | None = None
        self._jobs: set[asyncio.Task[RunRecord]] = set()
        # Runs wait for one another; an undo waits for nothing.
        self._applying = ThreadPoolExecutor(1, "apply")
        self._undoing = ThreadPoolExecutor(8, "undo")

    # The reading

    @property
    def reading(self) -> bool:
        """True while accounts are read."""
        return self._reading is not None and not self._reading.done()

    def read(self) -> None:
        """Begin to read every account, unless that is under way."""
        if not self.reading:
            self.progress, self.failure = (0, None), None
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int | None) -> None:
            loop.call_soon_threadsafe(self._report_progress, done, total)

        try:
            self.view = await anyio.to_thread.run_sync(
                lambda: _build_view(
                    self,
                    app.audit_for_page(self.connection, mode=self.console_options.mode, on_progress=tell),
                )
            )
        except SparekeyError as error:
            self.failure = error

    def _report_progress(self, done: int, total: int | None) -> None:
        self.progress = (done, total)

    async def refresh(self, users: Collection[UserId]) -> AuditView:
        """Read these users again; raises SparekeyError."""
        known = self.current_view()
        self.view = await anyio.to_thread.run_sync(
            lambda: _build_view(self, app.reread_users(self.connection, known.audit, users))
        )
        return self.view

    def current_view(self) -> AuditView:
        """What was read last; raises BadInputError where nothing was."""
        if self.view is None:
            raise BadInputError("no account has been read yet", "Open the overview: it reads the accounts.")
        return self.view

    # Exemptions

    async def propose_exemption(self, change: ExemptionChange) -> ProposedPolicy:
        """The policy file with one change; raises SparekeyError."""
        return await anyio.to_thread.run_sync(lambda: app.propose_exemption(self.connection, change))

    async def write_exemption(self, change: ExemptionChange, digest: str) -> None:
        """Write a proposed change, and judge what was read by the new policy; raises SparekeyError."""
        await anyio.to_thread.run_sync(lambda: app.write_exemption(self.connection, change, digest))
        if self.view is not None:
            await self.refresh(())

    # Who uses a key

    def checking_usage(self, who: UserId) -> bool:
        """True while it is read who uses this user's keys."""
        return who in self._checking_usage and not self._checking_usage[who].done()

    def check_usage(self, who: UserId) -> None:
        """Begin to read who uses a user's keys, unless that is under way; raises BadInputError."""
        keys = self.current_view().user(who).keys
        if isinstance(keys, Unreadable):
            raise BadInputError(f"the keys of {who[1]} could not be read", "Read again first.")
        if not self.checking_usage(who):
            self.usage_unread.pop(who, None)
            self._checking_usage[who] = asyncio.create_task(
                self._check_usage(who, [key.id for key in keys if key.id])
            )

    async def _check_usage(self, who: UserId, keys: list[str]) -> None:
        try:
            usages = await anyio.to_thread.run_sync(
                lambda: app.read_usage_of_accounts(
                    self.console_options.usage, {who[0]: keys}, self._wanted, self.connection
                )
            )
            self.usages.update({usage.key: usage for usage in usages})
            await self.refresh([who])
        except SparekeyError as error:
            self.usage_unread[who] = error

    # Plans

    async def make_plan(self, users: Collection[UserId], asked: Overrides = NO_OVERRIDES) -> Plan:
        """Decide on these users, and keep the plan until it is applied; raises BadInputError."""
        if not users:
            raise BadInputError("no user is chosen", "Choose at least one user with a spare key.")
        keys = {key.id for who in users for key in listed(self.current_view().user(who))}
        usages = tuple(usage for key, usage in self.usages.items() if key in keys)
        snapshot, chosen = self.current_view().audit.snapshot, frozenset(users)
        plan = await anyio.to_thread.run_sync(
            lambda: app.plan_again(
                self.connection,
                snapshot,
                overrides=asked,
                usages=usages,
                is_wanted=lambda account, name: (account, name) in chosen,
            )
        )
        self._plans[plan.digest] = plan
        while len(self._plans) > _MAX_PLANS:
            self._plans.popitem(last=False)
        return plan

    def plan(self, digest: str) -> Plan:
        """A plan that was made here; raises BadInputError."""
        try:
            return self._plans[digest]
        except KeyError:
            raise BadInputError(
                "this plan is no longer on this page", "Choose the users again: a new plan is made at once."
            ) from None

    async def keep_plan(self, plan: Plan) -> None:
        """Put a plan on record before its file leaves, so that `sparekey apply` knows it again if it can."""
        await anyio.to_thread.run_sync(lambda: app.register_plan(self.connection, plan))

    async def preflight(self, plan: Plan, limits: Limits) -> Preflight:
        """Ask all that would stop a plan; raises SparekeyError."""
        return await anyio.to_thread.run_sync(lambda: _checked(self.connection, plan, limits))

    def options(
        self, *, waves: str = "", healthy_for: str = "", watch: bool = True, windows: str | None = None
    ) -> RunOptions:
        """The options of a run; `windows`, one a line, replace those of the policy. Raises BadInputError."""
        return app.run_options(
            self.connection, waves=waves, healthy_for=healthy_for, watch=watch, change_windows=windows
        )

    # Runs

    async def apply(self, plan: Plan, options: RunOptions, limits: Limits) -> str:
        """Start to execute a plan; returns the run's id once the ledger has it. Raises SparekeyError."""

        def work(tell: Callable[[LedgerEntry], None]) -> RunRecord:
            _claim_plan(plan)
            return app.apply(
                self.connection, plan, limits=limits, options=options, on_event=tell, made_here=True
            )

        users = {(step.account, step.user) for step in plan.writes}
        return await self._start(self._applying, work, users)

    async def undo(self, run: str, key: str) -> str:
        """Begin to reactivate what a run deactivated, or one key of it. Raises SparekeyError."""

        def work(tell: Callable[[LedgerEntry], None]) -> RunRecord:
            _still_off(_load_record(run), key)
            return app.undo_run(self.connection, run, key=key, on_event=tell)

        record = await self.show(run)
        users = {(step.account, step.user) for step in record.steps if key in ("", step.key)}
        return await self._start(self._undoing, work, users, record.id)

    async def stop(self, run: str) -> None:
        """Let no further key of a run be deactivated; raises SparekeyError."""
        await anyio.to_thread.run_sync(lambda: app.stop(lambda: self.connection, run))

    async def resume(self, run: str) -> str:
        """Let a stopped run go on. Raises SparekeyError."""
        record = await self.show(run)
        users = {(step.account, step.user) for step in record.steps}
        return await self._start(self._applying, lambda tell: self._resume(run, tell), users, record.id)

    def _resume(self, run: str, tell: Callable[[LedgerEntry], None]) -> RunRecord:
        return app.resume(self.connection, run, on_event=tell)

    async def _start(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[Callable[[LedgerEntry], None]], RunRecord],
        users: Collection[UserId],
        run: str = "",
    ) -> str:
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[str] = loop.create_future()

        def on_entry(entry: LedgerEntry) -> None:
            with contextlib.suppress(RuntimeError):  # the console has ended, and nobody listens any more
                loop.call_soon_threadsafe(_begun, begun, entry.run)

        async def job() -> RunRecord:
            try:
                return await loop.run_in_executor(pool, work, on_entry)
            finally:
                await self._settle(users)

        task = loop.create_task(job())
        self._jobs.add(task)
        waiting: set[asyncio.Future[Any]] = {task, begun}
        await asyncio.wait(waiting, timeout=2 if run else None, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            self._jobs.discard(task)
            return task.result().id
        run = begun.result() if begun.done() else run
        self.busy[run] = self.busy.get(run, 0) + 1
        task.add_done_callback(lambda done: self._ended(run, done))
        return run

    def _ended(self, run: str, task: "asyncio.Task[RunRecord]") -> None:
        self._jobs.discard(task)
        self.busy[run] -= 1
        error = task.exception()
        if isinstance(error, SparekeyError):
            self.failures[run] = error
        elif error is not None:
            self.failures[run] = UnexpectedError.of(error)
        else:
            self.failures.pop(run, None)

    async def _settle(self, users: Collection[UserId]) -> None:
        """Read again what a run may have changed; where that fails, the overview says so."""
        if self.view is not None:
            try:
                await self.refresh(users)
            except SparekeyError as error:
                self.failure = error

    @property
    def is_busy(self) -> tuple[str, ...]:
        """The runs that this console executes now."""
        return tuple(run for run, jobs in self.busy.items() if jobs)

    def close(self) -> None:
        """End as Ctrl-C ends `apply`: the step in hand is finished and recorded, no further one begins."""
        for run in self.is_busy:
            with contextlib.suppress(RefusedError):  # it has ended meanwhile
                app.stop(lambda: self.connection, run)
        self._applying.shutdown(cancel_futures=True)
        self._undoing.shutdown()

    async def show(self, run: str) -> RunRecord:
        """One run by its ledger; raises BadInputError."""
        return await anyio.to_thread.run_sync(_load_record, run)

    async def has_worker(self) -> bool:
        """True where a worker is alive that would continue an unfinished run."""
        return bool(await anyio.to_thread.run_sync(_live_workers))

    async def runs(self) -> tuple[RunRecord, ...]:
        """Every run, newest first."""
        return (await anyio.to_thread.run_sync(_load_records))[::-1]


def _load_record(run: str) -> RunRecord:
    with app.run_records() as runs:
        return runs.show(run)


def _live_workers() -> int:
    with app.run_records() as runs:
        return len(runs.live_workers())


def _load_records() -> tuple[RunRecord, ...]:
    with app.run_records() as runs:
        return runs.list()


def _begun(begun: "asyncio.Future[str]", run: str) -> None:
    if not begun.done():
        begun.set_result(run)


def _build_view(state: ConsoleState, audit: Audit) -> AuditView:
    return audit_view(
        audit, app.plan_again(state.connection, audit.snapshot, usages=tuple(state.usages.values()))
    )


def _checked(connection: Connection, plan: Plan, limits: Limits) -> Preflight:
    _claim_plan(plan)
    return app.preflight(connection, plan, limits, app.run_options(connection), made_here=True)


def _claim_plan(plan: Plan) -> None:
    """Raise TakenError where a run has touched a key of this plan since the plan was made."""
    going = {(step.account, step.user, step.key) for step in plan.writes}
    for record in _load_records():
        if record.plan_digest == plan.digest and record.state not in (
            "applying",
            "waiting",
            "moving",
            "stopped",
        ):
            raise AlreadyStartedError(
                f"this plan was already executed by {record.caller}: run {record.id} is {record.state}",
                record.id,
            )
        for step in record.steps if record.plan_digest != plan.digest else ():
            late = step.changed_at is not None and step.changed_at > plan.generated
            if (step.account, step.user, step.key) in going and (
                late or STEP_STATES[step.state].phase == "in_progress"
            ):
                raise AlreadyStartedError(_outcome(step, record), record.id)


def _outcome(step: StepRecord, record: RunRecord) -> str:
    when = f" at {step.changed_at:%H:%M:%S} UTC" if step.changed_at else ""
    return (
        f"{step.key} of {step.user} was acted on first, by {record.caller}{when}: "
        f"run {record.id} says {STEP_STATES[step.state].label}"
    )


def _is_back(step: StepRecord) -> bool:
    state = STEP_STATES[step.state]
    return state.group == "reactivated" and state.phase == "ended"


def _still_off(record: RunRecord, key: str) -> None:
    """Raise TakenError where all that an undo concerns is back already."""
    steps = [step for step in record.steps if key in ("", step.key) and step.state != "held"]
    if steps and all(_is_back(step) for step in steps):
        raise AlreadyStartedError(_outcome(steps[-1], record), record.id)
