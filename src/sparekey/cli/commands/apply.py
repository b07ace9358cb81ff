"""`sparekey apply`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.confirmation import confirm, show_preflight
from sparekey.cli.help import command
from sparekey.cli.options import (
    connection_options,
    database_option,
    fail_on_held_option,
    notify_option,
    report_options,
    usage_options,
)
from sparekey.cli.output import message
from sparekey.cli.run_events import check_wait_or_detach, following, run_exit_code
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection, UsageRequest
    from sparekey.cli.output import ReportOutput


_ANY_TIME = ("any time",)


@command(
    "apply",
    short_help="Deactivate the keys of a plan and confirm it.",
    category="Act",
    examples=(
        ("sparekey apply plan.json", "show the plan, ask, deactivate, confirm"),
        ("sparekey apply plan.json --wait", "the same, and monitor until the watch ends"),
        (
            "sparekey apply plan.json --yes --waves 1,10,rest --healthy-for 8h --detach",
            "in waves, by a worker",
        ),
    ),
)
@click.argument("plan", type=click.Path(path_type=Path, dir_okay=False), metavar="PLAN")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; for scripts.")
@click.option(
    "--max-keys",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse a plan that deactivates more keys than this. A limit that is named binds;"
    " with none named: 50 keys or 20 % of the active keys read, whichever is more.",
)
@click.option(
    "--max-share",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Refuse a plan that deactivates more than this share of the active keys read, such as 0.1.",
)
@click.option(
    "--max-account-keys",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse a plan that deactivates more keys than this in one account. Default: no limit.",
)
@click.option(
    "--max-account-share",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Refuse a plan that deactivates more than this share of one account's active keys. Default: no limit.",
)
@click.option(
    "--force",
    multiple=True,
    metavar="KEY",
    help="Confirm, for --yes, that the plan retires this key by --force (repeatable). Needed only for a plan"
    " that was made with another state.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="KEY",
    help="Confirm, for --yes, that the plan keeps this key by --keep (repeatable).",
)
@click.option("--keep-old", is_flag=True, help="Confirm, for --yes, that the plan was made with --keep-old.")
@click.option(
    "--usage",
    default="",
    metavar="SOURCE",
    help="Read this usage source again (history, archive=PLACE or athena=TABLE) instead of using what the"
    " plan has of one.",
)
@usage_options
@click.option(
    "--waves", default="", metavar="SIZES", help="Users per wave: 1,10,rest. Default: all users in one wave."
)
@click.option(
    "--healthy-for",
    default="",
    metavar="TIME",
    help="Start the next wave once all probes of this one have been healthy for TIME, such as 2h. Default: when its"
    " watch ends.",
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="TEXT",
    help='Change window of this run instead of the policy\'s: "Mon-Thu 09:00-16:00 Europe/Berlin", or "any time"'
    " (repeatable).",
)
@click.option("--wait", is_flag=True, help="Wait until the watch ends.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@click.option(
    "--no-watch",
    is_flag=True,
    help="Do not monitor the keys after deactivating them; they end as not watched.",
)
@fail_on_held_option
@notify_option
@report_options("run")
@database_option
@connection_options()
def apply_command(
    plan: Path,
    yes: bool,
    max_keys: int | None,
    max_share: float | None,
    max_account_keys: int | None,
    max_account_share: float | None,
    force: tuple[str, ...],
    keep: tuple[str, ...],
    keep_old: bool,
    usage: str,
    usage_request: "Callable[..., UsageRequest]",
    waves: str,
    healthy_for: str,
    windows: tuple[str, ...],
    wait: bool,
    detach: bool,
    no_watch: bool,
    fail_on_held: bool,
    targets: tuple[str, ...],
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """Execute a plan: deactivate its keys, and confirm that they are Inactive.

    Asks first, and closes with what was done, how to undo it and until when it is watched; `sparekey show RUN` has
    the details. Each user is read again just before the write, and held if anything changed. A plan that was made
    with another state is decided again before it is shown. After a crash or Ctrl-C the same command continues.
    Exit code 0: every key that was not held is inactive; 1: a key did not turn inactive; 3: keys are held (with
    --fail-on-held); 4: the plan states that something could not be read.
    """
    from sparekey import app

    check_wait_or_detach(wait, detach)

    limits = app.Limits(
        max_keys=max_keys,
        max_share=max_share,
        account_keys=max_account_keys,
        account_share=max_account_share,
    )
    prepared = app.read_plan(plan)
    connection = connect()
    app.check_targets(connection, targets)
    options = app.run_options(
        connection,
        waves=waves,
        healthy_for=healthy_for,
        watch=not no_watch,
        windows=windows != _ANY_TIME,
        change_windows="\n".join(windows) if windows not in ((), _ANY_TIME) else None,
    )
    checked = app.preflight(
        connection,
        prepared,
        limits,
        options,
        detach=detach,
        repeated=app.Overrides(keep, dict.fromkeys(force, ""), keep_old),
        usage=usage,
        usage_request=usage_request() if usage else None,
    )
    going = checked.plan.writes
    show_preflight(checked, yes=yes)
    confirmed = confirm(checked, yes=yes) if going else False
    with following(connection, len(going), f"sparekey apply {plan}", targets) as (on_event, on_emergency):
        record = app.apply(
            connection,
            prepared,
            options=options,
            on_event=on_event,
            on_notice=message,
            on_emergency=on_emergency,
            wait=wait,
            detach=detach,
            checked=checked,
            confirmed=confirmed,
        )
    output.write(record, brief=VERBOSITY.level <= 0)
    message(
        *(
            f"not notified: {failed.target}: {failed.why}"
            for failed in app.notify_of_run(connection, record, targets)
        )
    )
    code = run_exit_code(record, handed_over=detach, fail_on_held=fail_on_held)
    return 4 if checked.plan.unread and code != 1 else code
