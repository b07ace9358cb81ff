"""The event history: pages, regions, pace, sessions, and what it says it could not read."""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sparekey import usage
from sparekey.errors import BadInputError, SparekeyError, UnreadError
from sparekey.model import Usage
from sparekey.usage.request import ReadProgress, UsageRequest
from sparekey.usage.sources import history
from support.archive_samples import NEW, OLD, SESSIONS, mint, record
from support.clocks import VirtualClock

NOW = datetime(2026, 1, 11, tzinfo=UTC)


class FakeTrail:
    """LookupEvents of one account: pages of `size`, newest first, by access key and region."""

    def __init__(self, regions: Mapping[str, list[Any]], size: int = 2) -> None:
        self.regions, self.size = regions, size
        self.denied: set[str] = set()
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def __call__(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        if {action, region} & self.denied:
            raise SparekeyError(f"{action} was denied")
        if action == "DescribeRegions":
            return {"Regions": [{"RegionName": name} for name in self.regions]}
        with self._lock:
            self.asked.append((region, dict(params)))
        (attribute,) = params["LookupAttributes"]
        key = attribute["AttributeValue"]
        found = [
            one for one in self.regions[region or "eu-central-1"] if one["userIdentity"]["accessKeyId"] == key
        ]
        start = int(params.get("NextToken", 0))
        page: dict[str, Any] = {
            "Events": [{"CloudTrailEvent": json.dumps(one)} for one in found[start : start + self.size]]
        }
        return page | ({"NextToken": str(start + self.size)} if start + self.size < len(found) else {})


def calls(count: int, key: str = OLD, **changes: Any) -> list[dict[str, Any]]:
    return [record(key, f"2026-01-10T{hour:02d}:00:00Z", **changes) for hour in reversed(range(count))]


def read(trail: FakeTrail, *keys: str, **options: Any) -> tuple[Usage, ...]:
    options = dict[str, Any](clock=VirtualClock(NOW), call=trail) | options
    return usage.read_usage("history", keys or [OLD], UsageRequest(**options))


def test_every_page_of_every_region_is_read() -> None:
    trail = FakeTrail({"eu-central-1": calls(5), "us-east-1": calls(3, awsRegion="us-east-1", eventID=None)})
    (found,) = read(trail)
    assert (found.calls, found.partial, found.unread) == (8, (), ())
    assert [(use.region, use.calls) for use in found.consumers[0].uses] == [
        ("eu-central-1", 5),
        ("us-east-1", 3),
    ]
    assert sorted(region or "" for region, _ in trail.asked) == ["eu-central-1"] * 3 + ["us-east-1"] * 2
    assert {params["MaxResults"] for _, params in trail.asked} == {50}


def test_it_says_what_it_cannot_see_and_which_time_it_is_of() -> None:
    (found,) = read(FakeTrail({"eu-central-1": calls(1)}))
    assert "S3 objects" in found.notes[0]
    assert (found.since, found.until) == (NOW - timedelta(days=90), NOW - timedelta(minutes=15))


def test_each_region_is_asked_twice_a_second_at_most() -> None:
    clock = VirtualClock(NOW)
    read(FakeTrail({"eu-central-1": calls(6)}), OLD, NEW, clock=clock)
    # Four requests: the first goes at once, the clock stands still.
    assert clock.waits == [0.5, 0.5, 0.5]


def test_sessions_are_followed_chained_and_in_other_regions() -> None:
    trail = FakeTrail(
        {
            "us-east-1": [mint(OLD, SESSIONS[0]), mint(SESSIONS[0], SESSIONS[1])],
            "eu-central-1": [record(SESSIONS[1]), record(SESSIONS[2])],
        }
    )
    (found,) = read(trail)
    assert (found.calls, found.sessions, found.partial) == (3, 2, ())


def test_sessions_that_are_not_followed_make_it_partial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_SESSIONS", 1)
    trail = FakeTrail(
        {
            "eu-central-1": [
                mint(OLD, SESSIONS[0], "2026-01-10T09:00:00Z"),
                mint(OLD, SESSIONS[1], "2026-01-10T10:00:00Z"),
                record(SESSIONS[0]),
                record(SESSIONS[1]),
                mint(SESSIONS[1], SESSIONS[2], "2026-01-10T11:00:00Z"),
            ]
        }
    )
    other, found = read(trail, NEW, OLD)
    assert (found.calls, found.sessions) == (4, 3)
    assert found.partial == ("only 1 sessions were followed, the newest",)
    assert other.partial == ()


def test_cut_short_is_partial_for_that_key_only() -> None:
    trail = FakeTrail({"eu-central-1": calls(5) + calls(1, NEW)})
    new, old = read(trail, OLD, NEW, max_pages=2)
    assert old.calls == 4
    assert old.partial == (f"history in eu-central-1: cut short after 2 pages of {OLD}",)
    assert (new.calls, new.partial) == (1, ())


def test_a_region_that_is_denied_is_named_and_the_others_are_read() -> None:
    trail = FakeTrail({"eu-central-1": calls(2), "us-east-1": calls(3)})
    trail.denied = {"us-east-1"}
    (found,) = read(trail)
    assert found.calls == 2
    assert [(entry.what, entry.why) for entry in found.unread] == [
        ("history in us-east-1", "LookupEvents was denied")
    ]


def test_nothing_read_at_all_is_an_error() -> None:
    trail = FakeTrail({"eu-central-1": []})
    trail.denied = {"LookupEvents"}
    with pytest.raises(UnreadError, match="could not be read in any region"):
        read(trail)


def test_regions_that_cannot_be_listed_are_named() -> None:
    trail = FakeTrail({"eu-central-1": calls(2)})
    trail.denied = {"DescribeRegions"}
    (found,) = read(trail)
    assert found.calls == 2
    assert [entry.what for entry in found.unread] == ["history: the list of regions"]


def test_the_regions_asked_for_need_no_listing() -> None:
    trail = FakeTrail({"eu-central-1": calls(2), "us-east-1": calls(3, eventID=None)})
    trail.denied = {"DescribeRegions"}
    (found,) = read(trail, regions=frozenset({"us-east-1"}))
    assert (found.calls, found.unread) == (3, ())


def test_an_event_that_is_not_json_is_unread() -> None:
    trail = FakeTrail({"eu-central-1": calls(1), "us-east-1": calls(1)})

    def call(
        service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        if action == "LookupEvents" and region == "us-east-1":
            return {"Events": [{"CloudTrailEvent": "{"}]}
        return trail(service, action, params, region)

    (found,) = read(trail, call=call)
    assert found.calls == 1
    assert "not JSON" in found.unread[0].why


def test_the_window_reaches_back_for_sessions() -> None:
    since = datetime(2026, 1, 10, tzinfo=UTC)
    trail = FakeTrail({"eu-central-1": [mint(OLD, SESSIONS[0], "2026-01-09T20:00:00Z"), record(SESSIONS[0])]})
    (found,) = read(trail, since=since, until=datetime(2026, 1, 10, 12, tzinfo=UTC))
    assert (found.calls, found.sessions, found.since) == (1, 0, since)
    assert trail.asked[0][1]["StartTime"] == since - timedelta(days=3)


def test_progress_is_told_by_page() -> None:
    received: list[int] = []

    def tell(progress: ReadProgress) -> None:
        received.append(progress.files)

    read(FakeTrail({"eu-central-1": calls(5)}), progress=tell)
    assert received == [1, 2, 3]


def test_it_needs_credentials() -> None:
    with pytest.raises(BadInputError, match="needs AWS credentials"):
        usage.read_usage("history", [OLD])
