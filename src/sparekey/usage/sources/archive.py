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
from sparekey.usage.aggregation import Fold, Part, seconds, utc
from sparekey.usage.archive.layout import Entry, Scope, delivered, in_order, limit
from sparekey.usage.archive.other_files import explained
from sparekey.usage.archive.search import STEM, Needles, keep_buffers, scan
from sparekey.usage.archive.session_feed import Board
from sparekey.usage.archive.storage import Place, place
from sparekey.usage.bounds import ForeignError
from sparekey.usage.request import Progress, Request
from sparekey.usage.session_join import Sessions

_CHUNK_BYTES = 4 << 20
_CHUNK_FILES = 1_000
# Starting processes takes longer than reading this.
_POOL_FROM = {"fork": 2 << 20, "spawn": 16 << 20}
_REMEMBERED_BYTES = 32 << 20
_REMEMBERED_SECONDS = 24 * 3_600
_REMEMBERED_TASKS = 64
_SLACK = 900  # names tell the minute, and trust is good
_ANY = b"*"


class _Task(NamedTuple):
    """Files to read, and for whom: key and session ids with the key behind each.

    What the board told up to `told` is among them.
    """

    place: Place
    names: tuple[str, ...]
    wanted: Mapping[str, str]
    since: int | None
    until: int | None
    told: int = 0


class _Others(NamedTuple):
    """Sessions that nobody asked for yet: their stems, file after file, and where those of each file end."""

    stems: bytes
    ends: list[int]

    def holding(self, names: tuple[str, ...], sessions: Iterable[str]) -> tuple[str, ...]:
        """Those of the files that may hold one of some sessions."""
        found: set[int] = set()
        for stem in (_ANY, *(session[:STEM].encode() for session in sessions)):
            at = self.stems.find(stem)
            while at >= 0:
                index = bisect_right(self.ends, at)
                found.add(index)
                at = self.stems.find(stem, self.ends[index])
        return tuple(names[index] for index in sorted(found))


class _Result(NamedTuple):
    """What was seen, and what else is in the files."""

    part: Part
    others: _Others


class _Span(NamedTuple):
    """When the first and the last of some files were delivered (epoch seconds); None where not all names tell."""

    first: int | None
    last: int | None


class _Flying(NamedTuple):
    """A task under way: of when its files are (None: they were read before), what was known when it began."""

    task: _Task
    span: _Span | None
    learnt: int
    told: int
    future: Future[_Result]


class _Passed(NamedTuple):
    """Files that were read, and the sessions in them."""

    span: _Span
    names: tuple[str, ...]
    others: _Others

    @property
    def size(self) -> int:
        """About the memory that it takes."""
        return len(self.others.stems) + 200 * len(self.names)


def read(spec: str, keys: Collection[str], request: Request) -> tuple[Usage, ...]:
    """Read what the archive at `spec` shows of the keys."""
    return _Reading(place(spec, profile=request.profile, region=request.region), keys, request).run()


def work(task: _Task) -> _Result:
    """Read the files of one task, in a worker process or in this one."""
    needles = Needles(task.wanted, _boards[0] if _boards else None, task.told)
    part = Part(task.since, task.until)
    root = task.place.root
    held = [_read(root, name, data, needles, part) for name, data in task.place.fetch(task.names)]
    return _Result(part, _Others(b"".join(held), list(accumulate(map(len, held)))))


def _read(root: str, name: str, data: bytes | OSError, needles: Needles, part: Part) -> bytes:
    """Scan one file; returns the stems of sessions in it that nobody asked for yet."""
    part.place = name
    try:
        if isinstance(data, OSError):
            raise data
        stems = scan(data, needles, part)
    except OSError as error:
        part.miss(error.strerror or str(error))
    except ForeignError as error:
        if isinstance(data, OSError) or not explained(f"{root}/{name}", data):
            part.miss(str(error))
    except MemoryError:
        part.miss("it needs more memory than there is")
    else:
        part.logs += 1
        return _ANY if stems is None else b"".join(stems)
    return b""


class _Reading:
    """One reading of an archive."""

    def __init__(self, where: Place, keys: Collection[str], request: Request) -> None:
        self._place = where
        self._keys = {key: key for key in keys}
        self._request = request
        self._since = seconds(request.since)
        self._until = seconds(request.until)
        self._fold = Fold()
        self._sessions = Sessions()
        self._learnt: list[tuple[str, str]] = []
        self._passed: deque[_Passed] = deque()
        self._remembered = 0
        self._forgotten: int | None = None
        self._oldest: int | None = None
        self._newest: int | None = None
        self._progress = Progress()
        self._logs = 0
        self._refused: tuple[str, str] | None = None

    def run(self) -> tuple[Usage, ...]:
        """Read everything."""
        scope = Scope(self._request.accounts, self._request.regions, self._request.since, self._request.until)
        chunks = _chunks(in_order(self._place, scope, self._failed))
        with _Workers(self._request.processes) as workers:
            flying: deque[_Flying] = deque()
            while True:
                while len(flying) < workers.ahead and (chunk := next(chunks, None)):
                    # Whatever was told before the oldest of these began is known here by now.
                    told = flying[0].told if flying else workers.told()
                    flying.append(self._first_time(chunk, told, workers))
                if not flying:
                    break
                landed = flying.popleft()
                for names, wanted in self._take(landed, workers.result(landed.future)):
                    task = landed.task._replace(names=names, wanted=wanted, told=workers.told())
                    future = workers.submit(task)
                    flying.append(_Flying(task, None, len(self._learnt), task.told, future))
        return self._usages()

    def _first_time(self, chunk: list[Entry], told: int, workers: "_Workers") -> _Flying:
        span = _span(chunk)
        if (first := span.first) is not None and (last := span.last) is not None:
            self._oldest = first if self._oldest is None else min(self._oldest, first)
            self._newest = last if self._newest is None else max(self._newest, last)
        wanted = self._keys | self._sessions.alive(span.first)
        names = tuple(entry.name for entry in chunk)
        task = _Task(self._place, names, wanted, self._since, self._until, told)
        now = workers.told()
        return _Flying(task, span, len(self._learnt), now, workers.submit(task, _size(chunk)))

    def _take(self, landed: _Flying, result: _Result) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
        """Merge a result; yields what has to be read once more, and for which sessions."""
        late = dict(self._learnt[landed.learnt :])  # while these files were being read
        self._fold.merge(result.part)
        new = self._sessions.learn(result.part.minted)
        for session, (key, at) in new.items():
            self._learnt.append((session, key))
            if result.part.covers(at):
                self._fold.session(key, session, at)
            if self._forgotten is not None and at <= self._forgotten:
                self._fold.partial(
                    key, f"the minting of a session at {utc(at):%Y-%m-%dT%H:%MZ} came too late"
                )
        if landed.span is not None:
            names = landed.task.names
            self._remember(_Passed(landed.span, names, result.others))
            self._logs += result.part.logs
            self._progress.add(result.part.read, len(names), len(result.part.unread))
            self._request.progress(self._progress)
            if late and (again := result.others.holding(names, late)):
                yield again, late
        if new:
            wanted = {session: key for session, (key, _) in new.items()}
            minted = min(at for _, at in new.values())
            for passed in self._passed:
                after = passed.span.last is None or passed.span.last + _SLACK >= minted
                if after and (again := passed.others.holding(passed.names, wanted)):
                    yield again, wanted

    def _remember(self, passed: _Passed) -> None:
        if passed.others.stems:  # nothing else is ever looked for in it
            self._passed.append(passed)
            self._remembered += passed.size
        while self._passed and (self._remembered > _REMEMBERED_BYTES or self._outlived(passed.span.first)):
            gone = self._passed.popleft()
            self._remembered -= gone.size
            until = _ALWAYS if gone.span.last is None else gone.span.last + _SLACK
            self._forgotten = max(self._forgotten or 0, until)

    def _outlived(self, now: int | None) -> bool:
        oldest = self._passed[0].span.last
        return (
            len(self._passed) > _REMEMBERED_TASKS
            and now is not None
            and oldest is not None
            and oldest < now - _REMEMBERED_SECONDS
        )

    def _failed(self, folder: str, error: OSError) -> None:
        what, why = printable(folder), error.strerror or str(error)
        self._refused = self._refused or (what, why)
        self._fold.unread(what, why)

    def _check(self) -> None:
        """Raise UnreadError where nothing was read at all."""
        root = printable(self._place.root)
        if self._refused and not self._progress.files:
            what, why = self._refused
            raise UnreadError(
                f"{root if what == root else f'{what} in {root}'} could not be read: {why}",
                "Nothing of the archive was read. Give these credentials the right to list and to get it.",
            )
        if not self._logs and not self._refused and not self._progress.unread:
            raise UnreadError(
                f"nothing under {root} is a CloudTrail log file of what was asked for",
                "Name the folder above AWSLogs, and check --since, --until, --usage-account and --usage-region.",
            )

    def _usages(self) -> tuple[Usage, ...]:
        """The window is what was asked for, as far as the archive reaches."""
        self._check()
        if why := limit(self._place):
            for key in self._keys:
                self._fold.partial(key, why)
        # Where no name shows when files were delivered, only the calls show what they cover.
        seen = self._fold.first, self._fold.last
        oldest, newest = seen if self._oldest is None else (self._oldest, self._newest)
        since = [time for time in (self._request.since, None if oldest is None else utc(oldest)) if time]
        until = [time for time in (self._request.until, None if newest is None else utc(newest)) if time]
        if until:  # a name may be of any time, but no file is delivered in the future
            until.append(self._request.clock.now())
        source = f"archive {printable(self._place.root)}"
        return self._fold.usages(self._keys, source, max(since, default=None), min(until, default=None))


_ALWAYS = 1 << 40


def _span(entries: list[Entry]) -> _Span:
    stamps = [entry.stamp for entry in entries]
    first, last = (delivered(told) if told else None for told in (min(stamps), max(stamps)))
    return _Span(int(first.timestamp()), int(last.timestamp())) if first and last else _Span(None, None)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
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


def _size(entries: list[Entry]) -> int:
    return sum(entry.size for entry in entries)


class _Workers(ExitStack):
    """Runs tasks here while they are few, and in processes from then on."""

    def __init__(self, processes: int | None) -> None:
        super().__init__()
        self._processes = processes or os.cpu_count() or 1
        self.ahead = 1
        self._pool: ProcessPoolExecutor | None = None
        self._board: Board | None = None
        self._bytes = 0
        keep_buffers()

    def submit(self, task: _Task, size: int = 0) -> Future[_Result]:
        """Start a task; `size` is that of its files."""
        if self._pool is None and self._processes > 1:
            how = _how_to_start()
            self._bytes += size
            if self._bytes > _POOL_FROM[how]:
                self._start(multiprocessing.get_context(how))
        if self._pool is not None:
            return self._pool.submit(work, task)
        done: Future[_Result] = Future()
        done.set_result(work(task))
        return done

    def _start(self, context: BaseContext) -> None:
        self._board = Board(context)
        self._pool = self.enter_context(
            ProcessPoolExecutor(self._processes, context, initializer=_begin, initargs=(self._board,))
        )
        self.ahead = self._processes + 2

    def told(self) -> int:
        """How much the processes have told each other."""
        return self._board.end if self._board else 0

    def result(self, future: Future[_Result]) -> _Result:
        """The outcome of a task; raises UnreadError where its process died."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise UnreadError(
                "a process that read the archive was ended", "Give it more memory, or --processes 1."
            ) from error


_boards: list[Board] = []


def _begin(board: Board) -> None:
    """Make a new process a worker."""
    gc.freeze()  # what it was started with stays, and stays shared
    keep_buffers()
    _boards[:] = [board]


def _how_to_start() -> str:
    """`fork` where this process has one thread (what another held would stay locked), else `spawn`.

    https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods
    """
    try:
        alone = len(list(Path("/proc/self/task").iterdir())) == 1  # also of those that Python does not know
    except OSError:
        alone = False  # not Linux
    return "fork" if alone else "spawn"
