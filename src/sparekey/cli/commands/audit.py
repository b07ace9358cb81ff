"""`sparekey audit`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import (
    connecting,
    format_option,
    look,
    notify_option,
    progress,
    read_option,
    show,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparekey.app import App, ReadMode, Sent


def told_to_hub(sent: "Iterable[Sent]") -> int:
    """Say what Security Hub took of each account; exit code 1 where it did not take all."""
    code = 0
    for one in sent:
        tell(f"Security Hub {one.account}: {one.imported} open, {one.passed} passed, {one.archived} archived")
        tell(*(f"  refused {refused.id}: {refused.code} {refused.why}" for refused in one.refused))
        tell(f"  not whole: {one.error}" if one.error else "")
        code = code if one.whole else 1
    return code


@click.command("audit")
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="Ask this rule (repeatable); else two-active-keys."
)
@click.option(
    "--cis", default="", metavar="VERSION", help="Print each rule's number in this CIS version, such as 4.0."
)
@click.option("--all", "show_all", is_flag=True, help="Show the users who pass, too.")
@notify_option
@click.option(
    "--send-to-security-hub",
    "to_hub",
    is_flag=True,
    help="Import the findings, each account's with that account's credentials.",
)
@read_option
@format_option("audit")
@connecting(many=True)
def COMMAND(  # noqa: N802
    rules: tuple[str, ...],
    cis: str,
    show_all: bool,
    targets: tuple[str, ...],
    to_hub: bool,
    mode: "ReadMode",
    format_: str,
    connect: "Callable[[], App]",
) -> int:
    """Say who has spare keys. Read-only.

    Exit code 0: nobody; 3: somebody; 4: something could not be read, whatever else was found.
    """
    from sparekey import app, report

    here = connect()
    app.check_targets(here, targets)
    with progress("users read") as update:
        audit = app.audit(here, mode=mode, rules=rules, cis=cis, on_progress=update)
    show(report.render("audit", audit, format_, look(show_all=show_all)))
    code = app.exit_code(audit)
    if to_hub:
        code = told_to_hub(app.send_to_security_hub(here, audit)) or code
    tell(*(f"not told: {failed.target}: {failed.why}" for failed in app.tell_of_audit(here, audit, targets)))
    return code
