"""`sparekey audit`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, notify_option, read_option, report_options
from sparekey.cli.output import message, notice, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparekey.app import Connection, ReadMode, SecurityHubResult
    from sparekey.cli.output import ReportOutput


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


@command(
    "audit",
    category="Look",
    examples=(
        ("sparekey audit", "one account, by the usual AWS credentials"),
        (
            "sparekey audit --org --role SparekeyAudit --format html -o audit.html",
            "a whole organization, as a page",
        ),
    ),
)
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
@click.option("--summary", is_flag=True, help="Show only the counts and what could not be read.")
@click.option("--all", "show_all", is_flag=True, help="Show the users who pass, too.")
@notify_option
@click.option(
    "--send-to-security-hub",
    "to_hub",
    is_flag=True,
    help="Import the findings, each account's with that account's credentials.",
)
@read_option
@report_options("audit")
@connection_options(many=True)
def audit_command(
    rules: tuple[str, ...],
    cis: str,
    show_all: bool,
    targets: tuple[str, ...],
    to_hub: bool,
    exit_zero: bool,
    summary: bool,
    mode: "ReadMode",
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """List users with spare keys. Read-only.

    Exit code 0: no user has spare keys; 3: some do; 4: something could not be read, whatever else was found.
    """
    from sparekey import app

    connection = connect()
    app.check_targets(connection, targets)
    with progress("users read") as update:
        audit = app.audit(connection, mode=mode, rules=rules, cis=cis, on_progress=update)
    output.write(audit, show_all=show_all, brief=summary)
    accounts = connection.account_choice
    same = " with the same options for accounts" if accounts.org or accounts.accounts_file else ""
    following = f" Next: sparekey plan -o plan.json{same}" if audit.coverage.users_spare else ""
    notice(f"Read as {audit.snapshot.caller.arn}.{following}")
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
