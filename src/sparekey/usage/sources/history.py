"""CloudTrail's event history: 90 days of management events, asked by key, in every enabled region.

Source: https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
"""

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

from sparekey.clock import Clock
from sparekey.errors import BadInputError, SparekeyError, UnreadError
from sparekey.model import Usage
from sparekey.usage.aggregation import PartialUsage, UsageAggregator, seconds
from sparekey.usage.archive.layout import BEFORE
from sparekey.usage.records import UseEvent, decode, use_events
from sparekey.usage.request import AwsCall, ReadProgress, UsageRequest
from sparekey.usage.session_join import attribute_sessions

_RETENTION = timedelta(days=90)
_LAG = timedelta(minutes=15)  # events show within about that; AWS guarantees nothing
_PAUSE = timedelta(seconds=0.5)  # two requests a second per account and region
_MOST_SESSIONS = 50
NOTES = ("calls on data (S3 objects, SQS messages, DynamoDB items, …) are not in the event history",)


def read(_: str, keys: Collection[str], request: UsageRequest) -> tuple[Usage, ...]:
    """Read what the event history shows of the keys; it takes no place."""
    if request.call is None:
        raise BadInputError("the event history needs AWS credentials", "Name a profile, or an archive.")
    return _HistoryReader(keys, request, request.call).run()


@dataclass
class _RegionHistory:
    """One region: it is asked by one thread at a time, and not faster than AWS lets."""

    name: str | None
    call: AwsCall
    clock: Clock
    window: dict[str, Any]
    max_pages: int
    on_bytes: Callable[[int], None]
    next_at: datetime | None = None
    failed: str = ""
    cut_short: set[str] = field(default_factory=set)

    @property
    def place(self) -> str:
        """How the region is named to people."""
        return f"history in {self.name or 'the default region'}"

    def look_up(self, ids: Iterable[str]) -> list[UseEvent]:
        """The events that these ids signed, newest first; after an error nothing more is asked."""
        events_found: list[UseEvent] = []
        for id_ in ids:
            if self.failed:
                break
            try:
                events_found += self._pages(id_)
            except SparekeyError as error:
                self.failed = error.message
            except (ValueError, RecursionError) as error:
                self.failed = f"an event is not JSON: {error}"
        return events_found

    def _pages(self, id_: str) -> list[UseEvent]:
        attributes = [{"AttributeKey": "AccessKeyId", "AttributeValue": id_}]
        token: dict[str, Any] = {}
        events_found: list[UseEvent] = []
        for _ in range(self.max_pages):
            self._wait()
            page = self.call(
                "cloudtrail",
                "LookupEvents",
                {"LookupAttributes": attributes, "MaxResults": 50, **self.window, **token},
                self.name,
            )
            texts = [entry.get("CloudTrailEvent", "null") for entry in page.get("Events", ())]
            events_found += use_events(decode(text.encode("utf-8", "surrogatepass")) for text in texts)
            self.on_bytes(sum(map(len, texts)))
            if not page.get("NextToken"):
                return events_found
            token = {"NextToken": page["NextToken"]}
        self.cut_short.add(id_)
        return events_found

    def _wait(self) -> None:
        now = self.clock.now()
        if self.next_at is not None and self.next_at > now:
            self.clock.sleep((self.next_at - now).total_seconds())
            now = max(self.clock.now(), self.next_at)
        self.next_at = now + _PAUSE


class _HistoryReader:
    """One reading of the event history."""

    def __init__(self, keys: Collection[str], request: UsageRequest, call: AwsCall) -> None:
        self._keys = {key: key for key in keys}
        self._request = request
        self._call = call
        now = request.clock.now()
        self._since = max(now - _RETENTION, request.since or now - _RETENTION)
        self._until = min(now - _LAG, request.until or now)
        self._window = {
            "StartTime": max(now - _RETENTION, self._since - BEFORE),
            "EndTime": request.until or now,
        }
        self._aggregator = UsageAggregator()
        self._progress = ReadProgress()
        self._lock = threading.Lock()

    def run(self) -> tuple[Usage, ...]:
        """Ask every region for the keys, then for the sessions that they minted, and so on."""
        request = self._request
        regions = [
            _RegionHistory(
                name, self._call, request.clock, self._window, request.max_pages, self._report_progress
            )
            for name in self._regions()
        ]
        owners = dict(self._keys)
        asked = list(self._keys)
        seen: list[UseEvent] = []
        with ThreadPoolExecutor(len(regions)) as threads:
            while asked:
                for events_ in threads.map(_RegionHistory.look_up, regions, repeat(asked)):
                    seen += events_
                new = attribute_sessions(seen, owners, PartialUsage())
                asked = self._sessions_to_follow(new, seen, len(owners) - len(self._keys))
                owners |= new
        self._owners_of(regions, owners)
        return self._usages(seen, owners)

    def _regions(self) -> list[str | None]:
        if self._request.regions:
            return [*sorted(self._request.regions)]
        try:
            answer = self._call("ec2", "DescribeRegions", {})
        except SparekeyError as error:
            self._aggregator.unread("history: the list of regions", error.message)
            return [self._request.region]
        names: set[str | None] = {region["RegionName"] for region in answer["Regions"]}
        return sorted(names, key=str)

    def _sessions_to_follow(self, new: dict[str, str], seen: list[UseEvent], followed: int) -> list[str]:
        """The newest sessions as far as there is room; the others make their keys' usage partial."""
        minted = {use.minted: use.at or 0 for use in seen if use.minted}
        newest = sorted(new, key=lambda session: (-minted[session], session))
        room = max(0, _MOST_SESSIONS - followed)
        for session in newest[room:]:
            self._aggregator.partial(
                new[session], f"only {_MOST_SESSIONS} sessions were followed, the newest"
            )
        return newest[:room]

    def _owners_of(self, regions: list[_RegionHistory], owners: dict[str, str]) -> None:
        """Name what was not read, or not wholly."""
        if all(region.failed for region in regions):
            raise UnreadError(
                f"the event history could not be read in any region: {regions[0].failed}",
                "The permission is cloudtrail:LookupEvents.",
            )
        for region in regions:
            if region.failed:
                self._aggregator.unread(region.place, region.failed)
            for id_ in region.cut_short:
                self._aggregator.partial(
                    owners[id_], f"{region.place}: cut short after {self._request.max_pages} pages of {id_}"
                )

    def _report_progress(self, size: int) -> None:
        with self._lock:
            self._progress.add(size, 1, 0)
            self._request.progress(self._progress)

    def _usages(self, seen: list[UseEvent], owners: dict[str, str]) -> tuple[Usage, ...]:
        part = PartialUsage(int(self._since.timestamp()), seconds(self._request.until), "history")
        attribute_sessions(seen, owners, part)
        self._aggregator.merge(part)
        for session, (key, at) in part.sessions.items():
            if part.covers(at):
                self._aggregator.session(key, session, at)
        return self._aggregator.usages(self._keys, "history", self._since, self._until, NOTES)
