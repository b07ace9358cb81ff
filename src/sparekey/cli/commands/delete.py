"""`sparekey delete`."""

import sys
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option
from sparekey.cli.output import message, print_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from sparekey.app import Connection


@command(
    "delete",
    short_help="Delete keys that were retired long ago.",
    category="Act",
    examples=(
        (
            "sparekey delete --older-than 90d",
            "delete keys that were deactivated 90 days ago or earlier, one by one",
        ),
    ),
)
@click.option(
    "--older-than",
    "age",
    default="",
    metavar="TIME",
    help="Delete keys that were deactivated this long ago or earlier, such as 90d; 7d or more.",
)
@click.option(
    "--orphan",
    default="",
    metavar="KEY",
    help="Delete this new key of a rotation whose secret was lost; only where it was never used.",
)
@click.option(
    "--root", "root_key", default="", metavar="KEY", help="A root user's key instead, of the account named."
)
@click.option("--account", default="", metavar="ID", help="The member account whose root key it is.")
@database_option
@connection_options()
def delete_command(
    age: str, orphan: str, root_key: str, account: str, connect: "Callable[[], Connection]"
) -> int:
    """Delete keys that a run deactivated that long ago, that are still inactive and were not used since.

    Each key is shown, and is deleted only if you type its account and its id. A deleted key never comes back.
    Exit code 3: some were kept.
    """
    from sparekey import app
    from sparekey.errors import BadInputError
    from sparekey.formatting import moment

    if bool(root_key) != bool(account):
        raise BadInputError(
            "--root and --account go together", "delete --root KEY --account ID --older-than 90d"
        )
    if bool(orphan) == bool(age):
        raise BadInputError(
            "name --older-than TIME, or --orphan KEY", "Such as sparekey delete --older-than 90d."
        )
    span = app.older_than(age) if age else None
    if not sys.stdin.isatty():
        raise BadInputError(
            "there is no terminal to type on", "Deleting is confirmed interactively, key by key."
        )
    connection = connect()
    if span is None:
        return _delete_orphan(connection, orphan)
    if root_key:
        return _delete_root(connection, account, root_key, span)
    deletable = app.deletable(connection, span)
    if not deletable:
        message("no run deactivated a key that long ago")
    kept = 0
    for what in deletable:
        message(
            f"{what.account}  {what.user}  {what.key}: deactivated {moment(what.since)} by run {what.run}"
        )
        if not _confirm_account(what.account, what.key):
            kept += 1
            continue
        why = app.delete(connection, what)
        kept += bool(why)
        print_report((f"{what.account}  {what.user}  {what.key}: {f'kept: {why}' if why else 'deleted'}\n",))
    return 3 if kept else 0


def _delete_orphan(connection: "Connection", key: str) -> int:
    from sparekey import app

    what = app.orphan(connection, key)
    message(f"{what.account}  {what.user}  {key}: its secret was lost in run {what.run}")
    if not _confirm_account(what.account, key):
        return 3
    why = app.delete_orphan(connection, what)
    print_report((f"{what.account}  {what.user}  {key}: {f'kept: {why}' if why else 'deleted'}\n",))
    return 3 if why else 0


def _delete_root(connection: "Connection", account: str, key: str, age: "timedelta") -> int:
    from sparekey import app
    from sparekey.formatting import key_age, last_use

    root_key = app.root_key(connection, account, key)
    now = connection.clock.now()
    message(
        f"{account}  root user  {key}: {root_key.status}, {key_age(root_key, now)}, {last_use(root_key, now)}"
    )
    if not _confirm_account(account, key):
        return 3
    print_report(
        (
            f"{account}  root user  {key}: deleted (request {app.delete_root(connection, account, root_key, age)})\n",
        )
    )
    return 0


def _confirm_account(account: str, key: str) -> bool:
    """True where the person typed account and key; anything else keeps the key."""
    typed: str = click.prompt(
        f"Type {account} {key} to delete it for good", default="", show_default=False, err=True
    )
    if typed.split() == [account, key]:
        return True
    message("kept")
    return False
