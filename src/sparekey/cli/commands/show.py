"""`sparekey show`."""

import click

from sparekey.cli.options import database_option, format_option
from sparekey.cli.output import print_report, render_options
from sparekey.cli.run_events import print_event


@click.command("show", short_help="Show what one run did.")
@click.argument("run", metavar="RUN")
@click.option("--follow", is_flag=True, help="Print events until the run ends or is stopped.")
@database_option
@format_option("run")
def show_command(run: str, follow: bool, format_: str) -> None:
    """Show what one run did, step by step, with AWS's request ids. Makes no AWS call.

    RUN may be cut short to r- and at least four more characters, where that names one run.
    """
    from sparekey import app, report

    with app.run_records() as runs:
        record = runs.follow(run, print_event) if follow else runs.show(run)
    print_report(report.render("run", record, format_, render_options()))
