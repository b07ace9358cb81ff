"""`sparekey undo`."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, database_option, format_option, look, show, tell
from sparekey.cli.run_events import say

# A step in one of these is, or may be, inactive by the run's doing.
_OFF = ("in_doubt", "applied", "confirmed", "reactivating", "watching", "settled", "unwatched")
_NOT_BACK = ("failed", "in_doubt", "reactivating", "applied", "confirmed", "watching", "settled", "unwatched")

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App
    from sparekey.model import RunRecord, StepRecord


@click.command("undo", short_help="Reactivate what a run deactivated.")
@click.argument("run", metavar="RUN")
@click.option(
    "--key",
    default="",
    metavar="ID",
    help="Reactivate only this key. Default: every key that the run deactivated.",
)
@format_option("run")
@database_option
@connecting()
def COMMAND(  # noqa: N802
    run: str, key: str, format_: str, connect: "Callable[[], App]"
) -> int:
    """Reactivate what a run deactivated, at once, and read back that it is Active.

    RUN may be cut short to r- and four characters. Names the run and its keys first, and asks nothing.
    A key that somebody else changed since is left alone and named; one named by --key that is not
    deactivated yet is held. Exit code 1: a key did not come back.
    """
    from msgspec import structs

    from sparekey import app, report

    here = connect()
    tell(f"as {here.gateway.caller().arn}")
    record = app.undo(here, run, key=key, on_start=lambda found: tell(_announced(found, key)), on_event=say)
    if key:
        record = structs.replace(record, steps=tuple(step for step in record.steps if step.key == key))
    show(report.render("run", record, format_, look()))
    return 1 if any(step.state in _NOT_BACK for step in record.steps) else 0


def _announced(record: "RunRecord", key: str) -> str:
    """What is about to be done: of which run, how many keys, in which accounts."""
    off = [step for step in record.steps if step.state in _OFF and key in ("", step.key)]
    barred = [] if key else [step for step in off if step.never_reactivate]
    off = [step for step in off if step not in barred]
    keys = f"{len(off):,} key{'' if len(off) == 1 else 's'}"
    where = ", ".join(
        f"{count:,} in account {account}" for account, count in sorted(_by_account(off).items())
    )
    stay = ""
    if barred:
        verb, them = ("stays", "it") if len(barred) == 1 else ("stay", "them")
        stay = f"; {len(barred):,} {verb} Inactive: only --key reactivates {them}"
    begun = f"{record.opened:%Y-%m-%d %H:%M} UTC by {record.caller}"
    return (
        f"undo of run {record.id} (started {begun}): reactivates {keys}{': ' if where else ''}{where}{stay}"
    )


def _by_account(steps: "list[StepRecord]") -> "Counter[str]":
    return Counter(step.account for step in steps)
