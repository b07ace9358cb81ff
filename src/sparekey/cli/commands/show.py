"""`sparekey show`."""

import click

from sparekey.cli.options import database_option, format_option, look, show
from sparekey.cli.run_events import say


@click.command("show", short_help="Say what one run did.")
@click.argument("run", metavar="RUN")
@click.option("--follow", is_flag=True, help="Tell what happens until the run is over or stopped.")
@database_option
@format_option("run")
def COMMAND(run: str, follow: bool, format_: str) -> None:  # noqa: N802
    """Say what one run did, step by step, with AWS's request ids. Asks nothing of AWS.

    RUN may be cut short to r- and at least four more characters, where that names one run.
    """
    from sparekey import app, report

    record = app.follow(run, say) if follow else app.show(run)
    show(report.render("run", record, format_, look()))
