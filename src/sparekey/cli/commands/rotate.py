"""`sparekey rotate`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.confirmation import confirm, show_preflight
from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, report_options
from sparekey.cli.output import message, notice, print_report, progress, render_options
from sparekey.cli.run_events import check_wait_or_detach, following, run_exit_code
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.cli.output import ReportOutput


@command(
    "rotate",
    short_help="Replace a user's old key by a new one.",
    category="Act",
    examples=(
        ("sparekey rotate --check", "test every handover of the policy; no key is created"),
        ("sparekey rotate --user etl-nightly", "plan, show, ask, and rotate one user's key"),
    ),
)
@click.option("--user", default="", metavar="NAME", help="The user: NAME or ACCOUNT/NAME.")
@click.option(
    "--check",
    is_flag=True,
    help="Only test where the new key would be put: permissions, format, and `after` with --check.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; for scripts.")
@click.option("--wait", is_flag=True, help="Wait until the applications have moved and the watch ends.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@report_options("run")
@database_option
@connection_options()
def rotate_command(
    user: str,
    check: bool,
    yes: bool,
    wait: bool,
    detach: bool,
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """Create a new key, put it where the applications read it, and deactivate the old one once they have moved.

    Until then the old key is active. The same as `sparekey plan --rotate --user NAME` and `sparekey apply`; a run
    that was cut off continues with `sparekey resume`. Exit code 0: the key is rotated, or its applications are moving;
    1: it failed; 3: the user's key is held.
    """
    from sparekey import app, report
    from sparekey.errors import BadInputError

    check_wait_or_detach(wait, detach)
    if not user and not check:
        raise BadInputError("no user is named", "sparekey rotate --user NAME, or sparekey rotate --check.")
    connection = connect()
    if check:
        return _check(connection, user)
    with progress("users read") as update:
        plan = app.plan(connection, overrides=app.Overrides(rotate=True), users=(user,), on_progress=update)
    if not plan.writes:
        print_report(report.render("plan", plan, "table", render_options()))
        notice("Nothing was changed.")
        return 4 if plan.unread else 3 if plan.held else 0
    options = app.run_options(connection)
    checked = app.preflight(connection, plan, options=options, detach=detach, made_here=True)
    show_preflight(checked, yes=yes)
    confirmed = confirm(checked, yes=yes)
    run = "sparekey resume RUN; `sparekey runs` lists it"
    with following(connection, len(plan.writes), run) as (on_event, on_emergency):
        record = app.apply(
            connection,
            plan,
            options=options,
            on_event=on_event,
            on_notice=message,
            on_emergency=on_emergency,
            wait=wait,
            detach=detach,
            made_here=True,
            checked=checked,
            confirmed=confirmed,
        )
    output.write(record, brief=VERBOSITY.level <= 0)
    return run_exit_code(record, handed_over=detach)


def _check(connection: "Connection", user: str) -> int:
    """Test the handovers of all users that one covers, or of one user; print what each came to."""
    from sparekey import app
    from sparekey.formatting import clean

    failed = 0
    checks = app.check_each_handover(connection, user)
    for item in checks:
        failed += not item.ready
        print_report((clean(f"{item.account}  {item.user}  {item.store}: {item.text}\n"),))
    if not checks:
        message("No [[handover]] of the policy covers a user. docs/how-to/rotate.md shows how to write one.")
    return 1 if failed else 0
