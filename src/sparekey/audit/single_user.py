"""Reads one user, and whom AWS has quarantined, without the rest of the account."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from sparekey.aws.credential_report import CredentialReport, ReportRow, last_uses
from sparekey.aws.errors import (
    AwsError,
    ExpiredCredentialsError,
    NoCredentialsError,
    NotEnteredError,
    NotFoundError,
    RejectedCredentialsError,
)
from sparekey.aws.event_history import KeyChanges
from sparekey.model import (
    AccessKey,
    LastUsed,
    Quarantined,
    Unreadable,
    User,
)

ACCESS_ENDED = (ExpiredCredentialsError, NoCredentialsError, NotEnteredError, RejectedCredentialsError)
NeedLastUse = Literal["spare", "all", "every"]
Quarantine = Unreadable | Sequence[Quarantined]


class AccountSummary(Protocol):
    """What IAM counts in an account."""

    @property
    def user_count(self) -> int: ...

    @property
    def root_keys(self) -> int: ...


class AuditedAccount(Protocol):
    """What an audit needs of one account; every method raises AwsError."""

    @property
    def account_id(self) -> str: ...

    @property
    def partition(self) -> str: ...

    @property
    def max_in_flight(self) -> int:
        """How many calls are useful in flight at once."""
        ...

    def alias(self) -> str: ...

    def summary(self) -> AccountSummary: ...

    def list_users(self) -> Iterator[User]: ...

    def list_keys(self, user: str) -> tuple[AccessKey, ...]: ...

    def last_used(self, key_id: str) -> LastUsed: ...

    def credential_report(self) -> CredentialReport: ...

    def key_changes(self, since: datetime) -> KeyChanges: ...

    def quarantined_users(self) -> Sequence[Quarantined]: ...

    def close(self) -> None:
        """Drop what is cached for speed: nothing more is read now, and ten thousand accounts add up."""
        ...


def read_user(
    account: AuditedAccount,
    name: str,
    need_last_use: NeedLastUse = "spare",
    *,
    arn: str = "",
    created: datetime | None = None,
    id_: str = "",
    row: ReportRow | None = None,
) -> User:
    """One user as it is now; raises NotFoundError where no user has the name; other failures are in it.

    `need_last_use`: "spare" of the active keys of a user who has several, "all" of every user's active keys, "every"
    of inactive keys, too. With a `row` of the credential report, a last use is taken from there where the slot is
    beyond doubt.
    """
    try:
        keys = account.list_keys(name)
    except (NotFoundError, *ACCESS_ENDED):
        raise
    except AwsError as error:
        return User(name, arn, unreadable("iam:ListAccessKeys", error), created, id_)
    if need_last_use != "spare" or sum(key.active for key in keys) > 1:
        known = last_uses(row, keys) if row else {}
        every = need_last_use == "every"
        keys = tuple(_with_last_use(account, key, known) if key.active or every else key for key in keys)
    return User(name, arn, keys, created, id_)


def read_quarantine(account: AuditedAccount) -> Quarantine:
    """The users whom AWS has quarantined, or why it did not say; raises AwsError where nobody gets in."""
    try:
        return tuple(account.quarantined_users())
    except ACCESS_ENDED:
        raise
    except AwsError as error:
        return unreadable("iam:ListEntitiesForPolicy", error)


def mark_quarantined(user: User, quarantine: Quarantine) -> User:
    """The user with the policies by which AWS has quarantined it; by its id, which outlives its name."""
    if not isinstance(quarantine, Unreadable):
        quarantined: tuple[str, ...] | Unreadable = tuple(
            policy.policy
            for policy in quarantine
            if (policy.id == user.id if policy.id and user.id else policy.name == user.name)
        )
    else:
        quarantined = quarantine
    return user if quarantined == user.quarantine else msgspec.structs.replace(user, quarantine=quarantined)


def _with_last_use(account: AuditedAccount, key: AccessKey, known: dict[str, LastUsed]) -> AccessKey:
    used = known.get(key.id or "")
    if used is None or used.state == "unreadable":
        try:
            used = account.last_used(key.id or "")
        except AwsError as error:
            used = LastUsed("unreadable", why=error.message)  # a failure is never "never used"
    return AccessKey(key.id, key.status, key.created, used)


def unreadable(what: str, error: AwsError) -> Unreadable:
    """What could not be read, with AWS's reason."""
    return Unreadable(what, error.message, error.code)
