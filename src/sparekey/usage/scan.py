"""The hot path: one archive file to the uses in it.

Inflate with isal, look for the wanted ids as text, and only where one occurs let msgspec cut the file into
records and decode those that hold one. Records are cut by the parser and never by hand: the text search only
tells which of them to decode. Measured in docs/benchmarks.md.
"""

import ctypes
import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import accumulate, compress, count, islice
from operator import add
from typing import Any

import msgspec
from ahocorasick_rs import BytesAhoCorasick
from isal import isal_zlib

from sparekey.usage.board import Board
from sparekey.usage.fold import Part
from sparekey.usage.join import attribute
from sparekey.usage.records import Event, Record, decode, events, lenient

_GZIP = b"\x1f\x8b"
_MOST = 1 << 29  # no CloudTrail file comes near it; a gzip bomb does
_TOO_LARGE = "larger than 512 MiB"
# An id has 20 characters; were it longer, its beginning would do: the decoder has the last word.
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
STEM = 20
# An escape that could spell a letter or digit of an id.
_ESCAPED = re.compile(rb"\\u00(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aAfF])")
_SESSION = b"ASIA"
_SESSIONS = BytesAhoCorasick([_SESSION])
_ESCAPE = BytesAhoCorasick([b"\\u00"])
# As CloudTrail writes every file: where no wanted id occurs, one look at both ends will do.
_BEGIN, _END = b'{"Records":[', b"]}"


_Match = tuple[int, int, int]
"""Which text was found, and where it begins and ends."""


class ForeignError(ValueError):
    """A file that is no CloudTrail log, or not a whole one."""


class _File(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw]


_file = msgspec.json.Decoder(_File)


def _raised_by_isal() -> type[Exception]:
    """The library's exception; its type stubs take it for a value."""
    found: object = isal_zlib.error
    return found if isinstance(found, type) and issubclass(found, Exception) else Exception


_BadGzip = _raised_by_isal()


def keep_buffers() -> None:
    """Keep large buffers in the heap: giving each back to the system ends in a storm of page faults.

    Does nothing where the C library is not glibc. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    trim_threshold, mmap_max = -1, -4
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 1 << 30)


def inflate(data: bytes) -> bytes:
    """The content of a gzip file with any number of members, or the data itself; raises ForeignError."""
    if not data.startswith(_GZIP):
        return data
    text, rest = _member(data, _MOST)
    if not rest:
        return text
    parts, room = [text], _MOST - len(text)
    while rest := rest.lstrip(b"\0"):
        if room <= 0:
            raise ForeignError(_TOO_LARGE)
        text, rest = _member(rest, room)
        parts.append(text)
        room -= len(text)
    return b"".join(parts)


def _member(data: bytes, room: int) -> tuple[bytes, bytes]:
    """The content of the first gzip member, and what follows it."""
    member = isal_zlib.decompressobj(wbits=31)
    try:
        # The last member's size stands at the end: with it the buffer need not double beyond the text.
        text = member.decompress(data, min(int.from_bytes(data[-4:], "little") + 1, room))
        if not member.eof and len(text) < room:
            text += member.decompress(member.unconsumed_tail, room - len(text))
    except _BadGzip as error:
        raise ForeignError(f"not a gzip file: {error}") from error
    if not member.eof:
        raise ForeignError(_TOO_LARGE if len(text) >= room else "the gzip data is cut short")
    return text, member.unused_data


class Needles:
    """The wanted ids as text: which key each key and session id stands for.

    What was told on the `board` after its position `told` is news.
    """

    def __init__(self, wanted: Mapping[str, str], board: Board | None = None, told: int = 0) -> None:
        self.keys = dict(wanted)
        self.stems = set(_stems(wanted))
        prefixes = {stem[: len(_SESSION)] for stem in self.stems} - {_SESSION}
        self._search = BytesAhoCorasick(sorted(prefixes))
        self._board, self._told = board, told

    def add(self, sessions: Mapping[str, str]) -> frozenset[bytes]:
        """Want these sessions too; returns the stems that are new."""
        self.keys |= sessions
        new = _stems(sessions) - self.stems
        self.stems |= new
        return new

    def tell(self, sessions: Mapping[str, str]) -> None:
        """Want these sessions too, and let other processes."""
        if self.add(sessions) and self._board:
            self._board.tell(sessions)

    def news(self) -> frozenset[bytes]:
        """Want what other processes told of too; returns the stems that are new."""
        if self._board is None or self._board.end == self._told:
            return frozenset()
        begin, self._told = self._told, self._board.end
        return self.add(self._board.since(begin))

    def long_term(self, text: bytes) -> list[_Match]:
        """Where ids stand in a text that begin like wanted keys."""
        return self._search.find_matches_as_indexes(text)


def scan(data: bytes, needles: Needles, part: Part) -> Set[bytes] | None:
    """Count into `part` the uses of the wanted ids in one file, and want the sessions that were minted in it.

    Returns the stems of sessions in it that are not wanted; None where any might be in it. Raises
    ForeignError, and counts nothing, where the file can't be read whole.
    """
    text = inflate(data)
    part.read += len(text)
    if _ESCAPE.find_matches_as_indexes(text) and _ESCAPED.search(text):
        _count(_all_uses(text), needles, part)
        return None
    places = _SESSIONS.find_matches_as_indexes(text)
    number = len(places)
    places += needles.long_term(text)
    stems = [text[at : at + STEM] for _, at, _ in places]
    sessions = set(stems[:number])
    needles.news()
    if not needles.stems.isdisjoint(stems):
        _count(_uses(text, places, stems, needles), needles, part)
        return sessions - needles.stems
    if not (text.startswith(_BEGIN) and text.endswith(_END)) and _cut(text) is None:
        deque(_tolerant(text), 0)
    return sessions


def _count(uses: list[Event], needles: Needles, part: Part) -> None:
    known = len(part.minted)
    attribute(uses, needles.keys, part)
    if len(part.minted) > known:
        new = islice(part.minted.items(), known, None)
        needles.tell({session: key for session, (key, _) in new})


def _uses(text: bytes, places: list[_Match], stems: list[bytes], needles: Needles) -> list[Event]:
    """Decode the records that hold a wanted id, and those of the sessions that these mint."""
    records = _cut(text)
    ends = None if records is None else _ends(text, records)
    if records is None or ends is None:
        return _all_uses(text)
    uses: list[Event] = []
    done: set[int] = set()
    wanted: Set[bytes] = needles.stems
    while wanted:
        found = compress(places, map(wanted.__contains__, stems))
        held = {bisect_right(ends, at) for _, at, _ in found} - done
        if len(records) in held:  # an id that stands after the records
            return _all_uses(text)
        more = list(events(_decoded(records[index] for index in sorted(held))))
        done |= held
        uses += more
        wanted = _stems(use.minted for use in more if use.minted) or needles.news()
    return uses


def _all_uses(text: bytes) -> list[Event]:
    """Decode every record, however the file is written."""
    records = _cut(text)
    return list(events(_tolerant(text) if records is None else _decoded(records)))


def _cut(text: bytes) -> list[msgspec.Raw] | None:
    """The records of a log file as the parser bounds them; None where it is none to a strict reader."""
    try:
        return _file.decode(text).Records
    except (msgspec.MsgspecError, RecursionError):
        return None


def _decoded(records: Iterable[msgspec.Raw]) -> Iterator[Record | None]:
    try:
        yield from map(decode, records)
    except (ValueError, RecursionError) as error:
        raise ForeignError(f"a record is not JSON: {error}") from error


def _tolerant(text: bytes) -> Iterator[Record | None]:
    """The standard library's reading of a log file or of JSON lines."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise ForeignError(f"not JSON: {error}") from error
    else:
        lines = [whole]
    if not lines:
        raise ForeignError("it is empty")
    for line in lines:
        yield from map(lenient, _records(line))


def _records(line: Any) -> list[Any]:
    """The records of one JSON document: a log file's, or itself one."""
    if isinstance(line, dict):
        if isinstance(records := line.get("Records"), list):
            return records
        if isinstance(line.get("eventSource"), str):
            return [line]
    raise ForeignError("it holds no CloudTrail records")


def _ends(text: bytes, records: list[msgspec.Raw]) -> list[int] | None:
    """Where each record ends, or None where the file is not written as CloudTrail writes it.

    The parser tells how long each record is. Where the first follows right on the opening, and their lengths
    with one comma after each reach exactly to the closing, there is no room for anything between them.
    """
    ends = [*map(add, accumulate(map(len, records)), count(len(_BEGIN)))]
    compact = ends and text.startswith(_BEGIN) and text.endswith(_END) and ends[-1] == len(text) - len(_END)
    return ends if compact else None


def _stem(key: str) -> bytes:
    return key[:STEM].encode()


def _stems(keys: Iterable[str]) -> frozenset[bytes]:
    return frozenset(map(_stem, keys))
