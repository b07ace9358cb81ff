"""`sparekey resume`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, fail_on_held_option, report_options
from sparekey.cli.output import message, notice
from sparekey.cli.run_events import check_wait_or_detach, following, run_exit_code
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.cli.output import ReportOutput


@command(
    "resume",
    category="Act",
    examples=(("sparekey resume r-42edaf2f --wait", "continue a stopped run and monitor it"),),
)
@click.argument("run", metavar="RUN")
@click.option("--wait", is_flag=True, help="Wait until the watch ends.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@fail_on_held_option
@report_options("run")
@database_option
@connection_options()
def resume_command(
    run: str,
    wait: bool,
    detach: bool,
    fail_on_held: bool,
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """Let a stopped run go on."""
    from sparekey import app

    check_wait_or_detach(wait, detach)

    connection = connect()
    notice(f"as {connection.caller(()).arn}")
    with app.run_records() as runs:
        keys = sum(step.state != "held" for step in runs.show(run).steps)
    with following(connection, keys, f"sparekey resume {run}") as (on_event, on_emergency):
        record = app.resume(
            connection,
            run,
            on_event=on_event,
            on_notice=message,
            on_emergency=on_emergency,
            wait=wait,
            detach=detach,
        )
    output.write(record, brief=VERBOSITY.level <= 0)
    return run_exit_code(record, handed_over=detach, fail_on_held=fail_on_held)
