"""`sparekey audit`."""

from pathlib import Path

import click

from sparekey.cli.shell import aws_options, format_option, look, progress, show


@click.command("audit")
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="Ask this rule (repeatable); else two-active-keys."
)
@click.option(
    "--cis", default="", metavar="VERSION", help="Print each rule's number in this CIS version, such as 4.0."
)
@click.option("--all", "show_all", is_flag=True, help="Show the users who pass, too.")
@format_option("table", "json", "csv")
@aws_options
def COMMAND(  # noqa: N802
    rules: tuple[str, ...],
    cis: str,
    show_all: bool,
    format_: str,
    profile: str | None,
    region: str | None,
    config: Path | None,
) -> int:
    """Say who has spare keys. Read-only.

    Exit code 0: nobody; 3: somebody; 4: something could not be read, whatever else was found.
    """
    from sparekey import app, report

    here = app.connect(profile=profile, region=region, config=config)
    with progress("users read") as update:
        audit = app.audit(here, rules=rules, cis=cis, on_progress=update)
    show(report.render("audit", audit, format_, look(show_all=show_all)))
    return app.exit_code(audit)
