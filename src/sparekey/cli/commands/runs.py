"""`sparekey runs`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import database_option, report_options

if TYPE_CHECKING:
    from sparekey.cli.output import ReportOutput


# The names of sparekey.states.RUN_STATES, which the help must not import.
_STATES = (
    "applying",
    "waiting",
    "stopped",
    "moving",
    "watching",
    "settled",
    "unwatched",
    "rolled_back",
    "rollback_failed",
    "undone",
    "failed",
)


@command(
    "runs",
    short_help="List the runs, newest first.",
    category="Watch",
    examples=(
        ("sparekey runs --limit 5", "the five newest runs"),
        ("sparekey runs --state watching --format json", "the runs that are being watched"),
    ),
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the N newest. Default: all.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only runs in this state (repeatable).",
)
@database_option
@report_options("runs")
def runs_command(limit: int | None, states: tuple[str, ...], output: "ReportOutput") -> None:
    """List the runs that this state directory knows, newest first. Makes no AWS call."""
    from sparekey import app

    with app.run_records() as runs:
        records = tuple(record for record in reversed(runs.list()) if not states or record.state in states)
    output.write(records[:limit])
