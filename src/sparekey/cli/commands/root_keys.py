"""`sparekey root-keys`."""

from typing import TYPE_CHECKING

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, report_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.cli.output import ReportOutput


@command(
    "root-keys",
    short_help="List the root users' access keys.",
    category="Look",
    examples=(("sparekey root-keys --org --role SparekeyAudit", "every account of the organization"),),
)
@report_options("root_keys")
@connection_options(many=True)
def root_keys_command(output: "ReportOutput", connect: "Callable[[], Connection]") -> int:
    """Say which accounts' root users have access keys. Read-only.

    In member accounts with centralized root access the keys are listed, with age and last use; elsewhere the
    credential report shows their number, least age and last use. A root key cannot be deactivated from
    outside: it is deleted, by the root user or by `sparekey delete --root`.
    Exit code 3: a root user has a key; 4: an account could not be asked.
    """
    from sparekey import app
    from sparekey.model import Unreadable

    connection = connect()
    listing = app.root_keys(connection)
    output.write((listing, connection.clock.now()))
    if any(isinstance(account.present, Unreadable) for account in listing):
        return 4
    return 3 if any(account.present for account in listing) else 0
