"""Commands on runs: preflight, apply, undo, stop, resume, show."""

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from sparekey import guards
from sparekey import plan as planning
from sparekey.app import override, plan_refresh
from sparekey.app.connection import Connection
from sparekey.app.rotation import check_handovers, handovers, read_key_usage
from sparekey.app.run_records import own_state, run_records
from sparekey.app.state_outage import report_outages
from sparekey.aws.errors import AwsError
from sparekey.clock import Clock
from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.errors import BadInputError, RefusedError, SparekeyError
from sparekey.formatting import moment
from sparekey.guards import Limits
from sparekey.ledger import verification as verification
from sparekey.ledger.events import RunOptions
from sparekey.ledger.records import LedgerEntry, OnEvent
from sparekey.model import ACTIVE, Caller, RunRecord, StepRecord, Unreadable, Value
from sparekey.plan import Plan
from sparekey.policy import Span
from sparekey.probes import Prober, ProbeTools
from sparekey.revalidation import with_key_counts
from sparekey.runs.change_windows import check_window, is_open, next_opening
from sparekey.runs.emergency import OutageMessage
from sparekey.runs.reverse_script import reverse_commands
from sparekey.runs.service import RunService
from sparekey.usage import UsageRequest

OnNotice = Callable[[str], None]
OnEmergency = Callable[[OutageMessage], None]
DEFAULT_LIMITS = Limits()
# How often it is reported again that a rollback fails.
_REMIND_AFTER = timedelta(hours=1)


def ignore_event(_entry: LedgerEntry) -> None:
    """Ignore the entry."""


def ignore_notice(_text: str) -> None:
    """Ignore it."""


def ignore_emergency(_message: OutageMessage) -> None:
    """Ignore it."""


class Preflight(Value, frozen=True):
    """What is known before the first write: who writes, what could not be asked, how to go back by hand.

    `plan` is what would be executed: the file's, if this state made it (`known`), else the same wishes
    decided again. `reverse_file` will have `reverse`. `overrides` name what a person overruled, and `unconfirmed`
    those that only the file has.
    """

    caller: Caller
    unchecked: tuple[Unreadable, ...]
    warnings: tuple[str, ...]
    reverse: tuple[str, ...]
    reverse_file: str
    resumes: bool
    plan: Plan
    known: bool = True
    overrides: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


# Accounts whose permissions are asked about at once.
_SIMULATED_AT_ONCE = 16
_WRITER_NEEDS = ("iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey")


_ROTATOR_NEEDS = (*_WRITER_NEEDS, "iam:CreateAccessKey")


def preflight(
    connection: Connection,
    plan: Plan,
    limits: Limits = DEFAULT_LIMITS,
    options: RunOptions | None = None,
    *,
    detach: bool = False,
    made_here: bool = False,
    repeated: Overrides = NO_OVERRIDES,
    usage: str = "",
    usage_request: UsageRequest | None = None,
) -> Preflight:
    """Ask everything that would stop a plan; raises PlanError or RefusedError, and writes nothing.

    A plan that this state did not make, and that was not made in this process (`made_here`), is decided
    again. `repeated` are the overrides that the person names again; `usage` is a usage source to read now,
    instead of what the plan has of one. A run of the same plan that was cut off continues even if the plan has
    expired since: its age was asked when it began, and each user is read and decided on again.
    """
    caller = connection.caller({step.account for step in plan.writes})
    with _runs(connection, caller) as runs:
        record = runs.is_started(plan)
        reverse_file = str(runs.reverse_file(runs.run_id(plan)))
        known = made_here or record is not None or runs.is_registered(plan)
        asked_for, plan = plan, runs.plan_of(record.id) if record else plan
    if record is None:
        planning.check_usable(plan, caller, connection.policy, connection.clock.now())
    elif usage:
        raise BadInputError(
            f"--usage has no effect: run {record.id} of this plan has started",
            "Leave --usage out to resume it.",
        )
    guards.refusals(plan, caller, limits)
    if not known or usage:
        plan = _replanned(connection, plan, caller, limits, usage, usage_request)
    unchecked = () if record else check_handovers(connection, plan)
    unconfirmed = override.unrepeated_overrides(asked_for.overrides, repeated)
    return Preflight(
        caller,
        _permissions(connection, plan),
        (*_warnings(connection, caller, plan, options or RunOptions(), detach=detach), *unchecked),
        _reverse(connection, plan),
        reverse_file,
        resumes=record is not None,
        plan=plan,
        known=known,
        overrides=override.describe_overrides(plan, connection.policy, connection.clock.now()),
        unconfirmed=() if known else unconfirmed,
    )


def _replanned(
    connection: Connection,
    plan: Plan,
    caller: Caller,
    limits: Limits,
    usage: str,
    usage_request: UsageRequest | None,
) -> Plan:
    """The plan as it results now; no number in its file widens a limit."""
    counts: Mapping[str, int] = {}
    if limits.needs_key_counts(len(plan.writes)):
        counts = plan_refresh.active_keys(connection, plan, limits)
        guards.refusals(with_key_counts(plan, counts), caller, limits)
    again = plan_refresh.replan(connection, plan, caller, counts, usage, usage_request)
    guards.refusals(again, caller, limits)
    return again


def _warnings(
    connection: Connection, caller: Caller, plan: Plan, options: RunOptions, *, detach: bool
) -> tuple[str, ...]:
    with _runs(connection, caller) as runs:
        warnings = runs.warnings(plan, connection.policy, options)
        if detach and not runs.live_workers():
            warnings += ("no worker is alive: the run begins when `sparekey worker` is started",)
    warnings += caller.unknown
    windows, now = options.windows, connection.clock.now()
    if not is_open(windows, now):
        opens = moment(next_opening(windows, now))
        warnings += (
            f"no change window is open: the first key is deactivated from {opens} on, with a worker or --wait",
        )
    return warnings


def register_plan(connection: Connection, plan: Plan) -> str:
    """Put a plan that was just made on record, so that apply knows it again; returns why that failed, or nothing."""
    try:
        with run_records(connection.clock) as runs:
            runs.register(plan)
    except SparekeyError as error:
        return error.message
    return ""


def _permissions(connection: Connection, plan: Plan) -> tuple[Unreadable, ...]:
    denied: list[str] = []
    unchecked: list[Unreadable] = []
    asked = [
        (connection.account(account), needs, sorted({step.preconditions.arn for step in steps}))
        for needs, writes in ((_WRITER_NEEDS, plan.deactivations), (_ROTATOR_NEEDS, plan.rotations))
        for account, steps in groupby(writes, lambda step: step.account)
    ]
    with ThreadPoolExecutor(_SIMULATED_AT_ONCE) as pool:
        answers = pool.map(lambda item: item[0].simulate(item[1], item[2]), asked)
        for (account, _, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Unreadable):
                unchecked.append(answer)
            else:
                denied += [f"{action} in account {account.account_id}" for action in answer]
    if denied:
        raise RefusedError(
            f"these credentials lack {', '.join(denied)}",
            "`sparekey iam-policy apply` (rotate for a rotation) prints the least policy. Nothing was changed.",
        )
    return tuple(unchecked)


def run_options(
    connection: Connection,
    *,
    waves: str = "",
    healthy_for: str = "",
    watch: bool = True,
    windows: bool = True,
    change_windows: str | None = None,
) -> RunOptions:
    """The options of a run from their texts: `waves` such as "1,10,rest"; raises BadInputError.

    `change_windows`, one a line, replace those of the policy; an empty text is no window: at any time.

    The next wave starts once every key of a wave has settled, or its probes have been healthy for `healthy_for`.
    """
    sizes = tuple(_wave_size(size.strip()) for size in waves.split(",")) if waves else (None,)
    if healthy_for and not waves:
        raise BadInputError(
            "--healthy-for is the time before the next wave, and there is only one",
            "Name the waves, too: 1,10,rest.",
        )
    if None in sizes[:-1]:
        raise BadInputError(f"--waves {waves}: no wave can follow rest", "Write 1,10,rest.")
    try:
        green = Span.parse(healthy_for).total_seconds() if healthy_for else None
    except ValueError as error:
        raise BadInputError(f"--healthy-for: {error}", 'Such as "8h".') from None
    opened = connection.policy.windows
    if change_windows is not None:
        opened = tuple(line.strip() for line in change_windows.splitlines() if line.strip())
        for window in opened:
            check_window(window, connection.clock.now().date())
    return RunOptions(
        waves=sizes if sizes[-1] is None else (*sizes, None),
        healthy_for=green,
        watch=connection.policy.watch.total_seconds() if watch else 0.0,
        windows=opened if windows else (),
    )


def _wave_size(size: str) -> int | None:
    if size == "rest":
        return None
    if not size.isascii() or not size.isdigit() or int(size) < 1:
        raise BadInputError(f"--waves: {size!r} is no number of users", "Write 1,10,rest.")
    return int(size)


def apply(
    connection: Connection,
    plan: Plan,
    *,
    limits: Limits = DEFAULT_LIMITS,
    options: RunOptions | None = None,
    on_event: OnEvent = ignore_event,
    on_notice: OnNotice = ignore_notice,
    on_emergency: OnEmergency = ignore_emergency,
    wait: bool = False,
    detach: bool = False,
    made_here: bool = False,
    checked: Preflight | None = None,
    confirmed: bool = False,
) -> RunRecord:
    """Execute a plan, or continue where it was cut off.

    `checked` is the preflight that a person has seen; without it, everything is asked now. Overrides for which
    only the plan's file names are executed if a person has `confirmed` them. Returns after confirmation,
    with `wait` after the watch, with `detach` at once. `on_notice` gets whom this process waits for and, with
    `wait`, faults of the state; `on_emergency` by what the run is watched while the state cannot be used.
    """
    if checked is None:
        checked = preflight(connection, plan, limits, options, made_here=made_here)
    elif not checked.resumes:
        # A question may stand for days.
        planning.check_usable(plan, checked.caller, connection.policy, connection.clock.now())
    if checked.unconfirmed and not confirmed:
        raise override.unconfirmed_error(checked.unconfirmed)
    with _runs(connection, checked.caller, on_notice if wait else None) as runs:
        return runs.apply(
            checked.plan,
            connection.policy,
            asked_for=plan,
            options=options,
            reverse=checked.reverse,
            on_event=on_event,
            on_notice=on_notice,
            on_emergency=on_emergency,
            wait=wait,
            detach=detach,
        )


def resume(
    connection: Connection,
    run: str,
    *,
    on_event: OnEvent = ignore_event,
    on_notice: OnNotice = ignore_notice,
    on_emergency: OnEmergency = ignore_emergency,
    wait: bool = False,
    detach: bool = False,
) -> RunRecord:
    """Let a stopped run go on; returns when `apply` would."""
    with _runs(connection, connection.caller(()), on_notice if wait else None) as runs:
        return runs.resume(
            run,
            on_event=on_event,
            on_notice=on_notice,
            on_emergency=on_emergency,
            wait=wait,
            detach=detach,
        )


def stop(connect: Callable[[], Connection], run: str) -> RunRecord:
    """Deactivate no further key of a run; the current step is finished, the watch continues.

    Where AWS does not say who asks, it is put down to the user of this machine: stopping needs no AWS.
    """
    clock: Clock | None = None
    try:
        here = connect()
        clock, caller = here.clock, here.caller(())
    except AwsError:
        caller = Caller("", f"{_user_of_this_machine()} (not known to AWS)")
    with run_records(clock, caller) as runs:
        return runs.stop(run)


def _user_of_this_machine() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"  # as in a container


def run_worker(
    connection: Connection,
    until: Callable[[], bool],
    on_rollback: Callable[[RunRecord, StepRecord], None] | None = None,
    on_failure: Callable[[str, str], None] = lambda _run, _why: None,
    on_notice: Callable[[str], None] = lambda _text: None,
    on_state: Callable[[str], None] = lambda _what: None,
    on_emergency: OnEmergency = ignore_emergency,
    on_event: OnEvent = ignore_event,
) -> None:
    """Execute and monitor runs until `until` returns True: what `sparekey worker` does.

    `on_rollback` gets every automatic rollback since the worker started, whichever worker made it, of
    every key that could not be brought back (`rollback_failed`), again every hour, of every key that only a
    person may bring back, and once of a rotation that stalls or whose new key was lost;
    `on_failure` of a run and why the work on it failed; `on_notice` of faults of
    the state; `on_event` of each new entry of every unfinished run; `on_state` when the state cannot be reached, and
    can again; `on_emergency` when runs are watched without it.
    """
    with runs_of(connection) as runs, own_state() as state, report_outages(state, on_state):
        ends = connection.gateway.credentials_expire_at()
        heard = _RollbackNotices(runs, connection.clock, on_rollback or (lambda _record, _step: None))

        def handle(entry: LedgerEntry) -> None:
            on_event(entry)
            heard.handle(entry)

        runs.run_worker(
            until,
            credentials_until=ends,
            on_event=handle,
            on_failure=on_failure,
            on_notice=on_notice,
            on_emergency=on_emergency,
            on_event_without_state=heard.handle_recorded,
        )


# By the kind of an entry, the state of its step that a person must hear of.
_STATE_REPORTED = {
    "confirmed": "rolled_back",
    "failed": "rollback_failed",
    "move-checked": "stalled",
    "orphan-inactive": "orphaned",
}


class _RollbackNotices:
    """Reports rollbacks, failed ones, and rotations that need a person, from the entries as they come."""

    def __init__(self, runs: RunService, clock: Clock, tell: Callable[[RunRecord, StepRecord], None]) -> None:
        self._runs, self._clock, self._notify = runs, clock, tell
        self._reported: dict[tuple[str, str, str], datetime] = {}

    def handle(self, entry: LedgerEntry) -> None:
        """An entry: only few kinds matter to a person who is not looking."""
        if self._matters(entry):
            self.handle_recorded(entry, self._runs.show(entry.run))

    @staticmethod
    def _matters(entry: LedgerEntry) -> bool:
        if entry.kind == "confirmed":
            return bool(entry.body["status"] == ACTIVE)
        if entry.kind == "move-checked":
            return bool(entry.body["stalled"])
        return entry.kind in ("failed", "not-reactivated", "orphan-inactive")

    def handle_recorded(self, entry: LedgerEntry, record: RunRecord) -> None:
        """The same, with the record of its run."""
        if not self._matters(entry):
            return
        for step in record.steps:
            if (step.account, step.key) == (entry.body["account"], entry.body["key"]):
                self._report(record, step, entry.kind)

    def _report(self, record: RunRecord, step: StepRecord, kind: str) -> None:
        left = kind == "not-reactivated" and step.not_reactivated in ("rollback", "no-active-key")
        state = _STATE_REPORTED.get(kind)
        now, what = self._clock.now(), (record.id, step.key, kind)
        last = self._reported.get(what)
        news = last is None or (kind == "failed" and abs(now - last) >= _REMIND_AFTER)
        if news and (left or step.state == state):
            self._reported[what] = now
            self._notify(record, step)


@contextmanager
def runs_of(connection: Connection) -> Iterator[RunService]:
    """The run service with the caller's credentials: apply, resume, undo, delete."""
    with _runs(connection, connection.caller(())) as service:
        yield service


@contextmanager
def _runs(
    connection: Connection, caller: Caller, on_outage: Callable[[str], None] | None = None
) -> Iterator[RunService]:
    """The run service; `on_outage` is called when the state cannot be reached, and when it can again."""
    with ExitStack() as stack:
        state = stack.enter_context(own_state())
        if on_outage:
            stack.enter_context(report_outages(state, on_outage))
        probes = Prober(ProbeTools(os.environ, connection.gateway.alarm_state))
        yield RunService(
            state,
            connection.clock,
            connection.account,
            caller,
            probes=probes,
            caller_now=connection.caller_now,
            handover=handovers(connection),
            read_usage=partial(read_key_usage, connection),
        )


def _reverse(connection: Connection, plan: Plan) -> tuple[str, ...]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_IAM") or os.environ.get("AWS_ENDPOINT_URL", "")
    # An accounts file is read once, not for each account.
    listed = connection.selected_accounts().targets if connection.account_choice.accounts_file else ()
    targets = {target.id: target for target in listed if target.id != connection.gateway.account}
    return reverse_commands(
        plan,
        profile=connection.profile,
        region=connection.region,
        endpoint_url=endpoint,
        target_of=targets.get if targets else connection.target,
    )
