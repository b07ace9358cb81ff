"""`sparekey root-keys`."""

from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, format_option, look, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App


@click.command("root-keys", short_help="Say which root users have access keys.")
@format_option("root_keys")
@connecting(many=True)
def COMMAND(format_: str, connect: "Callable[[], App]") -> int:  # noqa: N802
    """Say which accounts' root users have access keys. Read-only.

    In member accounts with centralized root access the keys are listed, with age and last use; elsewhere the
    credential report shows their number, least age and last use. A root key cannot be deactivated from
    outside: it is deleted, by the root user or by `sparekey delete --root`.
    Exit code 3: a root user has a key; 4: an account could not be asked.
    """
    from sparekey import app, report
    from sparekey.model import Unreadable

    here = connect()
    told = app.root_keys(here)
    show(report.render("root_keys", (told, here.clock.now()), format_, look()))
    if any(isinstance(one.present, Unreadable) for one in told):
        return 4
    return 3 if any(one.present for one in told) else 0
