"""The events of an audit, as it reads."""

from typing import ClassVar

from sparekey.errors import SparekeyError
from sparekey.model import (
    Account,
    Snapshot,
    User,
    Value,
)


class AccountStarted(Value, frozen=True):
    """The reading of an account has started."""

    account: str


class UsersListed(Value, frozen=True):
    """So many users of an account are known so far; `whole` once the list is at its end."""

    account: str
    users: int
    whole: bool


class UserRead(Value, frozen=True):
    """One user's keys were read, or could not be; None where the user is gone."""

    account: str
    name: str
    user: User | None


class AccountDone(Value, frozen=True):
    """An account is read, or could not be; `done` of `total` accounts are."""

    account: Account
    done: int
    total: int


AuditEvent = AccountStarted | UsersListed | UserRead | AccountDone


class InterruptedAuditError(SparekeyError):
    """Ctrl-C: `partial` holds the accounts that were read whole, and is not the whole answer."""

    exit_code: ClassVar[int] = 130

    def __init__(self, partial: Snapshot, total: int) -> None:
        users = sum(1 for _ in partial.users())
        super().__init__(
            f"interrupted: {len(partial.accounts)} of {total} accounts with {users} users were read; "
            "the rest was not"
        )
        self.partial = partial
