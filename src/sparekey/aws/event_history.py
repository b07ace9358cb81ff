"""Which users' keys and names changed since a time, by CloudTrail's event history.

Source: https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sparekey.aws.errors import MalformedResponseError
from sparekey.aws.paging import PageTokens
from sparekey.model import Value

# Events mostly show within five minutes and sometimes late; nothing guarantees it.
LAG = timedelta(minutes=15)
MARGIN = timedelta(minutes=30)
# Creating and switching on are what can make a spare key; a deletion cannot.
_EVENTS = ("CreateAccessKey", "UpdateAccessKey")
# A new name or path: https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateUser.html
_RENAMED = "UpdateUser"

Call = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class KeyChanges(Value, frozen=True):
    """The users whose keys changed; `untold` counts changes that do not say whose, `renamed` new names and paths."""

    users: frozenset[str]
    incomplete: int = 0
    renamed: int = 0


def key_changes(call: Call, since: datetime) -> KeyChanges:
    """Every change since a time, all pages; raises AwsError."""
    users: set[str] = set()
    untold = renamed = 0
    for event in _events(call, since):
        if event.get("errorCode"):
            continue  # it did not happen
        if event.get("eventName") == _RENAMED:
            renamed += 1
            continue
        user = _user(event)
        if user is None:
            untold += 1
        elif user:
            users.add(user)
    return KeyChanges(frozenset(users), untold, renamed)


def creator_of_key(call: Call, key_id: str, since: datetime) -> str:
    """The ARN of who created an access key since a time; empty where no event shows it (yet). Raises AwsError."""
    for event in _events(call, since, ("CreateAccessKey",)):
        created = (event.get("responseElements") or {}).get("accessKey") or {}
        if created.get("accessKeyId") == key_id and not event.get("errorCode"):
            return str((event.get("userIdentity") or {}).get("arn", ""))
    return ""


def _events(
    call: Call, since: datetime, names: tuple[str, ...] = (*_EVENTS, _RENAMED)
) -> Iterator[Mapping[str, Any]]:
    for name in names:
        asked = {
            "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": name}],
            "StartTime": since,
            "MaxResults": 50,
        }
        token: dict[str, str] = {}
        pages = PageTokens("cloudtrail:LookupEvents")
        while True:
            page = call("LookupEvents", {**asked, **token})
            for event in page.get("Events", ()):
                yield _record(event)
            following = page.get("NextToken")
            if not following:
                break
            token = {"NextToken": pages.next_params(str(following))}


def _record(event: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        record = json.loads(event["CloudTrailEvent"])
    except (KeyError, ValueError) as error:
        raise MalformedResponseError("an event of the event history cannot be understood") from error
    return record if isinstance(record, dict) else {}


def _user(event: Mapping[str, Any]) -> str | None:
    """Whose key it was; empty for the root user's own, None where the event does not show it.

    A user who changes an own key need not name anybody in the request.
    """
    created = (event.get("responseElements") or {}).get("accessKey") or {}
    asked = event.get("requestParameters") or {}
    identity = event.get("userIdentity") or {}
    named = created.get("userName") or asked.get("userName")
    if named:
        return str(named)
    if identity.get("type") == "IAMUser" and identity.get("userName"):
        return str(identity["userName"])
    return "" if identity.get("type") == "Root" else None
