"""`sparekey undo`."""

from pathlib import Path

import click

from sparekey.cli.shell import aws_options, format_option, look, show

_NOT_BACK = ("failed", "in_doubt", "reactivating", "applied", "confirmed", "watching", "settled", "unwatched")


@click.command("undo")
@click.argument("run", metavar="RUN")
@click.option(
    "--key", default="", metavar="ID", help="Only this key; else every key that the run deactivated."
)
@format_option("table", "json")
@aws_options
def COMMAND(  # noqa: N802
    run: str, key: str, format_: str, profile: str | None, region: str | None, config: Path | None
) -> int:
    """Reactivate what a run deactivated, at once, and read back that it is Active.

    A key that somebody else changed since is left alone and named. Exit code 1: a key did not come back.
    """
    from msgspec import structs

    from sparekey import app, report

    here = app.connect(profile=profile, region=region, config=config)
    record = app.undo(here, run, key=key)
    if key:
        record = structs.replace(record, steps=tuple(step for step in record.steps if step.key == key))
    show(report.render("run", record, format_, look()))
    return 1 if any(step.state in _NOT_BACK for step in record.steps) else 0
