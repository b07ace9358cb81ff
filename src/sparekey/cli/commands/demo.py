"""`sparekey demo`."""

from sparekey.cli.help import command
from sparekey.cli.output import print_report


@command(
    "demo",
    short_help="Show the whole job on a practice AWS.",
    category="Set up",
    examples=(("sparekey demo", "the whole job in a minute, without an AWS account"),),
)
def demo_command() -> None:
    """Show the whole job on a practice AWS: no account, no network, no questions."""
    from sparekey import app

    for chunk in app.demo():
        print_report((chunk,))
