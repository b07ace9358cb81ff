"""The verbs that run: preflight, apply, undo, and what is told of runs."""

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from msgspec import structs

from sparekey import guards
from sparekey import plan as planning
from sparekey.app import override, plan_refresh
from sparekey.app.connection import App
from sparekey.app.state_outage import reporting
from sparekey.aws.errors import AwsError
from sparekey.aws.gateway import AccountGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import BadInputError, RefusedError, SparekeyError
from sparekey.formatting import escaped, moment
from sparekey.guards import Limits
from sparekey.ledger import verification as verification
from sparekey.ledger.copies import faults_against
from sparekey.ledger.events import Options
from sparekey.ledger.store import GENESIS, Entry
from sparekey.ledger.verification import Verification
from sparekey.model import ACTIVE, Caller, RunRecord, StepRecord, Unreadable, Value
from sparekey.plan import Plan
from sparekey.policy import Span
from sparekey.probes import Probes, Tools
from sparekey.revalidation import with_counts
from sparekey.runs.change_windows import is_open, next_opening
from sparekey.runs.emergency import Told
from sparekey.runs.reverse_script import reverse_commands
from sparekey.runs.service import Runs
from sparekey.runs.storage import State
from sparekey.selection import NOTHING_ASKED, Asked
from sparekey.settings import home
from sparekey.usage import Request

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
    """What is known before the first write: who writes, what could not be asked, how to go back by hand.

    `plan` is what would be carried out: the file's, if this state made it (`known`), else the same wishes
    decided on anew. `overrides` name what a person overruled, and `unconfirmed` those of them for which only
    the file speaks.
    """

    caller: Caller
    unchecked: tuple[Unreadable, ...]
    warnings: tuple[str, ...]
    reverse: tuple[str, ...]
    resumes: bool
    plan: Plan
    known: bool = True
    overrides: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


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
    made_here: bool = False,
    repeated: Asked = NOTHING_ASKED,
    usage: str = "",
    wanted_usage: Request | None = None,
) -> Preflight:
    """Ask everything that would stop a plan; raises PlanError or RefusedError, and writes nothing.

    A plan that this state did not make, and that was not made in this process (`made_here`), is decided on
    anew. `repeated` are the overrides that the person names again; `usage` is a usage source to read now,
    instead of what the plan has of one. A run of the same plan that was cut off goes on even if the plan has
    expired since: its age was asked when it began, and each user is read and decided on again.
    """
    caller = app.caller({step.account for step in plan.deactivations})
    with _runs(app, caller) as runs:
        record = runs.begun(plan)
        known = made_here or record is not None or runs.knows(plan)
        asked_for, plan = plan, runs.plan_of(record.id) if record else plan
    if record is None:
        planning.check_usable(plan, caller, app.policy, app.clock.now())
    elif usage:
        raise BadInputError(
            f"--usage has no effect: run {record.id} of this plan has begun", "Leave --usage out: it goes on."
        )
    guards.refuse(plan, caller, limits)
    if not known or usage:
        plan = _decided_again(app, plan, caller, limits, usage, wanted_usage)
    unconfirmed = override.unrepeated(asked_for.asked, repeated)
    return Preflight(
        caller,
        _permissions(app, plan),
        _warnings(app, caller, plan, options or Options(), detach=detach),
        _reverse(app, plan),
        resumes=record is not None,
        plan=plan,
        known=known,
        overrides=override.described(plan, app.policy, app.clock.now()),
        unconfirmed=() if known else unconfirmed,
    )


def _decided_again(
    app: App, plan: Plan, caller: Caller, limits: Limits, usage: str, wanted: Request | None
) -> Plan:
    """The plan as it results now; no number in its file widens a limit."""
    counts: Mapping[str, int] = {}
    if limits.needs_counts(len(plan.deactivations)):
        counts = plan_refresh.active_keys(app, plan, limits)
        guards.refuse(with_counts(plan, counts), caller, limits)
    again = plan_refresh.decide_again(app, plan, caller, counts, usage, wanted)
    guards.refuse(again, caller, limits)
    return again


def _warnings(app: App, caller: Caller, plan: Plan, options: Options, *, detach: bool) -> tuple[str, ...]:
    with _runs(app, caller) as runs:
        warnings = runs.warnings(plan, app.policy, options)
        if detach and not runs.live_workers():
            warnings += ("no worker is alive: the run begins when `sparekey worker` is started",)
    warnings += caller.unknown
    windows, now = options.windows, app.clock.now()
    if not is_open(windows, now):
        opens = moment(next_opening(windows, now))
        warnings += (
            f"no change window is open: the first key goes from {opens} on, with a worker or --wait",
        )
    return warnings


def remember(app: App, plan: Plan) -> str:
    """Put a plan that was just made on record, so that apply knows it again; returns why that failed, or nothing."""
    try:
        with _told(app.clock) as runs:
            runs.remember(plan)
    except SparekeyError as error:
        return error.message
    return ""


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
    made_here: bool = False,
    checked: Preflight | None = None,
    confirmed: bool = False,
) -> RunRecord:
    """Carry out a plan, or go on with it where it was cut off.

    `checked` is the preflight that a person has seen; without it, everything is asked now. Overrides for which
    only the plan's file speaks are carried out if a person has `confirmed` them. Returns after confirmation,
    with `wait` after the watch, with `detach` at once. `on_notice` hears whom this process waits for.
    """
    if checked is None:
        checked = preflight(app, plan, limits, options, made_here=made_here)
    elif not checked.resumes:
        # A question may stand for days.
        planning.check_usable(plan, checked.caller, app.policy, app.clock.now())
    if checked.unconfirmed and not confirmed:
        raise override.unconfirmed_error(checked.unconfirmed)
    with _runs(app, checked.caller) as runs:
        return runs.apply(
            checked.plan,
            app.policy,
            asked_for=plan,
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
        clock, caller = here.clock, here.caller(())
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
    on_state: Callable[[str], None] = lambda _what: None,
    on_emergency: Callable[[Told], None] = lambda _told: None,
) -> None:
    """Carry and watch runs until `until` says so: what `sparekey worker` does.

    `on_rollback` is told of every key that came back by itself since the worker began, whoever brought it, of
    every key that could not be brought back (`rollback_failed`), again every hour, and of every key that only a
    person may bring back; `on_failure` of a run and why the work on it failed; `on_notice` of faults of
    the state; `on_state` when the state cannot be reached, and can again; `on_emergency` when runs are watched
    without it.
    """
    with runs_of(app) as runs, _own_state() as state, reporting(state, on_state):
        ends = app.gateway.credentials_end()
        heard = _Rollbacks(runs, app.clock, on_rollback or (lambda _record, _step: None))
        runs.work(
            until,
            credentials_until=ends,
            on_event=heard.hear,
            on_failure=on_failure,
            on_notice=on_notice,
            on_emergency=on_emergency,
            on_event_without_state=heard.hear_of,
        )


class _Rollbacks:
    """Tells of rollbacks and of those that failed, from the entries as they come."""

    def __init__(self, runs: Runs, clock: Clock, tell: Callable[[RunRecord, StepRecord], None]) -> None:
        self._runs, self._clock, self._tell = runs, clock, tell
        self._told: dict[tuple[str, str, str], datetime] = {}

    def hear(self, entry: Entry) -> None:
        """An entry: only few kinds can end or fail a rollback."""
        if self._matters(entry):
            self.hear_of(entry, self._runs.show(entry.run))

    @staticmethod
    def _matters(entry: Entry) -> bool:
        if entry.kind == "confirmed":
            return bool(entry.body["status"] == ACTIVE)
        return entry.kind in ("failed", "not-reactivated")

    def hear_of(self, entry: Entry, record: RunRecord) -> None:
        """The same, with the record of its run."""
        if not self._matters(entry):
            return
        for step in record.steps:
            if (step.account, step.key) == (entry.body["account"], entry.body["key"]):
                self._look(record, step, entry.kind)

    def _look(self, record: RunRecord, step: StepRecord, kind: str) -> None:
        left = kind == "not-reactivated" and step.not_reactivated in ("rollback", "no-active-key")
        state = {"confirmed": "rolled_back", "failed": "rollback_failed"}.get(kind)
        now, what = self._clock.now(), (record.id, step.key, kind)
        last = self._told.get(what)
        news = last is None or (kind == "failed" and abs(now - last) >= _REMIND)
        if news and (left or step.state == state):
            self._told[what] = now
            self._tell(record, step)


def follow(run: str, on_event: OnEvent, until: Callable[[RunRecord], bool] = lambda _: False) -> RunRecord:
    """Tell what happens in a run until it is over or stopped; from anywhere, without credentials."""
    with _told(None) as told:
        return told.follow(run, on_event, until)


def verify_ledger(run: str | None = None, head: str | None = None) -> Verification:
    """Account for every row of the ledger, or for one run's, against a head that was kept elsewhere."""
    kept = verification.parse_head(head) if head is not None else None
    with _own_state() as state:
        if run is None:
            return _with_copies(verification.verify_all(state.ledger), state)
        name = _recorded(state, run)
        return _with_copies(verification.verify_run(state.ledger, name, kept), state, name)


def _with_copies(found: Verification, state: State, run: str | None = None) -> Verification:
    faults = tuple(faults_against(state.ledger, state.copies, run))
    return structs.replace(found, faults=(*found.faults, *faults))


def export_ledger(run: str | None = None) -> Iterator[str]:
    """Every entry as it is stored, or those of one run, as JSON lines that a terminal may show."""
    with _own_state() as state:
        for row in verification.rows_of(state.ledger, None if run is None else _recorded(state, run)):
            yield escaped(verification.exported(row))


def _recorded(state: State, run: str) -> str:
    """The run that is meant: as it is written where it has entries, for a run may lack its first."""
    return run if run and state.ledger.head(run) != GENESIS else _whole_id(run)


def runs(clock: Clock | None = None) -> tuple[RunRecord, ...]:
    """Every run, oldest first; AWS is not asked."""
    with _told(clock) as told:
        return told.list()


def show(run: str, clock: Clock | None = None) -> RunRecord:
    """One run as its ledger tells it; AWS is not asked."""
    with _told(clock) as told:
        return told.show(run)


@contextmanager
def _own_state() -> Iterator[State]:
    """The state, closed at the end."""
    with closing(_state()) as state:
        yield state


@contextmanager
def runs_of(app: App) -> Iterator[Runs]:
    """The runs of this state, with the caller's credentials."""
    with _runs(app, app.caller(())) as found:
        yield found


@contextmanager
def _runs(app: App, caller: Caller) -> Iterator[Runs]:
    with _own_state() as state:
        probes = Probes(Tools(os.environ, app.gateway.alarm_state))
        yield Runs(state, app.clock, app.account, caller, probes=probes, caller_now=app.caller_now)


@contextmanager
def _told(clock: Clock | None, caller: Caller = _NOBODY) -> Iterator[Runs]:
    """The runs for who asks nothing of AWS: no credentials, and no account that could be entered."""

    def no_account(account: str) -> AccountGateway:
        raise SparekeyError(f"account {account} is not needed here")

    with _own_state() as state:
        yield Runs(state, clock or SystemClock(), no_account, caller)


def _whole_id(run: str) -> str:
    with _told(None) as told:
        return told.find(run)


def _state() -> State:
    return State(home(), os.environ.get("SPAREKEY_DATABASE_URL", ""))


def _reverse(app: App, plan: Plan) -> tuple[str, ...]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_IAM") or os.environ.get("AWS_ENDPOINT_URL", "")
    return reverse_commands(plan, profile=app.profile, region=app.region, endpoint_url=endpoint)
