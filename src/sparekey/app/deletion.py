"""The verbs of `sparekey delete`: nothing else in sparekey can delete a key."""

from datetime import timedelta

from sparekey.app.connection import Connection
from sparekey.app.run_service import runs_of
from sparekey.aws.key_deletion import AccessKeyDeleter
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.events import DeletionSkipped, KeyDeleted, KeyEvent
from sparekey.model import AccessKey
from sparekey.policy import Span
from sparekey.runs.deletion import Deletable

# A key that was deactivated more recently may still be missed by something that runs once a week.
SHORTEST_AGE = timedelta(days=7)


def older_than(text: str) -> timedelta:
    """Read "90d"; raises BadInputError for what is no span of time, or shorter than seven days."""
    try:
        age = Span.parse(text)
    except ValueError as error:
        raise BadInputError(f"--older-than: {error}", 'Such as "90d".') from None
    if age < SHORTEST_AGE:
        raise BadInputError(
            f"--older-than {text} is shorter than 7 days: a weekly job would not have missed the key",
            "A deleted key never comes back. Wait, or name 7d or more. Nothing was deleted.",
        )
    return age


def deletable(connection: Connection, age: timedelta) -> tuple[Deletable, ...]:
    """The keys that our runs deactivated at least that long ago, sorted; AWS is not asked yet."""
    with runs_of(connection) as runs:
        return runs.deletable(age)


def delete(connection: Connection, what: Deletable) -> str:
    """Delete one of them if AWS still reports the same; returns why it was kept, empty where it is gone.

    Raises AwsError.
    """
    with runs_of(connection) as runs:
        return _reason_kept(runs.delete(what, AccessKeyDeleter.of_account(connection.account(what.account))))


def orphan(connection: Connection, key: str) -> Deletable:
    """The new key of a rotation whose secret nobody has; raises BadInputError where no run knows it as such."""
    with runs_of(connection) as runs:
        return runs.orphan(key)


def delete_orphan(connection: Connection, what: Deletable) -> str:
    """Delete it if it is still inactive and was never used; returns why it was kept, empty where it is gone.

    Raises AwsError.
    """
    with runs_of(connection) as runs:
        deleter = AccessKeyDeleter.of_account(connection.account(what.account))
        return _reason_kept(runs.delete(what, deleter, orphan=True))


def _reason_kept(event: KeyEvent) -> str:
    match event:
        case KeyDeleted():
            return ""
        case DeletionSkipped(why=why):
            return why
        case _:
            raise AssertionError(f"deleting ends in Deleted or Kept, not in {event!r}")


def root_key(connection: Connection, account: str, key: str) -> AccessKey:
    """A member account's root key with its last use; raises AwsError, and BadInputError where there is none."""
    for listed in connection.gateway.list_root_keys(account):
        if listed.id == key:
            return listed
    raise BadInputError(
        f"the root user of account {account} has no access key {key}",
        "`sparekey root-keys --org` lists them.",
    )


def delete_root(connection: Connection, account: str, key: AccessKey, age: timedelta) -> str:
    """Delete a member account's root key whose last use could be read and is old enough.

    Returns the request id; raises RefusedError and AwsError.
    """
    if key.id in connection.caller(()).keys:
        raise RefusedError(
            f"root key {key.id} of account {account} signs sparekey's own calls; nothing was deleted",
            "Run it with credentials of another identity.",
        )
    with runs_of(connection) as runs:
        now = root_key(connection, account, key.id or "")  # it may have been used while the person typed
        return runs.delete_root(account, now, connection.gateway.root_deleter(account), age)
