"""`sparekey runs`."""

import click

from sparekey.cli.options import database_option, format_option, look, show


@click.command("runs", short_help="List the runs, oldest first.")
@database_option
@format_option("runs")
def COMMAND(format_: str) -> None:  # noqa: N802
    """List the runs that this state directory knows, oldest first. Asks nothing of AWS."""
    from sparekey import app, report

    show(report.render("runs", app.runs(), format_, look()))
