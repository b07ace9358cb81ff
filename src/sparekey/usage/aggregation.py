"""Uses to `Usage`: the same whatever the order, the source and the number of processes.

A `PartialUsage` holds what one piece of work saw; a `UsageAggregator` merges them and counts each event once.
Its memory is bounded: the digests of counted events go to a temporary file when they are many.
"""

import bisect
import mmap
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import overload

from sparekey.model import Consumer, ServiceUse, Unreadable, Usage
from sparekey.usage.agents import printable
from sparekey.usage.records import CallOrigin, UseEvent, digest

_DAY = 86_400
_HOUR = 3_600
_DIGEST = 16
_EPOCH = date(1970, 1, 1)
# More applications than a person can read; the rest is one, and the usage says so.
MOST_CONSUMERS = 20_000
OTHERS = "others"


ConsumerKey = tuple[str, CallOrigin]
"""A key and what is counted together of its uses."""


@dataclass(slots=True)
class UseTotals:
    """What one part saw of a cell."""

    first: int
    last: int
    own_last: int | None = None
    actions: set[str] = field(default_factory=set)
    days: "dict[int, DayCounts]" = field(default_factory=dict)


@dataclass(slots=True)
class DayCounts:
    """The hours (a bit each) and the digests of a day's calls."""

    hours: int = 0
    calls: set[bytes] = field(default_factory=set)
    errors: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class PartialUsage:
    """What one piece of work saw: uses, sessions minted (their key and when), and what it could not read.

    Uses before `since` or from `until` on (epoch seconds) are not counted; `place` is what is being read,
    `read` the bytes that were (inflated), `logs` the files among them that are CloudTrail's.
    """

    since: int | None = None
    until: int | None = None
    place: str = ""
    read: int = 0
    logs: int = 0
    uses: dict[ConsumerKey, UseTotals] = field(default_factory=dict)
    sessions: dict[str, tuple[str, int]] = field(default_factory=dict)
    unread: list[Unreadable] = field(default_factory=list)

    def covers(self, at: int) -> bool:
        """True where a time is in the window."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def report_unread(self, why: str) -> None:
        """Name what is being read as unread, once: one reason is enough to hold a step."""
        place = printable(self.place)
        if not (self.unread and self.unread[-1].what == place):
            self.unread.append(Unreadable(place, why))

    def add(self, use: UseEvent, key: str) -> None:
        """Count one use for the key behind it."""
        at = use.at
        if at is None:
            self.report_unread(f"{use.action}: a record with no readable eventTime")
            return
        if use.minted is not None:
            self.sessions.setdefault(use.minted, (key, at))
        if not ((self.since is None or at >= self.since) and (self.until is None or at < self.until)):
            return
        cell = key, use.where
        seen = self.uses.get(cell)
        if seen is None:
            seen = self.uses[cell] = UseTotals(at, at)
        elif at < seen.first:
            seen.first = at
        elif at > seen.last:
            seen.last = at
        if use.principal == key and (seen.own_last is None or at > seen.own_last):
            seen.own_last = at
        seen.actions.add(use.action)
        day, second = divmod(at, _DAY)
        if (counts := seen.days.get(day)) is None:
            counts = seen.days[day] = DayCounts()
        counts.hours |= 1 << second // _HOUR
        (counts.errors if use.failed else counts.calls).add(use.digest)


@dataclass(slots=True)
class _ConsumerTotals:
    first: int
    last: int
    own_last: int | None
    actions: set[str]
    calls: int = 0
    errors: int = 0
    days: dict[int, tuple[int, int]] = field(default_factory=dict)


class UsageAggregator:
    """Merges parts into usages."""

    def __init__(self, once: "Deduplicator | None" = None) -> None:
        self._deduplicator = once or Deduplicator()
        self._by_consumer: dict[ConsumerKey, _ConsumerTotals] = {}
        self._sessions: dict[str, int] = defaultdict(int)
        self._partial: dict[str, set[str]] = defaultdict(set)
        self._unread: set[Unreadable] = set()

    @property
    def first(self) -> int | None:
        """When the first call was, of whichever key (epoch seconds)."""
        return min((total.first for total in self._by_consumer.values()), default=None)

    @property
    def last(self) -> int | None:
        """When the last call was, of whichever key (epoch seconds)."""
        return max((total.last for total in self._by_consumer.values()), default=None)

    def merge(self, part: PartialUsage) -> None:
        """Take in a part; events and sessions that were counted before count no more."""
        self._unread.update(part.unread)
        for cell, seen in part.uses.items():
            for day, counts in seen.days.items():
                ok = self._deduplicator.first_occurrences(counts.calls, seen.first, seen.last)
                bad = self._deduplicator.first_occurrences(counts.errors, seen.first, seen.last)
                self.count(cell, seen, {day: (ok + bad, counts.hours)}, bad)

    def session(self, key: str, session: str, at: int) -> None:
        """Count a session that the key (or a session of it) minted."""
        self.sessions(key, self._deduplicator.first_occurrences({digest(session)}, at, at))

    def sessions(self, key: str, number: int) -> None:
        """Take in counted sessions."""
        self._sessions[key] += number

    def count(
        self, cell: ConsumerKey, seen: UseTotals, days: dict[int, tuple[int, int]], errors: int
    ) -> None:
        """Take in counted calls: per day their number and the hours, a bit each."""
        total = self._total(cell, seen)
        total.first = min(total.first, seen.first)
        total.last = max(total.last, seen.last)
        if seen.own_last is not None:
            total.own_last = max(seen.own_last, total.own_last or seen.own_last)
        total.actions |= seen.actions
        total.errors += errors
        for day, (calls, hours) in days.items():
            before, at = total.days.get(day, (0, 0))
            total.days[day] = before + calls, at | hours
            total.calls += calls

    def partial(self, key: str, why: str) -> None:
        """Say why the usage of a key may not be whole."""
        self._partial[key].add(why)

    def unread(self, what: str, why: str) -> None:
        """Name a place that could not be read."""
        self._unread.add(Unreadable(what, why))

    def _total(self, cell: ConsumerKey, seen: UseTotals) -> _ConsumerTotals:
        total = self._by_consumer.get(cell)
        if total is None:
            if len(self._by_consumer) >= MOST_CONSUMERS:
                key, where = cell
                self.partial(key, f"more than {MOST_CONSUMERS} consumers: the rest is counted as one")
                cell = key, where._replace(agent=OTHERS, source=OTHERS)
            total = self._by_consumer.setdefault(
                cell, _ConsumerTotals(seen.first, seen.last, seen.own_last, set(seen.actions))
            )
        return total

    def usages(
        self,
        keys: Collection[str],
        source: str,
        since: datetime | None,
        until: datetime | None,
        notes: tuple[str, ...] = (),
    ) -> tuple[Usage, ...]:
        """One usage for each key asked for, sorted, also where nothing was seen."""
        by_key: dict[str, dict[tuple[str, str], list[ServiceUse]]] = {key: defaultdict(list) for key in keys}
        for (key, where), total in sorted(self._by_consumer.items(), key=lambda entry: entry[0]):
            by_key[key][where.agent, where.source].append(_service_use(where, total))
        unread = tuple(sorted(self._unread, key=lambda entry: (entry.what, entry.why)))
        return tuple(
            Usage(
                key=key,
                source=source,
                since=since,
                until=until,
                calls=sum(use.calls for uses in consumers.values() for use in uses),
                errors=sum(use.errors for uses in consumers.values() for use in uses),
                sessions=self._sessions.get(key, 0),
                consumers=tuple(Consumer(*who, tuple(uses)) for who, uses in consumers.items()),
                first_seen=min((use.first_seen for uses in consumers.values() for use in uses), default=None),
                last_seen=max((use.last_seen for uses in consumers.values() for use in uses), default=None),
                partial=tuple(sorted(self._partial.get(key, ()))),
                unread=unread,
                notes=notes,
            )
            for key, consumers in sorted(by_key.items())
        )


def _service_use(where: CallOrigin, total: _ConsumerTotals) -> ServiceUse:
    return ServiceUse(
        service=where.service,
        region=where.region,
        actions=tuple(sorted(total.actions)),
        calls=total.calls,
        errors=total.errors,
        first_seen=utc(total.first),
        last_seen=utc(total.last),
        longest_gap=timedelta(hours=_longest_gap(total.days)),
        own_last=None if total.own_last is None else utc(total.own_last),
        daily=tuple((_EPOCH + timedelta(days=day), calls) for day, (calls, _) in sorted(total.days.items())),
    )


def utc(at: int) -> datetime:
    """Epoch seconds as an aware time; works for any year."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)


def seconds(when: datetime | None) -> int | None:
    """An aware time as epoch seconds."""
    return None if when is None else int(when.timestamp())


def _longest_gap(days: dict[int, tuple[int, int]]) -> int:
    """Hours between two hours with calls that follow one another, the longest."""
    hours = [
        day * 24 + hour for day, (_, mask) in sorted(days.items()) for hour in range(24) if mask >> hour & 1
    ]
    return max((after - before for before, after in pairwise(hours)), default=0)


class Deduplicator:
    """A set of digests that counts each once and keeps its memory: older ones move to a temporary file.

    Two copies of an event have the same time, so a digest is looked for only in those runs on disk whose time
    it could be in; read in the order of delivery, that is hardly ever more than one.
    """

    def __init__(self, limit: int = 400_000) -> None:
        self._limit = limit
        self._recent: set[bytes] = set()
        self._first = self._last = 0
        self._sorted_files: list[_SortedFile] = []

    def first_occurrences(self, digests: Iterable[bytes], first: int, last: int) -> int:
        """Remember these; returns how many were not known. `first` and `last` bound their times."""
        new = set(digests) - self._recent
        for run in self._sorted_files:
            if new and run.first <= last and first <= run.last:
                new = {digest_ for digest_ in new if digest_ not in run}
        if not new:
            return 0
        self._first = min(first, self._first) if self._recent else first
        self._last = max(last, self._last) if self._recent else last
        self._recent |= new
        if len(self._recent) > self._limit:
            self._sorted_files.append(_SortedFile(self._recent, self._first, self._last))
            self._recent = set()
        return len(new)


class _SortedFile(Sequence[bytes]):
    """Sorted digests in a temporary file that has no name."""

    def __init__(self, digests: Iterable[bytes], first: int, last: int) -> None:
        self.first, self.last = first, last
        with tempfile.TemporaryFile() as file:
            file.write(b"".join(sorted(digests)))
            file.flush()
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._bytes) // _DIGEST

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self._bytes[index * _DIGEST : index * _DIGEST + _DIGEST]

    def __contains__(self, digest_: object) -> bool:
        if not isinstance(digest_, bytes):
            return False
        at = bisect.bisect_left(self, digest_)
        return at < len(self) and self[at] == digest_
