"""`sparekey stop`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, database_option, format_option, look, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App


@click.command("stop", short_help="Deactivate no further key of a run.")
@click.argument("run", metavar="RUN")
@format_option("run")
@database_option
@connecting()
def COMMAND(run: str, format_: str, connect: "Callable[[], App]") -> None:  # noqa: N802
    """Stop a run from any machine that shares its state: no further key is deactivated.

    The step in hand is finished. Rollbacks and the watch go on. Works without AWS credentials, too.
    """
    from sparekey import app, report

    show(report.render("run", app.stop(connect, run), format_, look()))
