"""How fast one account may be asked for one action: adaptive, pure, no clock of its own.

Two things are adapted. `width` is how many calls are useful in flight: it grows while answers are good and is
halved on a throttle. `rate` is unknown until the first throttle; then it is what AWS was just seen to grant,
and grows again, ever faster, until AWS objects: a width alone holds no limit below one call a round trip.
Times are seconds on any clock.
"""

import threading
from collections import deque

_WINDOW = 1.0  # seconds over which granted calls are counted
_SHORTEST = 0.25  # seconds: a burst at the start must not pass for a rate
_SLOWEST = 0.5  # calls a second
_EASE = 0.95  # of what was granted
_CUT = 0.5  # of the rate: no deeper at once


class Pace:
    """The pace of one (account, action)."""

    def __init__(self, width: int = 16, most: int = 64) -> None:
        self._lock = threading.Lock()
        self._width = float(width)
        self._most = most
        self._granted: deque[float] = deque()
        self._began: float | None = None
        self._base: float | None = None  # calls a second just after the last throttle
        self._cut_at = 0.0
        self._next = 0.0  # when the next call may go
        self._latency = 0.0

    @property
    def width(self) -> int:
        """How many calls are useful in flight at once."""
        return max(1, int(self._width))

    def rate(self, now: float) -> float | None:
        """Calls a second, None while AWS has not objected."""
        if self._base is None:
            return None
        calm = now - self._cut_at
        return self._base * (1 + 0.05 * calm + 0.05 * calm**3)

    def turn(self, now: float) -> float:
        """Take the next turn: how many seconds to wait before sending."""
        with self._lock:
            if self._began is None:
                self._began = now
            rate = self.rate(now)
            if rate is None:
                return 0.0
            at = max(now, self._next)
            self._next = at + 1 / rate
            return at - now

    def granted(self, now: float, took: float) -> None:
        """A call that took so many seconds was answered."""
        with self._lock:
            self._latency = took if not self._latency else 0.8 * self._latency + 0.2 * took
            self._width = min(self._useful(now), self._width + (1 if self._base is None else 1 / self._width))
            self._granted.append(now)
            self._forget(now)

    def throttled(self, now: float, asked: float) -> None:
        """AWS objected to a call that took its turn at `asked`: before the last cut, it says nothing new."""
        with self._lock:
            if self._base is not None and asked <= self._cut_at:
                return
            self._forget(now)
            began = now if self._began is None else self._began
            span = min(_WINDOW, max(_SHORTEST, now - began))
            rate = self.rate(now)
            least = _SLOWEST if rate is None else _CUT * rate  # a window with few calls in it says little
            self._base = max(_SLOWEST, least, _EASE * len(self._granted) / span)
            self._cut_at = now
            self._next = max(self._next, now)
            self._width = min(self._width, max(self._width / 2, self._useful(now)))

    def _useful(self, now: float) -> float:
        """Little's law: more than rate times latency would only queue here, and slow down every reaction."""
        rate = self.rate(now)
        return self._most if rate is None else min(self._most, rate * self._latency + 2)

    def _forget(self, now: float) -> None:
        while self._granted and self._granted[0] <= now - _WINDOW:
            self._granted.popleft()
