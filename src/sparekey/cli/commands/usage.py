"""`sparekey usage`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, format_option, look, progress, show, usage_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App, Progress, Request


@click.command("usage", short_help="Say who still uses a key.")
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
@format_option("usage")
@connecting(many=True)
def COMMAND(  # noqa: N802
    keys: tuple[str, ...],
    user: str,
    plan: Path | None,
    source: str,
    wanted_usage: "Callable[..., Request]",
    format_: str,
    connect: "Callable[[], App]",
) -> int:
    """Say who still uses a key: which application, from where, for what, and since when not any more.

    Named keys on a local archive need no AWS credentials. Exit code 4: something was unread.
    """
    from sparekey import app, report
    from sparekey.errors import BadInputError

    if sum((bool(keys), bool(user), bool(plan))) != 1:
        raise BadInputError("name keys, or --user, or --plan", "sparekey usage AKIA… --source archive=FOLDER")
    with progress("files read") as update:

        def told(done: "Progress") -> None:
            update(done.files, None)

        wanted = wanted_usage(on_progress=told)
        local = source.startswith("archive=") and not source.startswith("archive=s3://")
        if keys:
            usages = app.usage(source, keys, wanted, None if local else connect())
        else:
            here = connect()
            named = app.keys_of_plan(plan) if plan else app.keys_of_user(app.read(here), user)
            usages = app.usage_of_accounts(source, named, wanted, here)
    show(report.render("usage", usages, format_, look()))
    return 4 if any(one.unread for one in usages) else 0
