"""`sparekey audit`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connection_options, format_option, notify_option, read_option
from sparekey.cli.output import message, print_report, progress, render_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparekey.app import Connection, ReadMode, SecurityHubResult


def security_hub_summary(sent: "Iterable[SecurityHubResult]") -> int:
    """Say what Security Hub took of each account; exit code 1 where it did not take all."""
    code = 0
    for result in sent:
        message(
            f"Security Hub {result.account}: {result.imported} open, {result.passed} passed, {result.archived} archived"
        )
        message(*(f"  refused {refused.id}: {refused.code} {refused.why}" for refused in result.refused))
        message(f"  not whole: {result.error}" if result.error else "")
        code = code if result.complete else 1
    return code


@click.command("audit")
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="Ask this rule (repeatable); else two-active-keys."
)
@click.option(
    "--cis", default="", metavar="VERSION", help="Print each rule's number in this CIS version, such as 4.0."
)
@click.option(
    "--exit-zero",
    is_flag=True,
    help="Exit with 0 instead of 3 when users have spare keys, as for a dashboard. What could not be read is still 4.",
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
@connection_options(many=True)
def audit_command(
    rules: tuple[str, ...],
    cis: str,
    show_all: bool,
    targets: tuple[str, ...],
    to_hub: bool,
    exit_zero: bool,
    mode: "ReadMode",
    format_: str,
    connect: "Callable[[], Connection]",
) -> int:
    """List users with spare keys. Read-only.

    Exit code 0: no user has spare keys; 3: some do; 4: something could not be read, whatever else was found.
    """
    from sparekey import app, report

    connection = connect()
    app.check_targets(connection, targets)
    with progress("users read") as update:
        audit = app.audit(connection, mode=mode, rules=rules, cis=cis, on_progress=update)
    print_report(report.render("audit", audit, format_, render_options(show_all=show_all)))
    code = app.exit_code(audit)
    if to_hub:
        code = security_hub_summary(app.send_to_security_hub(connection, audit)) or code
    message(
        *(
            f"not notified: {failed.target}: {failed.why}"
            for failed in app.notify_of_audit(connection, audit, targets)
        )
    )
    return 0 if exit_zero and code == app.FOUND else code
