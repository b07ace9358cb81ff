"""Access keys of one account: what may be read of them, and the one door through which they are written."""

from collections.abc import Iterator
from typing import Literal, Protocol

from sparekey.model import AccessKey, LastUsed, User


class KeyReader(Protocol):
    """What deciding needs to read in one account; every method raises `sparekey.aws.errors.AwsError`."""

    def list_users(self) -> Iterator[User]:
        """Every IAM user, all pages, with `keys` still empty."""
        ...

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        """Every access key of a user, all pages, `last_used` not read."""
        ...

    def last_used(self, key_id: str) -> LastUsed:
        """IAM's own last use of a key."""
        ...


class KeyWriter(Protocol):
    """The only write of a key's status."""

    def set_status(self, user: str, key_id: str, status: Literal["Active", "Inactive"]) -> str:
        """Set a key's status; returns the AWS request id."""
        ...
