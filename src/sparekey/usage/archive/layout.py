"""How CloudTrail lays out its files, and in which order they are read.

`[prefix/]AWSLogs/[o-id/]account/CloudTrail/region/YYYY/MM/DD/account_CloudTrail_region_time_id.json.gz`; the
time is when the file was delivered, so no record in it is later.
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from sparekey.model import Value
from sparekey.usage.archive.delivering_services import delivering_service
from sparekey.usage.archive.storage import ArchiveStorage, Found

_FILE = re.compile(r"(\d{12})_CloudTrail_([a-z0-9-]+)_(\d{8}T\d{4}Z)_[^/]*$")
_TRAIL = re.compile(r"/(\d{12})/CloudTrail/([a-z0-9-]+)((?:/\d+){0,3})$")
_REGION = re.compile(r"/\d{12}/CloudTrail/([a-z0-9-]+)(?:/|$)")
_ACCOUNT = re.compile(r"/AWSLogs/(?:o-[a-z0-9]+/)?(\d{12})(?:/|$)")
_STAMP = "%Y%m%dT%H%MZ"
_NO_END = "~"  # sorts behind all stamps
# Sessions minted before the window call within it; records of the window are delivered after it.
BEFORE = timedelta(days=3)
AFTER = timedelta(days=2)


class LogFile(NamedTuple):
    """One file, sorted by when it was delivered: the stamp in its name, or an empty one.

    Its name is the path below the place's root, its size about how many bytes it has.
    """

    stamp: str
    name: str
    size: int


_Dated = tuple[date, list[LogFile]]


class ReadScope(Value, frozen=True):
    """Which files matter: accounts and regions (all, where empty) and the time of the calls."""

    accounts: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def stamps(self) -> tuple[str, str]:
        """The first and the last stamp of files that may hold what is asked for."""
        first = f"{self.since - BEFORE:{_STAMP}}" if self.since else ""
        return first, f"{self.until + AFTER:{_STAMP}}" if self.until else _NO_END

    def covers(self, account: str, region: str | None = None) -> bool:
        """True where this account, and region, are asked for."""
        return (not self.accounts or account in self.accounts) and (
            region is None or not self.regions or region in self.regions
        )

    def for_days(self, first: date, last: date) -> bool:
        """True where these days may hold files that are asked for."""
        return (self.since is None or last >= (self.since - BEFORE).date()) and (
            self.until is None or first <= (self.until + AFTER).date()
        )


def reading_limit(place: ArchiveStorage) -> str | None:
    """Why a place shows a part of an archive only; None where that is unknown."""
    if place.single_file is not None:
        return f"only the file {place.single_file} was read"
    if region := _REGION.search(place.root):
        return f"only region {region[1]} was read: {place.root} is one part of an archive"
    return None


def delivery_time(stamp: str) -> datetime | None:
    """The time of a stamp; None where it is none."""
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def files_in_order(
    place: ArchiveStorage, scope: ReadScope, failed: Callable[[str, OSError], None]
) -> Iterator[LogFile]:
    """Every file that may matter, oldest delivery first, one day of all accounts and regions at a time.

    Files outside of the layout come first, whatever their names: what they are, their content shows. `failed` is
    called for each folder that can't be listed, and for what in it is neither a folder nor a file.
    """
    walk = _ArchiveWalk(place, scope, failed)
    loose: list[LogFile] = []
    trails = [walk.days(folder) for folder in walk.trails("", loose)]
    yield from sorted(loose)
    for _, days in groupby(heapq.merge(*trails, key=itemgetter(0)), key=itemgetter(0)):
        yield from sorted(entry for _, entries in days for entry in entries)


class _ArchiveWalk:
    def __init__(
        self, place: ArchiveStorage, scope: ReadScope, failed: Callable[[str, OSError], None]
    ) -> None:
        self._storage, self._scope, self._failed = place, scope, failed
        self._first, self._last = scope.stamps()
        self._seen: set[object] = set()

    def trails(self, folder: str, loose: list[LogFile]) -> Iterator[str]:
        """The folders of one region of one account's trail; files above them go to `loose`."""
        path = self._path(folder)
        if delivering_service(path):
            return
        account = _ACCOUNT.search(path)
        if account and not self._scope.covers(account[1]):
            return
        if trail := _TRAIL.search(path):
            if self._scope.covers(trail[1], trail[2]):
                yield folder
            return
        folders, files = self._children(folder)
        loose += files
        for below in folders:
            yield from self.trails(below, loose)

    def days(self, folder: str) -> Iterator[_Dated]:
        """The files of one region of one account's trail, by day; what is off the layout comes first."""
        trail = _TRAIL.search(self._path(folder))
        parts = [int(part) for part in trail[3].split("/")[1:]] if trail else []
        span = _span(parts)
        if span is None or len(parts) == 3:
            first, last = span or (date.min, date.max)
            if self._scope.for_days(first, last):
                yield first, list(self._all(folder))
            return
        if not self._scope.for_days(*span):
            return
        folders, files = self._children(folder)
        if files:
            yield span[0], files
        for below in sorted(folders, key=lambda name: _span_of(name, parts)):
            yield from self.days(below)

    def _all(self, folder: str) -> Iterator[LogFile]:
        folders, files = self._children(folder)
        yield from files
        for below in folders:
            yield from self._all(below)

    def _children(self, folder: str) -> tuple[Iterable[str], list[LogFile]]:
        try:
            identity = self._storage.identity(folder)
            if identity in self._seen:  # two links lead to it
                return (), []
            self._seen.add(identity)
            listing = self._storage.children(folder)
        except OSError as error:
            self._failed(folder or self._storage.root, error)
            return (), []
        for name, why in listing.unread:
            self._failed(name, OSError(why))
        return listing.folders, list(self._relevant(listing.files))

    def _relevant(self, files: Iterable[Found]) -> Iterator[LogFile]:
        """The files whose names do not show that nothing in them is asked for, with their stamps."""
        covers, first, last = self._scope.covers, self._first, self._last
        for name, size in files:
            match = _FILE.search(name, name.rfind("/") + 1)
            if match is None:
                yield LogFile("", name, size)
            elif first <= match[3] <= last and covers(match[1], match[2]):
                yield LogFile(match[3], name, size)

    def _path(self, folder: str) -> str:
        return f"/{self._storage.root}/{folder}".rstrip("/")


def _span_of(name: str, parts: list[int]) -> date:
    last = name.rpartition("/")[2]
    span = _span([*parts, int(last)]) if last.isdecimal() else None
    return span[0] if span else date.min


def _span(parts: list[int]) -> tuple[date, date] | None:
    """The first and last day of a year, a month or a day; of all time where there is none of them."""
    if not parts:
        return date.min, date.max
    after = {1: timedelta(days=365 + 1), 2: timedelta(days=31), 3: timedelta(days=1)}[len(parts)]
    try:
        first = date(*[*parts, 1, 1][:3])
        return first, first + after - timedelta(days=1)
    except (ValueError, OverflowError):
        return None
