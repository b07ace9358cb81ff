"""`sparekey usage`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, report_options, usage_options
from sparekey.cli.output import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection, ReadProgress, UsageRequest
    from sparekey.cli.output import ReportOutput


@command(
    "usage",
    short_help="Show who still uses a key.",
    category="Look",
    examples=(
        ("sparekey usage --user billing-export", "who calls with the keys of a user, from the event history"),
        (
            "sparekey usage --plan plan.json --source archive=s3://logs/AWSLogs",
            "the contested keys of a plan, from a log archive",
        ),
    ),
)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--user", default="", metavar="NAME", help="The keys of this IAM user.")
@click.option(
    "--plan", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The keys of a plan."
)
@click.option(
    "--source",
    default="history",
    show_default=True,
    metavar="SOURCE",
    help="history, archive=PLACE or athena=TABLE.",
)
@usage_options
@report_options("usage")
@connection_options(many=True)
def usage_command(
    keys: tuple[str, ...],
    user: str,
    plan: Path | None,
    source: str,
    usage_request: "Callable[..., UsageRequest]",
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """Say who still uses a key: which application, from where, for what, and since when not any more.

    Named keys on a local archive need no AWS credentials. Exit code 4: something was unread.
    """
    from sparekey import app
    from sparekey.errors import BadInputError

    if sum((bool(keys), bool(user), bool(plan))) != 1:
        raise BadInputError("name keys, or --user, or --plan", "sparekey usage AKIA… --source archive=FOLDER")
    with progress("files read") as update:

        def show_progress(done: "ReadProgress") -> None:
            update(done.files, None)

        request = usage_request(on_progress=show_progress)
        local = source.startswith("archive=") and not source.startswith("archive=s3://")
        if keys:
            usages = app.read_usage(source, keys, request, None if local else connect())
        else:
            connection = connect()
            named = app.keys_of_plan(plan) if plan else app.keys_of_user(app.read_snapshot(connection), user)
            usages = app.read_usage_of_accounts(source, named, request, connection)
    output.write(usages)
    return 4 if any(usage.unread for usage in usages) else 0
