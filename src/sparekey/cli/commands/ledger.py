"""`sparekey ledger`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command_group
from sparekey.cli.options import database_option, output_option
from sparekey.cli.output import message, print_report, write_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparekey.app import VerificationResult


@command_group(
    "ledger",
    short_help="Verify or export what was done.",
    category="Evidence",
    examples=(
        ("sparekey ledger verify", "check every entry"),
        ("sparekey ledger export r-42edaf2f > run.jsonl", "one run, entry by entry"),
    ),
)
def ledger_command() -> None:
    """Verify or export the record of what was intended and done. Asks nothing of AWS."""


@ledger_command.command("verify")
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
    result = app.verify_ledger(run, head)
    print_report(_result_lines(result))
    for chain in result.chains:
        message(*(f"  {chain.run}: {what}" for what in chain.broken))
    message(*(f"  ledger: {what}" for what in result.faults))
    if not result.chains:
        message("there is no run yet")
    return 0 if result.intact else 1


def _result_lines(result: "VerificationResult") -> "Iterator[str]":
    from sparekey.formatting import clean

    plans = [chain for chain in result.chains if chain.run.startswith("p-") and not chain.broken]
    if plans:
        yield f"plans  whole  {len(plans)} on record\n"
    for chain in (chain for chain in result.chains if chain not in plans):
        verdict = "BROKEN" if chain.broken else "whole"
        line = f"{chain.run}  {verdict}  {chain.entries} entries  head {chain.head}"
        yield clean(line).replace("\n", "\\n") + "\n"
    if result.faults:
        yield "ledger  BROKEN\n"


@ledger_command.command("export")
@click.argument("run", metavar="[RUN]", default=None, required=False)
@database_option
@output_option
def export(run: str | None, file: Path | None) -> None:
    """Write every entry, or those of one run, as JSON lines to stdout."""
    from sparekey import app

    write_output((f"{line.rstrip()}\n" for line in app.export_ledger(run)), file)
