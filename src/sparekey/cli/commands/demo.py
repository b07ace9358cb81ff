"""`sparekey demo`."""

import click

from sparekey.cli.options import show


@click.command("demo", short_help="Show the whole job on a practice AWS.")
def COMMAND() -> None:  # noqa: N802
    """Show the whole job on a practice AWS: no account, no network, no questions."""
    from sparekey import app

    for chunk in app.demo():
        show((chunk,))
