"""`sparekey root-keys`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connection_options, format_option
from sparekey.cli.output import print_report, render_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection


@click.command("root-keys", short_help="List the root users' access keys.")
@format_option("root_keys")
@connection_options(many=True)
def root_keys_command(format_: str, connect: "Callable[[], Connection]") -> int:
    """Say which accounts' root users have access keys. Read-only.

    In member accounts with centralized root access the keys are listed, with age and last use; elsewhere the
    credential report shows their number, least age and last use. A root key cannot be deactivated from
    outside: it is deleted, by the root user or by `sparekey delete --root`.
    Exit code 3: a root user has a key; 4: an account could not be asked.
    """
    from sparekey import app, report
    from sparekey.model import Unreadable

    connection = connect()
    listing = app.root_keys(connection)
    print_report(report.render("root_keys", (listing, connection.clock.now()), format_, render_options()))
    if any(isinstance(account.present, Unreadable) for account in listing):
        return 4
    return 3 if any(account.present for account in listing) else 0
