"""`sparekey demo`."""

import click

from sparekey.cli.output import print_report


@click.command("demo", short_help="Show the whole job on a practice AWS.")
def demo_command() -> None:
    """Show the whole job on a practice AWS: no account, no network, no questions."""
    from sparekey import app

    for chunk in app.demo():
        print_report((chunk,))
