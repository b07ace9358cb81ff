"""`sparekey stop`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, report_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.cli.output import ReportOutput


@command(
    "stop",
    short_help="Deactivate no further key of a run.",
    category="Act",
    examples=(("sparekey stop r-42edaf2f", "deactivate no further key; the watch continues"),),
)
@click.argument("run", metavar="RUN")
@report_options("run")
@database_option
@connection_options()
def stop_command(run: str, output: "ReportOutput", connect: "Callable[[], Connection]") -> None:
    """Stop a run from any machine that shares its state: no further key is deactivated.

    The step in hand is finished. Rollbacks and the watch go on. Works without AWS credentials, too.
    """
    from sparekey import app

    output.write(app.stop(connect, run))
