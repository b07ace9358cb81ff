"""Whose keys changed, by the event history."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from sparekey.aws.errors import MalformedResponseError
from sparekey.aws.event_history import KeyChanges, key_changes

SINCE = datetime(2026, 3, 1, tzinfo=UTC)


def event(**record: Any) -> dict[str, str]:
    return {"CloudTrailEvent": json.dumps(record)}


class History:
    """Pages by event name."""

    def __init__(self, **pages: list[list[dict[str, str]]]) -> None:
        self.pages = pages
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        assert action == "LookupEvents"
        self.asked.append(params)
        pages = self.pages.get(params["LookupAttributes"][0]["AttributeValue"], [[]])
        number = int(params.get("NextToken", 0))
        more = {"NextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return {"Events": pages[number], **more}


def test_the_user_is_taken_from_wherever_the_event_names_it() -> None:
    history = History(
        CreateAccessKey=[
            [event(responseElements={"accessKey": {"userName": "made"}}, requestParameters=None)],
            [],  # an empty page that goes on
            [event(requestParameters=None, userIdentity={"type": "IAMUser", "userName": "own"})],
        ],
        UpdateAccessKey=[
            [event(requestParameters={"userName": "updated"}, responseElements=None)],
            [event(requestParameters={"userName": "no"}, errorCode="AccessDenied")],
        ],
    )
    assert key_changes(history, SINCE) == KeyChanges(frozenset({"made", "own", "updated"}))
    assert [asked.get("NextToken") for asked in history.asked] == [None, "1", "2", None, "1", None]
    assert all(asked["StartTime"] == SINCE for asked in history.asked)


def test_new_names_and_paths_are_counted_and_refused_ones_are_not() -> None:
    renamed = event(eventName="UpdateUser", requestParameters={"userName": "old", "newUserName": "new"})
    moved = event(eventName="UpdateUser", requestParameters={"userName": "app", "newPath": "/team/"})
    refused = event(eventName="UpdateUser", requestParameters={"userName": "x"}, errorCode="AccessDenied")
    found = key_changes(History(UpdateUser=[[renamed], [moved, refused]]), SINCE)
    assert found == KeyChanges(frozenset(), renamed=2)


def test_a_change_that_does_not_say_whose_is_counted() -> None:
    role = event(userIdentity={"type": "AssumedRole", "sessionContext": {}})
    root = event(userIdentity={"type": "Root"})  # the root user's own key
    assert key_changes(History(CreateAccessKey=[[role, root]]), SINCE) == KeyChanges(
        frozenset(), incomplete=1
    )
    assert key_changes(History(CreateAccessKey=[[{"CloudTrailEvent": "[]"}]]), SINCE).incomplete == 1


@pytest.mark.parametrize("broken", [{}, {"CloudTrailEvent": "{"}])
def test_an_event_that_cannot_be_understood_is_an_error(broken: dict[str, str]) -> None:
    with pytest.raises(MalformedResponseError):
        key_changes(History(CreateAccessKey=[[broken]]), SINCE)


def test_pages_that_lead_nowhere_are_an_error() -> None:
    with pytest.raises(MalformedResponseError, match="lead in a circle"):
        key_changes(lambda _, __: {"Events": [], "NextToken": "same"}, SINCE)
