"""Access keys of one account: what may be read of them, and the one door through which they are written."""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from xml.etree.ElementTree import Element

from sparekey.aws.client import AwsClient, Principal
from sparekey.aws.errors import MalformedResponseError, NotFoundError
from sparekey.aws.paging import PageTokens
from sparekey.model import NEVER_USED, AccessKey, LastUsed, User

# The most that one page may carry; AWS may still send fewer and go on.
_PAGE = 1000


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

    def owner_of(self, key_id: str) -> str:
        """The name of the user that a key belongs to now; empty for a key of the root user."""
        ...


class KeyWriter(Protocol):
    """The only write of a key's status."""

    def set_status(self, user: str, key_id: str, status: Literal["Active", "Inactive"]) -> str:
        """Set a key's status; returns the AWS request id."""
        ...


class NewAccessKey:
    """An access key with its secret: never a Value, so that nothing can write, compare or show it by accident."""

    __slots__ = ("id", "secret")

    def __init__(self, id_: str, secret: str) -> None:
        self.id, self.secret = id_, secret

    def __repr__(self) -> str:
        """The id alone."""
        return f"NewAccessKey({self.id})"

    def __reduce__(self) -> Any:
        """Refuse to be pickled or copied."""
        raise TypeError("a secret is not serialised")


class KeyCreator(Protocol):
    """The only creation of a key; only `sparekey.handover` is given it."""

    def create_key(self, user: str) -> NewAccessKey:
        """Create a key with a single request; raises AwsError, after which the key may exist."""
        ...


class AccessKeys:
    """`KeyReader` and `KeyWriter` of one account, spoken over the wire."""

    def __init__(self, client: AwsClient, principal: Principal) -> None:
        self._client = client
        self._principal = principal

    def list_users(self) -> Iterator[User]:
        """Every IAM user, all pages, with `keys` still empty.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListUsers.html
        """
        for member in self._pages("ListUsers", {}, "Users"):
            yield User(
                name=_text(member, "UserName"),
                arn=_text(member, "Arn"),
                keys=(),
                created=_time(member, "CreateDate"),
                id=member.findtext("UserId", ""),
            )

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        """Every access key of a user, all pages, `last_used` not read.

        IAM does not distinguish names by case, and exemptions do: only who is called exactly so is meant.
        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccessKeys.html
        """
        return self._keys({"UserName": user})

    def list_own_keys(self) -> tuple[AccessKey, ...]:
        """The caller's own access keys: in a session of AssumeRoot, those of the root user."""
        return self._keys({})

    def _keys(self, params: Mapping[str, Any]) -> tuple[AccessKey, ...]:
        keys = []
        for member in self._pages("ListAccessKeys", params, "AccessKeyMetadata"):
            asked, name = params.get("UserName", ""), member.findtext("UserName", "")
            if name != asked and name.casefold() == asked.casefold():
                raise NotFoundError(f"no user is called {asked}: AWS lists the keys of {name}")
            keys.append(
                AccessKey(
                    id=_text(member, "AccessKeyId"),
                    status=sys.intern(_text(member, "Status")),
                    created=_time(member, "CreateDate"),
                )
            )
        return tuple(keys)

    def last_used(self, key_id: str) -> LastUsed:
        """IAM's own last use of a key; a key never used has no date.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
        """
        element = self._last_used(key_id).find("AccessKeyLastUsed")
        if element is None:
            raise MalformedResponseError("the answer to iam:GetAccessKeyLastUsed names no last use")
        service, region = (
            _known_status(element.findtext("ServiceName")),
            _known_status(element.findtext("Region")),
        )
        if element.findtext("LastUsedDate") is not None:
            return LastUsed("used", at=_time(element, "LastUsedDate"), service=service, region=region)
        if service or region:
            raise MalformedResponseError("the answer to iam:GetAccessKeyLastUsed names a service but no time")
        return NEVER_USED

    def owner_of(self, key_id: str) -> str:
        """The name of the user that a key belongs to now; empty for a key of the root user.

        A key that does not exist, and one of another account, answer as one that may not be asked about.
        """
        return self._last_used(key_id).findtext("UserName", "")

    def _last_used(self, key_id: str) -> Element:
        return self._client.query(self._principal, "iam", "GetAccessKeyLastUsed", {"AccessKeyId": key_id})

    def set_status(self, user: str, key_id: str, status: Literal["Active", "Inactive"]) -> str:
        """Set a key's status with a single request; returns its AWS request id.

        The right to write may end within a second: only the caller can decide whether to send it again.
        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html
        """
        params = {"UserName": user, "AccessKeyId": key_id, "Status": status}
        response = self._client.call(self._principal, "iam", "UpdateAccessKey", params, attempts=1)
        return str(response["ResponseMetadata"].get("RequestId", ""))

    def create_key(self, user: str) -> NewAccessKey:
        """Create a key with a single request, which is never repeated: its secret is shown once.

        Raises AwsError; where the answer was lost, a listing shows whether the key exists.
        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateAccessKey.html
        """
        response = self._client.call(
            self._principal, "iam", "CreateAccessKey", {"UserName": user}, idempotent=False, attempts=1
        )
        key = response["AccessKey"]
        return NewAccessKey(str(key["AccessKeyId"]), str(key["SecretAccessKey"]))

    def _pages(self, action: str, params: Mapping[str, Any], items: str) -> Iterator[Element]:
        """Every member of every page; a page that promises more and does not say where is an error."""
        marker: dict[str, str] = {}
        pages = PageTokens(f"iam:{action}")
        while True:
            result = self._client.query(
                self._principal, "iam", action, {**params, "MaxItems": _PAGE, **marker}
            )
            container = result.find(items)
            if container is None:
                raise MalformedResponseError(f"the answer to iam:{action} has no {items}")
            yield from container
            if result.findtext("IsTruncated", "false").strip().lower() != "true":
                return
            following = result.findtext("Marker", "")
            if not following:
                raise MalformedResponseError(
                    f"the answer to iam:{action} is truncated and has no marker for the next page"
                )
            marker = {"Marker": pages.next_params(following)}


def _text(element: Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise MalformedResponseError(f"AWS's answer names no {name}")
    return text


def _time(element: Element, name: str) -> datetime:
    text = _text(element, name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedResponseError(f"AWS's answer holds no time in {name}: {text[:40]!r}") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _known_status(text: str | None) -> str | None:
    return sys.intern(text) if text and text != "N/A" else None
