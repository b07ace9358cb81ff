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

from sparekey.sandbox.cloudtrail_events import TrailEvent
from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler

_RETENTION = timedelta(days=90)
_PAGE = 50
_ATTRIBUTES: dict[str, Callable[[TrailEvent], Collection[str]]] = {
    "AccessKeyId": lambda event: (event.access_key,),
    "EventId": lambda event: (event.id,),
    "EventName": lambda event: (event.name,),
    "EventSource": lambda event: (event.event_source,),
    "ReadOnly": lambda event: ("true" if event.read_only else "false",),
    "ResourceName": lambda event: {name for _, name in event.resources},
    "ResourceType": lambda event: {kind for kind, _ in event.resources},
    "Username": lambda event: (event.caller.name,),
}


def lookup_events(call: ApiCall) -> dict[str, Any]:
    """One page of the history of the caller's account in the region that was asked."""
    _check_rate(call)
    attribute, value = _attribute(call.params)
    start, end = _range(call)
    size = _max_results(call)
    events = call.company.trail.events(call.caller.account, call.region)
    # Later events are put behind this place, so that what happens while pages are read moves none of them.
    at = _position(call) if call.params.get("NextToken") else bisect.bisect_right(events, end, key=_time)
    matching: list[TrailEvent] = []
    for place in range(min(at, len(events)) - 1, -1, -1):
        event = events[place]
        if event.at < start:
            break
        if event.data or (attribute and not _has(event, attribute, value)):
            continue
        if len(matching) == size:
            token = base64.urlsafe_b64encode(str(place + 1).encode()).decode()
            return {"Events": [_event_response(event) for event in matching], "NextToken": token}
        matching.append(event)
    return {"Events": [_event_response(event) for event in matching]}


def _time(event: TrailEvent) -> datetime:
    return event.at


def _check_rate(call: ApiCall) -> None:
    rate = call.company.lookup_rate
    if rate is not None and not call.faults.take_from_bucket(
        0, call.caller.account, call.region, rate, max(1.0, rate)
    ):
        raise ErrorReplyError("Throttling", "Rate exceeded", 400)


def _attribute(params: dict[str, Any]) -> tuple[str, str]:
    attributes = params.get("LookupAttributes") or []
    if not attributes:
        return "", ""
    if len(attributes) > 1 or attributes[0].get("AttributeKey") not in _ATTRIBUTES:
        raise ErrorReplyError(
            "InvalidLookupAttributesException", "Exactly one known lookup attribute is allowed.", 400
        )
    return attributes[0]["AttributeKey"], attributes[0].get("AttributeValue", "")


def _range(call: ApiCall) -> tuple[datetime, datetime]:
    start, end = call.now - _RETENTION, call.faults.history_until(call)
    if "EndTime" in call.params:
        end = min(end, datetime.fromtimestamp(call.params["EndTime"], UTC))
    if "StartTime" in call.params:
        asked = datetime.fromtimestamp(call.params["StartTime"], UTC)
        if "EndTime" in call.params and call.params["StartTime"] > call.params["EndTime"]:
            raise ErrorReplyError(
                "InvalidTimeRangeException", "The start time must be before the end time.", 400
            )
        start = max(start, asked)
    return start, end


def _max_results(call: ApiCall) -> int:
    size = call.params.get("MaxResults", _PAGE)
    if not 1 <= size <= _PAGE:
        raise ErrorReplyError("InvalidMaxResultsException", f"MaxResults must be from 1 to {_PAGE}.", 400)
    return call.faults.page_size(call, size)


def _position(call: ApiCall) -> int:
    try:
        return int(base64.urlsafe_b64decode(call.params["NextToken"]))
    except (binascii.Error, ValueError, TypeError):
        raise ErrorReplyError("InvalidNextTokenException", "Invalid token.", 400) from None


def _has(event: TrailEvent, attribute: str, value: str) -> bool:
    return value in _ATTRIBUTES[attribute](event)


def _event_response(event: TrailEvent) -> dict[str, Any]:
    response: dict[str, Any] = {
        "EventId": event.id,
        "EventName": event.name,
        "ReadOnly": "true" if event.read_only else "false",
        "EventTime": event.at,
        "EventSource": event.event_source,
        "Resources": [{"ResourceType": kind, "ResourceName": name} for kind, name in event.resources],
        "CloudTrailEvent": json.dumps(event.record()),
    }
    if event.access_key:
        response["AccessKeyId"] = event.access_key
    if not event.foreign:
        response["Username"] = event.caller.name
    return response


ACTIONS: dict[str, Handler] = {"LookupEvents": lookup_events}
