"""`sparekey resume`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connection_options, database_option, fail_on_held_option, format_option
from sparekey.cli.output import message, print_report, render_options
from sparekey.cli.run_events import check_wait_or_detach, emergency_reporter, print_event, run_exit_code
from sparekey.cli.secondary_output import SecondaryOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection


@click.command("resume")
@click.argument("run", metavar="RUN")
@click.option("--wait", is_flag=True, help="Wait until the watch ends.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@fail_on_held_option
@format_option("run")
@database_option
@connection_options()
def resume_command(
    run: str, wait: bool, detach: bool, fail_on_held: bool, format_: str, connect: "Callable[[], Connection]"
) -> int:
    """Let a stopped run go on."""
    from sparekey import app, report

    check_wait_or_detach(wait, detach)

    connection, aside = connect(), SecondaryOutput()
    with aside.running():
        record = app.resume(
            connection,
            run,
            on_event=print_event,
            on_notice=message,
            on_emergency=emergency_reporter(aside, connection),
            wait=wait,
            detach=detach,
        )
    print_report(report.render("run", record, format_, render_options()))
    return run_exit_code(record, handed_over=detach, fail_on_held=fail_on_held)
