"""A feed between processes that read one archive: the sessions that each found created.

A file that is being read just then is searched for them as well, where it would have to be read once more
later. So what the board misses costs time and nothing else.
"""

from collections.abc import Mapping
from multiprocessing.context import BaseContext

# Some 6,000 sessions: more than are minted while a few tasks run.
_CAPACITY = 1 << 18


class SessionFeed:
    """The end of a text that grows, in shared memory; a process is given it when it starts."""

    def __init__(self, context: BaseContext, room: int = _CAPACITY) -> None:
        self._capacity = room
        self._lock = context.Lock()
        self._text = context.RawArray("c", room)
        self._end = context.RawValue("Q", 0)

    @property
    def end(self) -> int:
        """How much has been published."""
        end: int = self._end.value
        return end

    def publish(self, sessions: Mapping[str, str]) -> None:
        """Publish sessions and the keys behind them."""
        lines = "".join(f"{session} {key}\n" for session, key in sessions.items()).encode()[-self._capacity :]
        with self._lock:
            at = self._end.value % self._capacity
            first, rest = lines[: self._capacity - at], lines[self._capacity - at :]
            self._text[at : at + len(first)] = first
            self._text[: len(rest)] = rest
            self._end.value += len(lines)

    def read_from(self, begin: int) -> dict[str, str]:
        """The sessions, and their keys, published after `begin`; none where that is too long ago."""
        with self._lock:
            size, at = self._end.value - begin, begin % self._capacity
            text: bytes = self._text[at : at + size] + self._text[: max(0, at + size - self._capacity)]
        return dict(line.split(" ") for line in text.decode().splitlines()) if size <= self._capacity else {}
