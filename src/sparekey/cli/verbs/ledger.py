"""`sparekey ledger`."""

import click

from sparekey.cli.shell import database_option, show, tell


@click.group("ledger", short_help="Verify or export what was done.")
def COMMAND() -> None:  # noqa: N802
    """Verify or export the record of what was intended and done. Asks nothing of AWS."""


@COMMAND.command("verify")
@click.argument("run", metavar="[RUN]", default="")
@database_option
@click.option("--head", default="", metavar="HASH", help="A head that was kept elsewhere; needs RUN.")
def verify(run: str, head: str) -> int:
    """Find an entry that was edited, removed or reordered, and say which.

    Only with a head that was kept elsewhere can a cut-off tail be seen. Exit code 1: a chain is broken.
    """
    from sparekey import app
    from sparekey.errors import BadInputError

    if head and not run:
        raise BadInputError("--head is the head of one run", "Name the run: ledger verify RUN --head HASH")
    told = app.verify_ledger(run, head)
    for one in told:
        verdict = "BROKEN" if one.broken else "whole"
        show((f"{one.run}  {verdict}  {one.entries} entries  head {one.head}\n",))
        tell(*(f"  {one.run}: {what}" for what in one.broken))
    if not told:
        tell("there is no run yet")
    return 1 if any(one.broken for one in told) else 0


@COMMAND.command("export")
@click.argument("run", metavar="[RUN]", default="")
@database_option
def export(run: str) -> None:
    """Write every entry, or those of one run, as JSON lines to stdout."""
    from sparekey import app

    show(f"{line.rstrip()}\n" for line in app.export_ledger(run))
