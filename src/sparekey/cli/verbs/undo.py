"""`sparekey undo`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.events import say
from sparekey.cli.shell import connecting, database_option, format_option, look, show

_NOT_BACK = ("failed", "in_doubt", "reactivating", "applied", "confirmed", "watching", "settled", "unwatched")

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App


@click.command("undo", short_help="Reactivate what a run deactivated.")
@click.argument("run", metavar="RUN")
@click.option(
    "--key", default="", metavar="ID", help="Only this key; else every key that the run deactivated."
)
@format_option("run")
@database_option
@connecting()
def COMMAND(  # noqa: N802
    run: str, key: str, format_: str, connect: "Callable[[], App]"
) -> int:
    """Reactivate what a run deactivated, at once, and read back that it is Active.

    A key that somebody else changed since is left alone and named; one named by --key that is not
    deactivated yet is held. Exit code 1: a key did not come back.
    """
    from msgspec import structs

    from sparekey import app, report

    here = connect()
    record = app.undo(here, run, key=key, on_event=say)
    if key:
        record = structs.replace(record, steps=tuple(step for step in record.steps if step.key == key))
    show(report.render("run", record, format_, look()))
    return 1 if any(step.state in _NOT_BACK for step in record.steps) else 0
