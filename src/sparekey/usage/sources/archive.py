"""CloudTrail's log files under a folder or `s3://bucket/prefix`, read once, in the order of delivery.

Sessions are joined in that one pass. A session calls after it was minted, so only files delivered after that
can hold its calls; nearly all of them are still to come when the minting is read. For the few that were read
before (another region's, another process's), each file's session ids are remembered for a while, and the
files that hold a session learnt of later are read once more for it. What is remembered is bounded, whatever
the archive's size; a minting delivered so late that files have been forgotten makes the usage partial.
"""

import gc
import multiprocessing
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import accumulate
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import NamedTuple

from sparekey.errors import UnreadError
from sparekey.model import Usage
from sparekey.usage.agents import printable
from sparekey.usage.aggregation import PartialUsage, UsageAggregator, seconds, utc
from sparekey.usage.archive.layout import LogFile, ReadScope, delivery_time, files_in_order, reading_limit
from sparekey.usage.archive.other_files import explain_other_file
from sparekey.usage.archive.search import STEM, IdMatcher, keep_buffers, scan_log
from sparekey.usage.archive.session_feed import SessionFeed
from sparekey.usage.archive.storage import ArchiveStorage, open_storage
from sparekey.usage.bounds import ForeignTextError
from sparekey.usage.request import ReadProgress, UsageRequest
from sparekey.usage.session_join import KnownSessions

_CHUNK_BYTES = 4 << 20
_CHUNK_FILES = 1_000
# Starting processes takes longer than reading this.
_POOL_FROM = {"fork": 2 << 20, "spawn": 16 << 20}
_REMEMBERED_BYTES = 32 << 20
_REMEMBERED_SECONDS = 24 * 3_600
_REMEMBERED_TASKS = 64
_SLACK = 900  # names have the minute
_ANY = b"*"


class _ScanTask(NamedTuple):
    """Files to read, and for whom: key and session ids with the key behind each.

    What the feed published up to `published` is among them.
    """

    place: ArchiveStorage
    names: tuple[str, ...]
    wanted: Mapping[str, str]
    since: int | None
    until: int | None
    published: int = 0


class _ForeignSessions(NamedTuple):
    """Sessions that nobody asked for yet: their stems, file after file, and where those of each file end."""

    stems: bytes
    ends: list[int]

    def holding(self, names: tuple[str, ...], sessions: Iterable[str]) -> tuple[str, ...]:
        """Those of the files that may hold one of some sessions."""
        positions: set[int] = set()
        for stem in (_ANY, *(session[:STEM].encode() for session in sessions)):
            at = self.stems.find(stem)
            while at >= 0:
                index = bisect_right(self.ends, at)
                positions.add(index)
                at = self.stems.find(stem, self.ends[index])
        return tuple(names[index] for index in sorted(positions))


class _ScanResult(NamedTuple):
    """What was seen, and what else is in the files."""

    part: PartialUsage
    others: _ForeignSessions


class _TimeSpan(NamedTuple):
    """When the first and the last of some files were delivered (epoch seconds); None where not all names have it."""

    first: int | None
    last: int | None


class _PendingTask(NamedTuple):
    """A task under way: of when its files are (None: they were read before), what was known when it began."""

    task: _ScanTask
    span: _TimeSpan | None
    known_before: int
    published: int
    future: Future[_ScanResult]


class _ScannedChunk(NamedTuple):
    """Files that were read, and the sessions in them."""

    span: _TimeSpan
    names: tuple[str, ...]
    others: _ForeignSessions

    @property
    def size(self) -> int:
        """About the memory that it takes."""
        return len(self.others.stems) + 200 * len(self.names)


def read(spec: str, keys: Collection[str], request: UsageRequest) -> tuple[Usage, ...]:
    """Read what the archive at `spec` shows of the keys."""
    return _ArchiveReader(
        open_storage(spec, profile=request.profile, region=request.region), keys, request
    ).run()


def scan_chunk(task: _ScanTask) -> _ScanResult:
    """Read the files of one task, in a worker process or in this one."""
    matcher = IdMatcher(task.wanted, _feeds[0] if _feeds else None, task.published)
    partial = PartialUsage(task.since, task.until)
    root = task.place.root
    held = [_scan_files(root, name, data, matcher, partial) for name, data in task.place.fetch(task.names)]
    return _ScanResult(partial, _ForeignSessions(b"".join(held), list(accumulate(map(len, held)))))


def _scan_files(
    root: str, name: str, data: bytes | OSError, matcher: IdMatcher, partial: PartialUsage
) -> bytes:
    """Scan one file; returns the stems of sessions in it that nobody asked for yet."""
    partial.place = name
    try:
        if isinstance(data, OSError):
            raise data
        stems = scan_log(data, matcher, partial)
    except OSError as error:
        partial.report_unread(error.strerror or str(error))
    except ForeignTextError as error:
        if isinstance(data, OSError) or not explain_other_file(f"{root}/{name}", data):
            partial.report_unread(str(error))
    except MemoryError:
        partial.report_unread("it needs more memory than there is")
    else:
        partial.logs += 1
        return _ANY if stems is None else b"".join(stems)
    return b""


class _ArchiveReader:
    """One reading of an archive."""

    def __init__(self, where: ArchiveStorage, keys: Collection[str], request: UsageRequest) -> None:
        self._storage = where
        self._keys = {key: key for key in keys}
        self._request = request
        self._since = seconds(request.since)
        self._until = seconds(request.until)
        self._aggregator = UsageAggregator()
        self._sessions = KnownSessions()
        self._known_sessions: list[tuple[str, str]] = []
        self._scanned: deque[_ScannedChunk] = deque()
        self._remembered = 0
        self._forgotten: int | None = None
        self._oldest: int | None = None
        self._newest: int | None = None
        self._progress = ReadProgress()
        self._log_count = 0
        self._unread_folders: tuple[str, str] | None = None

    def run(self) -> tuple[Usage, ...]:
        """Read everything."""
        scope = ReadScope(
            self._request.accounts, self._request.regions, self._request.since, self._request.until
        )
        chunks = _chunks(files_in_order(self._storage, scope, self._failed))
        with _ScanWorkers(self._request.processes) as workers:
            flying: deque[_PendingTask] = deque()
            while True:
                while len(flying) < workers.ahead and (chunk := next(chunks, None)):
                    # Whatever was published before the oldest of these began is known here by now.
                    published = flying[0].published if flying else workers.published()
                    flying.append(self._scan_first_time(chunk, published, workers))
                if not flying:
                    break
                landed = flying.popleft()
                for names, needed in self._accept(landed, workers.result(landed.future)):
                    task = landed.task._replace(names=names, wanted=needed, published=workers.published())
                    future = workers.submit(task)
                    flying.append(_PendingTask(task, None, len(self._known_sessions), task.published, future))
        return self._usages()

    def _scan_first_time(self, chunk: list[LogFile], published: int, workers: "_ScanWorkers") -> _PendingTask:
        span = _span(chunk)
        if (first := span.first) is not None and (last := span.last) is not None:
            self._oldest = first if self._oldest is None else min(self._oldest, first)
            self._newest = last if self._newest is None else max(self._newest, last)
        ids = self._keys | self._sessions.active_at(span.first)
        names = tuple(entry.name for entry in chunk)
        task = _ScanTask(self._storage, names, ids, self._since, self._until, published)
        now = workers.published()
        return _PendingTask(task, span, len(self._known_sessions), now, workers.submit(task, _size(chunk)))

    def _accept(
        self, landed: _PendingTask, result: _ScanResult
    ) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
        """Merge a result; yields what has to be read once more, and for which sessions."""
        late = dict(self._known_sessions[landed.known_before :])  # while these files were being read
        self._aggregator.merge(result.part)
        new = self._sessions.add(result.part.sessions)
        for session, (key, at) in new.items():
            self._known_sessions.append((session, key))
            if result.part.covers(at):
                self._aggregator.session(key, session, at)
            if self._forgotten is not None and at <= self._forgotten:
                self._aggregator.partial(
                    key, f"the minting of a session at {utc(at):%Y-%m-%dT%H:%MZ} came too late"
                )
        if landed.span is not None:
            names = landed.task.names
            self._remember(_ScannedChunk(landed.span, names, result.others))
            self._log_count += result.part.logs
            self._progress.add(result.part.read, len(names), len(result.part.unread))
            self._request.progress(self._progress)
            if late and (again := result.others.holding(names, late)):
                yield again, late
        if new:
            new_keys = {session: key for session, (key, _) in new.items()}
            minted = min(at for _, at in new.values())
            for passed in self._scanned:
                after = passed.span.last is None or passed.span.last + _SLACK >= minted
                if after and (again := passed.others.holding(passed.names, new_keys)):
                    yield again, new_keys

    def _remember(self, passed: _ScannedChunk) -> None:
        if passed.others.stems:  # nothing else is ever looked for in it
            self._scanned.append(passed)
            self._remembered += passed.size
        while self._scanned and (self._remembered > _REMEMBERED_BYTES or self._expired(passed.span.first)):
            gone = self._scanned.popleft()
            self._remembered -= gone.size
            until = _NO_TIME_LIMIT if gone.span.last is None else gone.span.last + _SLACK
            self._forgotten = max(self._forgotten or 0, until)

    def _expired(self, now: int | None) -> bool:
        oldest = self._scanned[0].span.last
        return (
            len(self._scanned) > _REMEMBERED_TASKS
            and now is not None
            and oldest is not None
            and oldest < now - _REMEMBERED_SECONDS
        )

    def _failed(self, folder: str, error: OSError) -> None:
        what, why = printable(folder), error.strerror or str(error)
        self._unread_folders = self._unread_folders or (what, why)
        self._aggregator.unread(what, why)

    def _check(self) -> None:
        """Raise UnreadError where nothing was read at all."""
        root = printable(self._storage.root)
        if self._unread_folders and not self._progress.files:
            what, why = self._unread_folders
            raise UnreadError(
                f"{root if what == root else f'{what} in {root}'} could not be read: {why}",
                "Nothing of the archive was read. Give these credentials the right to list and to get it.",
            )
        if not self._log_count and not self._unread_folders and not self._progress.unread:
            raise UnreadError(
                f"nothing under {root} is a CloudTrail log file of what was asked for",
                "Name the folder above AWSLogs, and check --since, --until, --usage-account and --usage-region.",
            )

    def _usages(self) -> tuple[Usage, ...]:
        """The window is what was asked for, as far as the archive reaches."""
        self._check()
        if why := reading_limit(self._storage):
            for key in self._keys:
                self._aggregator.partial(key, why)
        # Where no name shows when files were delivered, only the calls show what they cover.
        seen = self._aggregator.first, self._aggregator.last
        oldest, newest = seen if self._oldest is None else (self._oldest, self._newest)
        since = [time for time in (self._request.since, None if oldest is None else utc(oldest)) if time]
        until = [time for time in (self._request.until, None if newest is None else utc(newest)) if time]
        if until:  # a name may be of any time, but no file is delivered in the future
            until.append(self._request.clock.now())
        source = f"archive {printable(self._storage.root)}"
        return self._aggregator.usages(self._keys, source, max(since, default=None), min(until, default=None))


_NO_TIME_LIMIT = 1 << 40


def _span(entries: list[LogFile]) -> _TimeSpan:
    stamps = [entry.stamp for entry in entries]
    first, last = (delivery_time(stamp) if stamp else None for stamp in (min(stamps), max(stamps)))
    return (
        _TimeSpan(int(first.timestamp()), int(last.timestamp())) if first and last else _TimeSpan(None, None)
    )


def _chunks(entries: Iterable[LogFile]) -> Iterator[list[LogFile]]:
    chunk: list[LogFile] = []
    size, loose = 0, True
    for entry in entries:
        if loose and entry.stamp:  # when the others are from is not known
            loose = False
            if chunk:
                yield chunk
                chunk, size = [], 0
        chunk.append(entry)
        size += entry.size
        if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_FILES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(entries: list[LogFile]) -> int:
    return sum(entry.size for entry in entries)


class _ScanWorkers(ExitStack):
    """Runs tasks here while they are few, and in processes from then on."""

    def __init__(self, processes: int | None) -> None:
        super().__init__()
        self._processes = processes or os.cpu_count() or 1
        self.ahead = 1
        self._pool: ProcessPoolExecutor | None = None
        self._feed: SessionFeed | None = None
        self._bytes = 0
        keep_buffers()

    def submit(self, task: _ScanTask, size: int = 0) -> Future[_ScanResult]:
        """Start a task; `size` is that of its files."""
        if self._pool is None and self._processes > 1:
            method = _start_method()
            self._bytes += size
            if self._bytes > _POOL_FROM[method]:
                self._start(multiprocessing.get_context(method))
        if self._pool is not None:
            return self._pool.submit(scan_chunk, task)
        done: Future[_ScanResult] = Future()
        done.set_result(scan_chunk(task))
        return done

    def _start(self, context: BaseContext) -> None:
        self._feed = SessionFeed(context)
        self._pool = self.enter_context(
            ProcessPoolExecutor(self._processes, context, initializer=_start_worker, initargs=(self._feed,))
        )
        self.ahead = self._processes + 2

    def published(self) -> int:
        """How much the processes have published."""
        return self._feed.end if self._feed else 0

    def result(self, future: Future[_ScanResult]) -> _ScanResult:
        """The outcome of a task; raises UnreadError where its process died."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise UnreadError(
                "a process that read the archive was ended", "Give it more memory, or --processes 1."
            ) from error


_feeds: list[SessionFeed] = []


def _start_worker(board: SessionFeed) -> None:
    """Make a new process a worker."""
    gc.freeze()  # what it was started with is kept, and shared
    keep_buffers()
    _feeds[:] = [board]


def _start_method() -> str:
    """`fork` where this process has one thread (a lock that another held would never be released), else `spawn`.

    https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods
    """
    try:
        alone = len(list(Path("/proc/self/task").iterdir())) == 1  # also of those that Python does not know
    except OSError:
        alone = False  # not Linux
    return "fork" if alone else "spawn"
