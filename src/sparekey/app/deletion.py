"""The verbs of `sparekey delete`: nothing else in sparekey can delete a key."""

from datetime import timedelta

from sparekey.app.connection import App
from sparekey.app.run_service import runs_of
from sparekey.aws.key_deletion import Deleter
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.events import Deleted, Kept, SaidOfKey
from sparekey.model import AccessKey
from sparekey.policy import Span
from sparekey.runs.deletion import Deletable


def older_than(text: str) -> timedelta:
    """Read "90d"; raises BadInputError."""
    try:
        return Span.parse(text)
    except ValueError as error:
        raise BadInputError(f"--older-than: {error}") from None


def deletable(app: App, age: timedelta) -> tuple[Deletable, ...]:
    """The keys that our runs deactivated at least that long ago, sorted; AWS is not asked yet."""
    with runs_of(app) as runs:
        return runs.deletable(age)


def delete(app: App, what: Deletable) -> str:
    """Delete one of them if AWS still says the same; returns why it was kept, empty where it is gone.

    Raises AwsError.
    """
    with runs_of(app) as runs:
        return _why_kept(runs.delete(what, Deleter.of_account(app.account(what.account))))


def _why_kept(said: SaidOfKey) -> str:
    match said:
        case Deleted():
            return ""
        case Kept(why=why):
            return why
        case _:
            raise AssertionError(f"deleting ends in Deleted or Kept, not in {said!r}")


def root_key(app: App, account: str, key: str) -> AccessKey:
    """A member account's root key with its last use; raises AwsError, and BadInputError where there is none."""
    for found in app.gateway.list_root_keys(account):
        if found.id == key:
            return found
    raise BadInputError(
        f"the root user of account {account} has no access key {key}",
        "`sparekey root-keys --org` lists them.",
    )


def delete_root(app: App, account: str, key: AccessKey, age: timedelta) -> str:
    """Delete a member account's root key whose last use could be read and is old enough.

    Returns the request id; raises RefusedError and AwsError.
    """
    if key.id in app.caller(()).keys:
        raise RefusedError(
            f"root key {key.id} of account {account} is the one that sparekey runs with: nothing was deleted",
            "Run it with credentials of another identity.",
        )
    with runs_of(app) as runs:
        now = root_key(app, account, key.id or "")  # it may have been used while the person typed
        return runs.delete_root(account, now, app.gateway.root_deleter(account), age)
