"""`sparekey ledger`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import database_option, show, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparekey.app import Verification


@click.group("ledger", short_help="Verify or export what was done.")
def COMMAND() -> None:  # noqa: N802
    """Verify or export the record of what was intended and done. Asks nothing of AWS."""


@COMMAND.command("verify")
@click.argument("run", metavar="[RUN]", default=None, required=False)
@database_option
@click.option("--head", default=None, metavar="HASH", help="A head that was kept elsewhere; needs RUN.")
def verify(run: str | None, head: str | None) -> int:
    """Account for every row of the ledger, and name each one that was edited, removed, added or reordered.

    A cut-off tail is certain to be found only with a head that was kept elsewhere. Exit code 1: something is broken.
    """
    from sparekey import app
    from sparekey.errors import BadInputError

    if head is not None and run is None:
        raise BadInputError("--head is the head of one run", "Name the run: ledger verify RUN --head HASH")
    found = app.verify_ledger(run, head)
    show(_verdicts(found))
    for chain in found.chains:
        tell(*(f"  {chain.run}: {what}" for what in chain.broken))
    tell(*(f"  ledger: {what}" for what in found.faults))
    if not found.chains:
        tell("there is no run yet")
    return 0 if found.whole else 1


def _verdicts(found: "Verification") -> "Iterator[str]":
    from sparekey.formatting import clean

    plans = [chain for chain in found.chains if chain.run.startswith("p-") and not chain.broken]
    if plans:
        yield f"plans  whole  {len(plans)} on record\n"
    for chain in (chain for chain in found.chains if chain not in plans):
        verdict = "BROKEN" if chain.broken else "whole"
        line = f"{chain.run}  {verdict}  {chain.entries} entries  head {chain.head}"
        yield clean(line).replace("\n", "\\n") + "\n"
    if found.faults:
        yield "ledger  BROKEN\n"


@COMMAND.command("export")
@click.argument("run", metavar="[RUN]", default=None, required=False)
@database_option
def export(run: str | None) -> None:
    """Write every entry, or those of one run, as JSON lines to stdout."""
    from sparekey import app

    show(f"{line.rstrip()}\n" for line in app.export_ledger(run))
