"""`sparekey report`."""

import click

from sparekey.cli.options import database_option, format_option
from sparekey.cli.output import print_report, render_options


@click.command("report", short_help="Report on a run or an audit.")
@click.argument("what", metavar="RUN|AUDIT")
@format_option("run", default="html")
@database_option
def report_command(what: str, format_: str) -> None:
    """Report on a run (its id), or on an audit (the file with its JSON), to stdout. Asks nothing of AWS."""
    from sparekey import app

    print_report(app.render_report(what, format_, render_options()))
