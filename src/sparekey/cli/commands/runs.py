"""`sparekey runs`."""

import click

from sparekey.cli.options import database_option, format_option
from sparekey.cli.output import print_report, render_options


@click.command("runs", short_help="List the runs, oldest first.")
@database_option
@format_option("runs")
def runs_command(format_: str) -> None:
    """List the runs that this state directory knows, oldest first. Asks nothing of AWS."""
    from sparekey import app, report

    with app.run_records() as runs:
        records = runs.list()
    print_report(report.render("runs", records, format_, render_options()))
