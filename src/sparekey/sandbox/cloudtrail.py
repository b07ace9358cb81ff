"""CloudTrail's event history: 90 days of management events, newest first, one attribute at a time.

Source: https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
"""

import base64
import binascii
import bisect
import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from sparekey.sandbox.cloudtrail_events import Event
from sparekey.sandbox.errors import AwsError
from sparekey.sandbox.request import Call, Handler

_KEPT = timedelta(days=90)
_PAGE = 50
_ATTRIBUTES: dict[str, Callable[[Event], Collection[str]]] = {
    "AccessKeyId": lambda event: (event.access_key,),
    "EventId": lambda event: (event.id,),
    "EventName": lambda event: (event.name,),
    "EventSource": lambda event: (event.event_source,),
    "ReadOnly": lambda event: ("true" if event.read_only else "false",),
    "ResourceName": lambda event: {name for _, name in event.resources},
    "ResourceType": lambda event: {kind for kind, _ in event.resources},
    "Username": lambda event: (event.caller.name,),
}


def lookup_events(call: Call) -> dict[str, Any]:
    """One page of the history of the caller's account in the region that was asked."""
    _pace(call)
    attribute, wanted = _attribute(call.params)
    start, end = _range(call)
    size = _size(call)
    events = call.company.trail.events(call.caller.account, call.region)
    # Later events are put behind this place, so that what happens while pages are read moves none of them.
    at = _place(call) if call.params.get("NextToken") else bisect.bisect_right(events, end, key=_time)
    found: list[Event] = []
    for place in range(min(at, len(events)) - 1, -1, -1):
        event = events[place]
        if event.at < start:
            break
        if event.data or (attribute and not _has(event, attribute, wanted)):
            continue
        if len(found) == size:
            token = base64.urlsafe_b64encode(str(place + 1).encode()).decode()
            return {"Events": [_told(event) for event in found], "NextToken": token}
        found.append(event)
    return {"Events": [_told(event) for event in found]}


def _time(event: Event) -> datetime:
    return event.at


def _pace(call: Call) -> None:
    rate = call.company.lookup_rate
    if rate is not None and not call.faults.take(0, call.caller.account, call.region, rate, max(1.0, rate)):
        raise AwsError("Throttling", "Rate exceeded", 400)


def _attribute(params: dict[str, Any]) -> tuple[str, str]:
    attributes = params.get("LookupAttributes") or []
    if not attributes:
        return "", ""
    if len(attributes) > 1 or attributes[0].get("AttributeKey") not in _ATTRIBUTES:
        raise AwsError(
            "InvalidLookupAttributesException", "Exactly one known lookup attribute is allowed.", 400
        )
    return attributes[0]["AttributeKey"], attributes[0].get("AttributeValue", "")


def _range(call: Call) -> tuple[datetime, datetime]:
    start, end = call.now - _KEPT, call.faults.history_until(call)
    if "EndTime" in call.params:
        end = min(end, datetime.fromtimestamp(call.params["EndTime"], UTC))
    if "StartTime" in call.params:
        asked = datetime.fromtimestamp(call.params["StartTime"], UTC)
        if "EndTime" in call.params and call.params["StartTime"] > call.params["EndTime"]:
            raise AwsError("InvalidTimeRangeException", "The start time must be before the end time.", 400)
        start = max(start, asked)
    return start, end


def _size(call: Call) -> int:
    size = call.params.get("MaxResults", _PAGE)
    if not 1 <= size <= _PAGE:
        raise AwsError("InvalidMaxResultsException", f"MaxResults must be from 1 to {_PAGE}.", 400)
    return call.faults.page_size(call, size)


def _place(call: Call) -> int:
    try:
        return int(base64.urlsafe_b64decode(call.params["NextToken"]))
    except (binascii.Error, ValueError, TypeError):
        raise AwsError("InvalidNextTokenException", "Invalid token.", 400) from None


def _has(event: Event, attribute: str, wanted: str) -> bool:
    return wanted in _ATTRIBUTES[attribute](event)


def _told(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {
        "EventId": event.id,
        "EventName": event.name,
        "ReadOnly": "true" if event.read_only else "false",
        "EventTime": event.at,
        "EventSource": event.event_source,
        "Resources": [{"ResourceType": kind, "ResourceName": name} for kind, name in event.resources],
        "CloudTrailEvent": json.dumps(event.record()),
    }
    if event.access_key:
        told["AccessKeyId"] = event.access_key
    if not event.foreign:
        told["Username"] = event.caller.name
    return told


ACTIONS: dict[str, Handler] = {"LookupEvents": lookup_events}
