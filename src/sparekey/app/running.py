"""The verbs that run: preflight, apply, undo, and what is told of runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from sparekey import guards
from sparekey import plan as planning
from sparekey.app.session import App
from sparekey.aws.gateway import AccountGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import RefusedError, SparekeyError
from sparekey.guards import Limits
from sparekey.home import home
from sparekey.ledger import Entry
from sparekey.model import Caller, RunRecord, Unreadable, Value
from sparekey.plan import Plan
from sparekey.run.reverse import reverse_commands
from sparekey.run.runs import Runs
from sparekey.run.state import State

OnEvent = Callable[[Entry], None]
DEFAULT_LIMITS = Limits()


def unheard(_entry: Entry) -> None:
    """Nobody listens."""


class Preflight(Value, frozen=True):
    """What is known before the first write: who writes, what could not be asked, how to go back by hand."""

    caller: Caller
    unchecked: tuple[Unreadable, ...]
    reverse: tuple[str, ...]
    resumes: bool


_WRITER_NEEDS = ("iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey")


def preflight(app: App, plan: Plan, limits: Limits = DEFAULT_LIMITS) -> Preflight:
    """Ask everything that would stop a plan; raises PlanError or RefusedError, and writes nothing.

    A run of the same plan that was cut off goes on even if the plan has expired since: its age was asked
    when it began, and each user is read and decided on again.
    """
    caller = app.gateway.caller()
    with _runs(app, caller) as runs:
        record = runs.begun(plan)
    if record is None:
        planning.check_usable(plan, caller, app.policy, app.clock.now())
    guards.refuse(plan, caller, limits)
    unchecked = _permissions(app, plan)
    return Preflight(caller, unchecked, _reverse(app, plan), resumes=record is not None)


def _permissions(app: App, plan: Plan) -> tuple[Unreadable, ...]:
    denied: list[str] = []
    unchecked: list[Unreadable] = []
    by_account: dict[str, set[str]] = {}
    for step in plan.deactivations:
        by_account.setdefault(step.account, set()).add(step.preconditions.arn)
    for account, arns in sorted(by_account.items()):
        match app.account(account).simulate(_WRITER_NEEDS, sorted(arns)):
            case Unreadable() as unread:
                unchecked.append(unread)
            case actions:
                denied += [f"{action} in account {account}" for action in actions]
    if denied:
        raise RefusedError(
            f"these credentials lack {', '.join(denied)}",
            "`sparekey iam-policy apply` prints the least policy that a run needs. Nothing was changed.",
        )
    return tuple(unchecked)


def apply(app: App, plan: Plan, *, limits: Limits = DEFAULT_LIMITS, on_event: OnEvent = unheard) -> RunRecord:
    """Carry out a plan, or go on with it where it was cut off; everything is asked again first."""
    checked = preflight(app, plan, limits)
    with _runs(app, checked.caller) as runs:
        return runs.apply(plan, app.policy, reverse=checked.reverse, on_event=on_event)


def undo(app: App, run: str, *, key: str = "", on_event: OnEvent = unheard) -> RunRecord:
    """Reactivate what a run deactivated, all of it or one key; never waits for anything."""
    with _runs(app, app.gateway.caller()) as runs:
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
def _runs(app: App, caller: Caller) -> Iterator[Runs]:
    with closing(_state()) as state:
        yield Runs(state, app.clock, app.account, caller)


@contextmanager
def _told(clock: Clock | None) -> Iterator[Runs]:
    """The runs for who only reads of them: no credentials, and no account that could be entered."""

    def no_account(account: str) -> AccountGateway:
        raise SparekeyError(f"account {account} is not needed to read of a run")

    with closing(_state()) as state:
        yield Runs(state, clock or SystemClock(), no_account, Caller("", ""))


def _state() -> State:
    return State(home(), os.environ.get("SPAREKEY_DATABASE_URL", ""))


def _reverse(app: App, plan: Plan) -> tuple[str, ...]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_IAM") or os.environ.get("AWS_ENDPOINT_URL", "")
    return reverse_commands(plan, profile=app.profile, region=app.region, endpoint_url=endpoint)
