"""What processes that read one archive tell each other at once: the sessions that each found minted.

A file that is being read just then is searched for them as well, where it would have to be read once more
later. So what the board misses costs time and nothing else.
"""

from collections.abc import Mapping
from multiprocessing.context import BaseContext

# Some 400,000 sessions: then it is full, and no more is told. Memory is taken as it fills.
_ROOM = 16 << 20


class Board:
    """A text in shared memory that only grows; a process is given it when it starts."""

    def __init__(self, context: BaseContext, room: int = _ROOM) -> None:
        self._room = room
        self._lock = context.Lock()
        self._text = context.RawArray("c", room)
        self._end = context.RawValue("Q", 0)

    @property
    def end(self) -> int:
        """How much has been told."""
        end: int = self._end.value
        return end

    def tell(self, sessions: Mapping[str, str]) -> None:
        """Tell of sessions and the keys behind them."""
        said = "".join(f"{session} {key}\n" for session, key in sessions.items()).encode()
        with self._lock:
            begin, end = self._end.value, self._end.value + len(said)
            if end <= self._room:
                self._text[begin:end] = said
                self._end.value = end

    def since(self, begin: int) -> dict[str, str]:
        """The sessions, and their keys, that were told of after `begin`."""
        with self._lock:
            said: bytes = self._text[begin : self._end.value]
        return dict(line.split(" ") for line in said.decode().splitlines())
