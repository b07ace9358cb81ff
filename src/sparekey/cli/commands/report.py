"""`sparekey report`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import database_option, report_options
from sparekey.cli.output import render_options

if TYPE_CHECKING:
    from sparekey.cli.output import ReportOutput


@command(
    "report",
    short_help="Report on a run or an audit.",
    category="Evidence",
    examples=(
        ("sparekey report r-42edaf2f -o run.html", "a run, as a page for an auditor"),
        ("sparekey report audit.json --format csv", "an audit that was written as JSON"),
    ),
)
@click.argument("what", metavar="RUN|AUDIT")
@report_options("run", default="html")
@database_option
def report_command(what: str, output: "ReportOutput") -> None:
    """Report on a run (its id), or on an audit (the file with its JSON), to stdout. Asks nothing of AWS."""
    from sparekey import app

    output.write_text(app.render_report(what, output.format, render_options(to_file=output.file is not None)))
