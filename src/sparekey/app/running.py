"""The verbs that run: preflight, apply, undo, and what is told of runs."""

import os
import pwd
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from sparekey import guards
from sparekey import plan as planning
from sparekey.app.session import App
from sparekey.aws.errors import AwsError
from sparekey.aws.gateway import AccountGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import BadInputError, RefusedError, SparekeyError
from sparekey.guards import Limits
from sparekey.home import home
from sparekey.ledger import Entry, Verified
from sparekey.model import ACTIVE, Caller, RunRecord, StepRecord, Unreadable, Value
from sparekey.plan import Plan
from sparekey.policy import Span
from sparekey.probes import Probes, Tools
from sparekey.run.entries import Options
from sparekey.run.reverse import reverse_commands
from sparekey.run.runs import Runs
from sparekey.run.state import State
from sparekey.run.windows import is_open, next_opening
from sparekey.words import moment

OnEvent = Callable[[Entry], None]
OnNotice = Callable[[str], None]
DEFAULT_LIMITS = Limits()
# How often it is said again that a rollback fails.
_REMIND = timedelta(hours=1)
_NOBODY = Caller("", "")


def unheard(_entry: Entry) -> None:
    """Nobody listens."""


def unnoticed(_text: str) -> None:
    """Nobody is told."""


class Preflight(Value, frozen=True):
    """What is known before the first write: who writes, what could not be asked, how to go back by hand."""

    caller: Caller
    unchecked: tuple[Unreadable, ...]
    warnings: tuple[str, ...]
    reverse: tuple[str, ...]
    resumes: bool


# Accounts whose permissions are asked about at once.
_ASKED_AT_ONCE = 16
_WRITER_NEEDS = ("iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey")


def preflight(
    app: App,
    plan: Plan,
    limits: Limits = DEFAULT_LIMITS,
    options: Options | None = None,
    *,
    detach: bool = False,
) -> Preflight:
    """Ask everything that would stop a plan; raises PlanError or RefusedError, and writes nothing.

    A run of the same plan that was cut off goes on even if the plan has expired since: its age was asked
    when it began, and each user is read and decided on again.
    """
    caller = app.gateway.caller()
    with _runs(app, caller) as runs:
        record = runs.begun(plan)
        warnings = runs.warnings(plan, app.policy, options or Options())
        if detach and not runs.live_workers():
            warnings += ("no worker is alive: the run begins when `sparekey worker` is started",)
    windows, now = (options or Options()).windows, app.clock.now()
    if not is_open(windows, now):
        opens = moment(next_opening(windows, now))
        warnings += (
            f"no change window is open: the first key goes from {opens} on, with a worker or --wait",
        )
    if record is None:
        planning.check_usable(plan, caller, app.policy, app.clock.now())
    guards.refuse(plan, caller, limits)
    unchecked = _permissions(app, plan)
    return Preflight(caller, unchecked, warnings, _reverse(app, plan), resumes=record is not None)


def _permissions(app: App, plan: Plan) -> tuple[Unreadable, ...]:
    denied: list[str] = []
    unchecked: list[Unreadable] = []
    by_account: dict[str, set[str]] = {}
    for step in plan.deactivations:
        by_account.setdefault(step.account, set()).add(step.preconditions.arn)
    asked = [(app.account(account), sorted(arns)) for account, arns in sorted(by_account.items())]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        answers = pool.map(lambda one: one[0].simulate(_WRITER_NEEDS, one[1]), asked)
        for (account, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Unreadable):
                unchecked.append(answer)
            else:
                denied += [f"{action} in account {account.account_id}" for action in answer]
    if denied:
        raise RefusedError(
            f"these credentials lack {', '.join(denied)}",
            "`sparekey iam-policy apply` prints the least policy that a run needs. Nothing was changed.",
        )
    return tuple(unchecked)


def options(
    app: App, *, waves: str = "", green_for: str = "", watch: bool = True, windows: bool = True
) -> Options:
    """How a run goes, as a person says it: `waves` such as "1,10,rest"; raises BadInputError.

    Between waves either every key of a wave has settled, or it has been green for `green_for`.
    """
    sizes = tuple(_wave(size.strip()) for size in waves.split(",")) if waves else (None,)
    if green_for and not waves:
        raise BadInputError(
            "--green-for says when the next wave begins, and there is one", "Name the waves, too: 1,10,rest."
        )
    if None in sizes[:-1]:
        raise BadInputError(f"--waves {waves}: nothing can follow the rest", "Write 1,10,rest.")
    try:
        green = Span.parse(green_for).total_seconds() if green_for else None
    except ValueError as error:
        raise BadInputError(f"--green-for: {error}", 'Such as "8h".') from None
    return Options(
        waves=sizes if sizes[-1] is None else (*sizes, None),
        green_for=green,
        watch=app.policy.watch.total_seconds() if watch else 0.0,
        windows=app.policy.windows if windows else (),
    )


def _wave(size: str) -> int | None:
    if size == "rest":
        return None
    if not size.isascii() or not size.isdigit() or int(size) < 1:
        raise BadInputError(f"--waves: {size!r} is no number of users", "Write 1,10,rest.")
    return int(size)


def apply(
    app: App,
    plan: Plan,
    *,
    limits: Limits = DEFAULT_LIMITS,
    options: Options | None = None,
    on_event: OnEvent = unheard,
    on_notice: OnNotice = unnoticed,
    wait: bool = False,
    detach: bool = False,
) -> RunRecord:
    """Carry out a plan, or go on with it where it was cut off; everything is asked again first.

    Returns after confirmation, with `wait` after the watch, with `detach` at once. `on_notice` hears whom this
    process waits for.
    """
    checked = preflight(app, plan, limits, options)
    with _runs(app, checked.caller) as runs:
        return runs.apply(
            plan,
            app.policy,
            options=options,
            reverse=checked.reverse,
            on_event=on_event,
            on_notice=on_notice,
            wait=wait,
            detach=detach,
        )


def stop(connect: Callable[[], App], run: str) -> RunRecord:
    """Let no further key of a run be deactivated; the step in hand is finished, the watch goes on.

    Where AWS does not say who asks, it is put down to the user of this machine: stopping needs no AWS.
    """
    clock: Clock | None = None
    try:
        here = connect()
        clock, caller = here.clock, here.gateway.caller()
    except AwsError:
        caller = Caller("", f"{_user_of_this_machine()} (not known to AWS)")
    with _told(clock, caller) as runs:
        return runs.stop(run)


def _user_of_this_machine() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"  # as in a container


def resume(
    app: App,
    run: str,
    *,
    on_event: OnEvent = unheard,
    on_notice: OnNotice = unnoticed,
    wait: bool = False,
    detach: bool = False,
) -> RunRecord:
    """Let a stopped run go on."""
    with runs_of(app) as runs:
        return runs.resume(run, on_event=on_event, on_notice=on_notice, wait=wait, detach=detach)


def work(
    app: App,
    until: Callable[[], bool],
    on_rollback: Callable[[RunRecord, StepRecord], None] | None = None,
    on_failure: Callable[[str, str], None] = lambda _run, _why: None,
    on_notice: Callable[[str], None] = lambda _text: None,
) -> None:
    """Carry and watch runs until `until` says so: what `sparekey worker` does.

    `on_rollback` is told of every key that came back by itself since the worker began, whoever brought it, and of
    every key that could not be brought back (`rollback_failed`), again every hour; `on_failure` of a run and why
    the work on it failed; `on_notice` that the database is away.
    """
    ends = app.gateway.credentials_end()
    with runs_of(app) as runs:
        heard = _Rollbacks(runs, app.clock, on_rollback or (lambda _record, _step: None))
        runs.work(
            until, credentials_until=ends, on_event=heard.hear, on_failure=on_failure, on_notice=on_notice
        )


class _Rollbacks:
    """Tells of rollbacks and of those that failed, from the entries as they come."""

    def __init__(self, runs: Runs, clock: Clock, tell: Callable[[RunRecord, StepRecord], None]) -> None:
        self._runs, self._clock, self._tell = runs, clock, tell
        self._told: dict[tuple[str, str, str], datetime] = {}

    def hear(self, entry: Entry) -> None:
        """An entry: only few kinds can end or fail a rollback."""
        if entry.kind not in ("confirmed", "failed"):
            return
        back = entry.kind == "confirmed" and entry.body["status"] == ACTIVE
        if not back and entry.kind == "confirmed":
            return
        record = self._runs.show(entry.run)
        for step in record.steps:
            if (step.account, step.key) == (entry.body["account"], entry.body["key"]):
                self._look(record, step, "rolled_back" if back else "rollback_failed")

    def _look(self, record: RunRecord, step: StepRecord, state: str) -> None:
        now, what = self._clock.now(), (record.id, step.key, step.state)
        last = self._told.get(what)
        news = last is None or (state == "rollback_failed" and abs(now - last) >= _REMIND)
        if step.state == state and news:
            self._told[what] = now
            self._tell(record, step)


def follow(run: str, on_event: OnEvent, until: Callable[[RunRecord], bool] = lambda _: False) -> RunRecord:
    """Tell what happens in a run until it is over or stopped; from anywhere, without credentials."""
    with _told(None) as told:
        return told.follow(run, on_event, until)


def verify_ledger(run: str = "", head: str = "") -> tuple[Verified, ...]:
    """Recompute every run's chain, or one run's against a head that was kept elsewhere."""
    wanted = _whole_id(run) if run else ""
    with closing(_state()) as state:
        return tuple(
            state.ledger.verify(name, head or None) for name in ((wanted,) if wanted else state.ledger.runs())
        )


def export_ledger(run: str = "") -> Iterator[str]:
    """Every entry, or those of one run, as JSON lines."""
    wanted = _whole_id(run) if run else None
    with closing(_state()) as state:
        yield from state.ledger.export(wanted)


def undo(app: App, run: str, *, key: str = "", on_event: OnEvent = unheard) -> RunRecord:
    """Reactivate what a run deactivated, all of it or one key; never waits for anything."""
    with runs_of(app) as runs:
        return runs.undo(run, key, on_event=on_event)


def runs(clock: Clock | None = None) -> tuple[RunRecord, ...]:
    """Every run, oldest first; AWS is not asked."""
    with _told(clock) as told:
        return told.list()


def show(run: str, clock: Clock | None = None) -> RunRecord:
    """One run as its ledger tells it; AWS is not asked."""
    with _told(clock) as told:
        return told.show(run)


@contextmanager
def runs_of(app: App) -> Iterator[Runs]:
    """The runs of this state, with the caller's credentials."""
    with _runs(app, app.gateway.caller()) as found:
        yield found


@contextmanager
def _runs(app: App, caller: Caller) -> Iterator[Runs]:
    with closing(_state()) as state:
        probes = Probes(Tools(os.environ, app.gateway.alarm_state))
        yield Runs(state, app.clock, app.account, caller, probes=probes)


@contextmanager
def _told(clock: Clock | None, caller: Caller = _NOBODY) -> Iterator[Runs]:
    """The runs for who asks nothing of AWS: no credentials, and no account that could be entered."""

    def no_account(account: str) -> AccountGateway:
        raise SparekeyError(f"account {account} is not needed here")

    with closing(_state()) as state:
        yield Runs(state, clock or SystemClock(), no_account, caller)


def _whole_id(run: str) -> str:
    with _told(None) as told:
        return told.find(run)


def _state() -> State:
    return State(home(), os.environ.get("SPAREKEY_DATABASE_URL", ""))


def _reverse(app: App, plan: Plan) -> tuple[str, ...]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_IAM") or os.environ.get("AWS_ENDPOINT_URL", "")
    return reverse_commands(plan, profile=app.profile, region=app.region, endpoint_url=endpoint)
