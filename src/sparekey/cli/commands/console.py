"""`sparekey console`."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, read_option, usage_options
from sparekey.cli.output import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection, ReadMode, UsageRequest


@command(
    "console",
    short_help="Open a page to work in.",
    category="Watch",
    examples=(
        ("sparekey console", "open the page on this machine"),
        ("sparekey console --demo", "try it on the practice company"),
    ),
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; 0 picks a free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. Anything but loopback is neither encrypted nor private.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, open no browser.")
@click.option("--demo", is_flag=True, help="Work on the practice company instead of AWS.")
@read_option
@click.option(
    "--usage",
    default="history",
    show_default=True,
    metavar="SOURCE",
    help="Where it is read who uses a key: history, archive=PLACE or athena=TABLE.",
)
@usage_options
@database_option
@connection_options(many=True)
def console_command(
    port: int,
    host: str,
    no_browser: bool,
    demo: bool,
    mode: "ReadMode",
    usage: str,
    usage_request: "Callable[..., UsageRequest]",
    connect: "Callable[[], Connection]",
) -> None:
    """Open a page to work in: users with spare keys, why a key is kept, deactivate, watch, reactivate.

    The address stands alone on stdout and works once, for one browser. Ends with Ctrl-C.
    """
    from sparekey import app
    from sparekey.console.serve import serve
    from sparekey.console.state import ConsoleOptions

    with app.practice_company() if demo else nullcontext():
        if demo:
            message(
                "practice company: no real AWS account is used, and no file is left when it ends (Ctrl-C)"
            )
        connection = connect()
        serve(
            connection,
            host=host,
            port=port,
            options=ConsoleOptions(mode, usage, demo),
            usage_request=usage_request(),
            out=sys.stdout,
            tell=message,
            browser=not no_browser,
        )
