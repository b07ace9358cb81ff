"""`sparekey undo`."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, report_options
from sparekey.cli.output import message, print_report
from sparekey.cli.run_events import print_event
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.cli.output import ReportOutput
    from sparekey.model import RunRecord, StepRecord


@command(
    "undo",
    short_help="Reactivate what a run deactivated.",
    category="Act",
    examples=(
        ("sparekey undo r-42edaf2f", "reactivate everything that the run deactivated"),
        ("sparekey undo r-42edaf2f --key AKIAIOSFODNN7EXAMPLE", "reactivate one key"),
        ("sparekey undo r-42edaf2f --dry-run", "show what would be reactivated"),
    ),
)
@click.argument("run", metavar="RUN")
@click.option(
    "--key",
    default="",
    metavar="ID",
    help="Reactivate only this key. Default: every key that the run deactivated.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be reactivated; nothing is changed.")
@report_options("run")
@database_option
@connection_options()
def undo_command(
    run: str, key: str, dry_run: bool, output: "ReportOutput", connect: "Callable[[], Connection]"
) -> int:
    """Reactivate what a run deactivated, at once, and read back that it is Active.

    RUN may be cut short to r- and four characters. Names the run and its keys first, and asks nothing.
    A key that somebody else changed since is left alone and named; one named by --key that is not
    deactivated yet is held. Exit code 1: a key did not come back.
    """
    from msgspec import structs

    from sparekey import app
    from sparekey.states import STEP_STATES

    if dry_run:
        _show_what_undo_does(run, key)
        return 0
    connection = connect()
    message(f"as {connection.gateway.caller().arn}")
    record = app.undo_run(
        connection,
        run,
        key=key,
        on_start=lambda record_before: message(_announcement(record_before, key)),
        on_event=print_event,
    )
    if key:
        record = structs.replace(record, steps=tuple(step for step in record.steps if step.key == key))
    output.write(record, brief=VERBOSITY.level <= 0, undo=True)
    incomplete = (STEP_STATES[step.state] for step in record.steps)
    return 1 if any(state.may_be_inactive or state.handed_over for state in incomplete) else 0


def _show_what_undo_does(run: str, key: str) -> None:
    """Print the run and the keys that an undo would reactivate now, by the ledger; asks nothing of AWS."""
    from sparekey import app
    from sparekey.formatting import clean
    from sparekey.states import STEP_STATES

    with app.run_records() as runs:
        record = runs.plan_undo(run, key)
    message(_announcement(record, key), "Dry run: nothing was changed.")
    print_report(
        clean(f"{step.account}  {step.user}  {step.key}: would be reactivated\n")
        for step in _to_reactivate(record, key)
    )
    print_report(
        clean(f"{step.account}  {step.user}  {step.key}: its handover would be reverted\n")
        for step in record.steps
        if STEP_STATES[step.state].handed_over and key in ("", step.key)
    )


def _to_reactivate(record: "RunRecord", key: str) -> "list[StepRecord]":
    from sparekey.states import STEP_STATES

    off = [step for step in record.steps if STEP_STATES[step.state].may_be_inactive and key in ("", step.key)]
    return off if key else [step for step in off if not step.never_reactivate]


def _announcement(record: "RunRecord", key: str) -> str:
    """What is about to be done: of which run, how many keys, in which accounts."""
    from sparekey.formatting import moment
    from sparekey.states import STEP_STATES

    off = [step for step in record.steps if STEP_STATES[step.state].may_be_inactive and key in ("", step.key)]
    barred = [] if key else [step for step in off if step.never_reactivate]
    off = [step for step in off if step not in barred]
    keys = f"{len(off):,} key{'' if len(off) == 1 else 's'}"
    where = ", ".join(
        f"{count:,} in account {account}" for account, count in sorted(_by_account(off).items())
    )
    left = ""
    if barred:
        verb, them = ("is", "it") if len(barred) == 1 else ("are", "them")
        left = f"; {len(barred):,} {verb} left Inactive: only --key reactivates {them}"
    started = f"{moment(record.opened)} by {record.caller}"
    begun = sum(STEP_STATES[step.state].handed_over and key in ("", step.key) for step in record.steps)
    handed = f"; reverts {begun:,} handover{'' if begun == 1 else 's'}" if begun else ""
    head = f"undo of run {record.id} (started {started}): reactivates {keys}"
    return f"{head}{': ' if where else ''}{where}{left}{handed}"


def _by_account(steps: "list[StepRecord]") -> "Counter[str]":
    return Counter(step.account for step in steps)
