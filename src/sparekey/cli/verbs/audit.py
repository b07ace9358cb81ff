"""`sparekey audit`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.shell import connecting, format_option, look, progress, read_option, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App, ReadMode


@click.command("audit")
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="Ask this rule (repeatable); else two-active-keys."
)
@click.option(
    "--cis", default="", metavar="VERSION", help="Print each rule's number in this CIS version, such as 4.0."
)
@click.option("--all", "show_all", is_flag=True, help="Show the users who pass, too.")
@read_option
@format_option
@connecting(many=True)
def COMMAND(  # noqa: N802
    rules: tuple[str, ...],
    cis: str,
    show_all: bool,
    mode: "ReadMode",
    format_: str,
    connect: "Callable[[], App]",
) -> int:
    """Say who has spare keys. Read-only.

    Exit code 0: nobody; 3: somebody; 4: something could not be read, whatever else was found.
    """
    from sparekey import app, report

    here = connect()
    with progress("users read") as update:
        audit = app.audit(here, mode=mode, rules=rules, cis=cis, on_progress=update)
    show(report.render("audit", audit, format_, look(show_all=show_all)))
    return app.exit_code(audit)
