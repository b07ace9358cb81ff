"""`sparekey show`."""

import click

from sparekey.cli.shell import format_option, look, show


@click.command("show")
@click.argument("run", metavar="RUN")
@format_option
def COMMAND(run: str, format_: str) -> None:  # noqa: N802
    """Say what one run did, step by step, with AWS's request ids. Asks nothing of AWS.

    RUN may be cut short as long as it names one run.
    """
    from sparekey import app, report

    show(report.render("run", app.show(run), format_, look()))
