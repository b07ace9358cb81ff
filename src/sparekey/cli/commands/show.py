"""`sparekey show`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import database_option, report_options
from sparekey.cli.run_events import print_event

if TYPE_CHECKING:
    from sparekey.cli.output import ReportOutput


@command(
    "show",
    short_help="Show what one run did.",
    category="Watch",
    examples=(
        ("sparekey show r-42edaf2f", "what became of each key"),
        ("sparekey show r-42edaf2f --follow", "events as they happen"),
    ),
)
@click.argument("run", metavar="RUN")
@click.option("--follow", is_flag=True, help="Print events until the run ends or is stopped.")
@database_option
@report_options("run")
def show_command(run: str, follow: bool, output: "ReportOutput") -> None:
    """Show what one run did, step by step, with AWS's request ids. Makes no AWS call.

    RUN may be cut short to r- and at least four more characters, where that names one run.
    """
    from sparekey import app

    with app.run_records() as runs:
        record = runs.follow(run, print_event) if follow else runs.show(run)
    output.write(record)
