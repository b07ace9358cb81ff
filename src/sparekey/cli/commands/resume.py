"""`sparekey resume`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, database_option, format_option, look, show, tell
from sparekey.cli.run_events import refuse_both, run_exit_code, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App


@click.command("resume")
@click.argument("run", metavar="RUN")
@click.option("--wait", is_flag=True, help="Stay until the watch is over.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@format_option("run")
@database_option
@connecting()
def COMMAND(run: str, wait: bool, detach: bool, format_: str, connect: "Callable[[], App]") -> int:  # noqa: N802
    """Let a stopped run go on."""
    from sparekey import app, report

    refuse_both(wait, detach)

    record = app.resume(connect(), run, on_event=say, on_notice=tell, wait=wait, detach=detach)
    show(report.render("run", record, format_, look()))
    return run_exit_code(record, handed_over=detach)
