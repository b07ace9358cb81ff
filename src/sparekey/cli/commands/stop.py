"""`sparekey stop`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connection_options, database_option, format_option
from sparekey.cli.output import print_report, render_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection


@click.command("stop", short_help="Deactivate no further key of a run.")
@click.argument("run", metavar="RUN")
@format_option("run")
@database_option
@connection_options()
def stop_command(run: str, format_: str, connect: "Callable[[], Connection]") -> None:
    """Stop a run from any machine that shares its state: no further key is deactivated.

    The step in hand is finished. Rollbacks and the watch go on. Works without AWS credentials, too.
    """
    from sparekey import app, report

    print_report(report.render("run", app.stop(connect, run), format_, render_options()))
