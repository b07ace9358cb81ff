"""The hot path: one archive file to the uses in it.

Unpack it (`unpack`), look for the wanted ids as text, and only where one occurs let msgspec cut the file into
records and decode those that hold one. Records are cut by the parser and never by hand: the text search only
shows which of them to decode. What the search cannot be sure of (escapes that could spell an id, a name written
twice) is decoded record by record by a reader that refuses what can be read in two ways. Measured in
docs/explanation/benchmarks.md.
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

from sparekey.usage.aggregation import PartialUsage
from sparekey.usage.archive.decompression import decompressed
from sparekey.usage.archive.session_feed import SessionFeed
from sparekey.usage.bounds import ForeignTextError
from sparekey.usage.records import UseEvent, decode, lenient_record, unique_object, use_event
from sparekey.usage.session_join import attribute_sessions

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
_NAME = b'"Records"'
_LINE = re.compile(rb"[^\r\n]+")
# A text of more is counted before it is taken apart: a record of two bytes takes a hundred once it is read.
_LONG = 1 << 26
_MOST_COMMAS, _MOST_OBJECTS = 1 << 24, 1 << 22


_Match = tuple[int, int, int]
"""Which text was found, and where it begins and ends."""


class _LogDocument(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw]


_file = msgspec.json.Decoder(_LogDocument)


def keep_buffers() -> None:
    """Keep large buffers in the heap: giving each back to the system ends in a storm of page faults.

    Does nothing where the C library is not glibc. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    trim_threshold, mmap_max = -1, -4
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 1 << 30)


class IdMatcher:
    """The wanted ids as text: which key each key and session id stands for.

    What was published on the feed after `position` is new.
    """

    def __init__(self, keys: Mapping[str, str], board: SessionFeed | None = None, position: int = 0) -> None:
        self.keys = dict(keys)
        self.stems = set(_stems(keys))
        prefixes = {stem[: len(_SESSION)] for stem in self.stems} - {_SESSION}
        self._search = BytesAhoCorasick(sorted(prefixes))
        self._feed, self._position = board, position

    def add(self, sessions: Mapping[str, str]) -> frozenset[bytes]:
        """Want these sessions too; returns the stems that are new."""
        self.keys |= sessions
        new = _stems(sessions) - self.stems
        self.stems |= new
        return new

    def publish(self, sessions: Mapping[str, str]) -> None:
        """Want these sessions too, and let other processes."""
        if self.add(sessions) and self._feed:
            self._feed.publish(sessions)

    def read_feed(self) -> frozenset[bytes]:
        """Search for what other processes published too; returns the stems that are new."""
        if self._feed is None or self._feed.end == self._position:
            return frozenset()
        begin, self._position = self._position, self._feed.end
        return self.add(self._feed.read_from(begin))

    def find_named(self, text: str) -> bool:
        """True where a wanted id stands in a text."""
        return any(stem.decode() in text for stem in self.stems)

    def find_long_term(self, text: bytes) -> list[_Match]:
        """Where ids stand in a text that begin like wanted keys."""
        return self._search.find_matches_as_indexes(text)


def scan_log(data: bytes, matcher: IdMatcher, partial: PartialUsage) -> Set[bytes] | None:
    """Count into `partial` the uses of the wanted ids in one file, and want the sessions that were minted in it.

    Returns the stems of sessions in it that are not wanted; None where any might be in it. Raises
    ForeignError, and counts nothing, where the file can't be read whole.
    """
    text = decompressed(data)
    partial.read += len(text)
    if len(text) > _LONG:
        _unbounded_number(text)
    if _ESCAPE.find_matches_as_indexes(text) and _ESCAPED.search(text):
        _add_uses(_tolerant_uses(text, matcher), matcher, partial)
        return None
    places = _SESSIONS.find_matches_as_indexes(text)
    number = len(places)
    places += matcher.find_long_term(text)
    stems = [text[at : at + STEM] for _, at, _ in places]
    sessions = set(stems[:number])
    matcher.read_feed()
    if not matcher.stems.isdisjoint(stems):
        _add_uses(_uses(text, places, stems, matcher), matcher, partial)
        return sessions - matcher.stems
    if not (text.startswith(_BEGIN) and text.endswith(_END)) and _cut_records(text) is None:
        deque(_tolerant_records(text), 0)
    return sessions


def _unbounded_number(text: bytes) -> None:
    """Refuse a text that would take many times its size as records: millions of tiny ones."""
    if text.count(b",") > _MOST_COMMAS or text.count(b"{") > _MOST_OBJECTS:
        raise ForeignTextError("it holds more values than a log file does")


def _add_uses(uses: list[UseEvent], matcher: IdMatcher, partial: PartialUsage) -> None:
    known = len(partial.sessions)
    attribute_sessions(uses, matcher.keys, partial)
    if len(partial.sessions) > known:
        new = islice(partial.sessions.items(), known, None)
        matcher.publish({session: key for session, (key, _) in new})


def _uses(text: bytes, places: list[_Match], stems: list[bytes], matcher: IdMatcher) -> list[UseEvent]:
    """Decode the records that hold a wanted id, and those of the sessions that these mint."""
    records = _cut_records(text)
    ends = None if records is None else _ends(text, records)
    if records is None or ends is None:
        return _all_uses(text, matcher)
    uses: list[UseEvent] = []
    done: set[int] = set()
    stems_wanted: Set[bytes] = matcher.stems
    while stems_wanted:
        hits = compress(places, map(stems_wanted.__contains__, stems))
        held = {bisect_right(ends, at) for _, at, _ in hits} - done
        if len(records) in held:  # an id that stands after the records
            return _all_uses(text, matcher)
        more = _uses_of((records[index] for index in sorted(held)), matcher)
        done |= held
        uses += more
        stems_wanted = _stems(use.minted for use in more if use.minted) or matcher.read_feed()
    return uses


def _all_uses(text: bytes, matcher: IdMatcher) -> list[UseEvent]:
    """Decode every record, however the file is written."""
    records = _cut_records(text) if text.count(_NAME) == 1 else None
    return _tolerant_uses(text, matcher) if records is None else _uses_of(records, matcher)


def _uses_of(records: Iterable[msgspec.Raw], matcher: IdMatcher) -> list[UseEvent]:
    """The uses that records show; raises ForeignError where one can't be read."""
    uses = []
    try:
        for raw in records:
            record = decode(raw)
            if record is not None and (use := use_event(record)) is not None:
                uses.append(use)
            else:
                _why_unreadable(json.loads(bytes(raw)), matcher)
    except (ValueError, RecursionError) as error:
        raise (
            error
            if isinstance(error, ForeignTextError)
            else ForeignTextError(f"a record is not JSON: {error}")
        ) from error
    return uses


def _tolerant_uses(text: bytes, matcher: IdMatcher) -> list[UseEvent]:
    """The uses in a file that the strict parser does not cut into records."""
    uses = []
    for value in _tolerant_records(text):
        record = lenient_record(value)
        if record is not None and (use := use_event(record)) is not None:
            uses.append(use)
        else:
            _why_unreadable(value, matcher)
    return uses


def _why_unreadable(value: Any, matcher: IdMatcher) -> None:
    """Raise ForeignError where a record without a signer names a wanted id where only a signer stands.

    A call that only concerns a key names it elsewhere: in its parameters, or in its answer.
    """
    identity = value.get("userIdentity") if isinstance(value, dict) else None
    if matcher.find_named(json.dumps(identity if isinstance(identity, dict) else value)):
        raise ForeignTextError("a record names the key, and it cannot be read who signed it")


def _cut_records(text: bytes) -> list[msgspec.Raw] | None:
    """The records of a log file as the parser bounds them; None where it is none to a strict reader."""
    try:
        return _file.decode(text).Records
    except (msgspec.MsgspecError, RecursionError):
        return None


def _tolerant_records(text: bytes) -> Iterator[Any]:
    """The records of a log file or of JSON lines as the standard library reads them."""
    empty = True
    for line in _documents(text):
        empty = False
        yield from _records(line)
    if empty:
        raise ForeignTextError("it is empty")


def _documents(text: bytes) -> Iterator[Any]:
    """The JSON documents of a file: one, or one on each line."""
    whole = "a strict reader refuses it"
    if len(text) <= _LONG:  # the library's own reading takes ten times the memory
        try:
            document = _document(text)
        except (ValueError, RecursionError) as error:
            whole = str(error)
        else:
            yield document
            return
    for match in _LINE.finditer(text):
        if match.end() - match.start() > _LONG:
            raise ForeignTextError(f"not JSON: {whole}, and a line of it is larger than 64 MiB")
        if line := match[0].strip():
            try:
                document = _document(line)
            except (ValueError, RecursionError):
                raise ForeignTextError(f"not JSON: {whole}") from None
            yield document


def _document(text: bytes) -> Any:
    return json.loads(text.decode("utf-8", "surrogatepass"), object_pairs_hook=unique_object)


def _records(line: Any) -> list[Any]:
    """The records of one JSON document: a log file's, or itself one."""
    if isinstance(line, dict):
        if isinstance(records := line.get("Records"), list):
            return records
        if isinstance(line.get("eventSource"), str):
            return [line]
    raise ForeignTextError("it holds no CloudTrail records")


def _ends(text: bytes, records: list[msgspec.Raw]) -> list[int] | None:
    """Where each record ends, or None where the file is not written as CloudTrail writes it.

    The parser returns how long each record is. Where the first follows right on the opening, and their lengths
    with one comma after each reach exactly to the closing, there is no room for anything between them.
    """
    ends = [*map(add, accumulate(map(len, records)), count(len(_BEGIN)))]
    compact = ends and text.startswith(_BEGIN) and text.endswith(_END) and ends[-1] == len(text) - len(_END)
    return ends if compact else None


def _stem(key: str) -> bytes:
    return key[:STEM].encode()


def _stems(keys: Iterable[str]) -> frozenset[bytes]:
    return frozenset(map(_stem, keys))
