"""How fast one account may be asked for one action: adaptive, pure, no clock of its own.

Two things are adapted. `width` is how many calls are useful in flight: it grows while answers are good and is
halved on a throttle. `rate` is unknown until the first throttle, then it is what AWS was seen to grant. It
dips a little, comes back to where AWS objected, lingers, and only then grows faster, as CUBIC does: where AWS
saves up nothing, a rate just above the limit has every other call refused. A width alone holds no such limit.
Times are seconds on any clock.
"""

import math
import threading
from collections import deque

_WINDOW = 1.0  # seconds over which granted calls are counted
_MIN_INTERVAL = 0.25  # seconds: a burst at the start must not pass for a rate
_MIN_RATE = 0.5  # calls a second
_SPEED_UP = 1.15  # the window lags behind a rate that grows
_SLOW_DOWN = 0.5  # of the rate: no deeper at once
_DIP_BELOW_LIMIT = 0.05  # of the rate: how far below it a cut is
_RECENT_THROTTLE = 0.2  # of the time between two calls
_PLATEAU = 2.0  # seconds until the rate is back where AWS objected
_CALM_SECONDS = 60.0  # seconds after which more calm changes nothing


class RateLimiter:
    """The pace of one (account, action)."""

    def __init__(self, width: int = 16, most: int = 64) -> None:
        self._lock = threading.Lock()
        self._in_flight_limit = float(width)
        self._max_width = most
        self._granted: deque[float] = deque()
        self._started: float | None = None
        self._base: float | None = None  # calls a second that AWS seems to grant
        self._settled = False
        self._slowed_at = 0.0
        self._next = 0.0  # when the next call is due
        self._latency = 0.0
        self._latest = 0.0

    @property
    def max_in_flight(self) -> int:
        """How many calls are useful in flight at once."""
        return max(1, int(self._in_flight_limit))

    def rate(self, now: float) -> float | None:
        """Calls a second, None while AWS has not objected."""
        if self._base is None:
            return None
        calm = min(now - self._slowed_at, _CALM_SECONDS)
        if not self._settled:
            return self._base * math.pow(2, calm)
        return self._base * (1 + _DIP_BELOW_LIMIT * math.pow(calm / _PLATEAU - 1, 3))

    def reserve(self, now: float) -> float:
        """0 where the caller may send now; else the seconds after which to ask again, by a rate of then."""
        with self._lock:
            self._note(now)
            if self._started is None:
                self._started = now
            rate = self.rate(now)
            if rate is None:
                return 0.0
            if now < self._next:
                return self._next - now
            # A thread that woke a little late need not slow down all the others.
            self._next = max(self._next, now - _RECENT_THROTTLE / rate) + 1 / rate
            return 0.0

    def granted(self, now: float, took: float) -> None:
        """A call that took so many seconds was answered."""
        with self._lock:
            self._note(now)
            took = max(0.0, took)
            self._latency = took if not self._latency else 0.8 * self._latency + 0.2 * took
            self._in_flight_limit = min(
                self._measured_limit(now),
                self._in_flight_limit + (1 if self._base is None else 1 / self._in_flight_limit),
            )
            self._granted.append(now)
            self._forget(now)

    def throttled(self, now: float, sent: float) -> None:
        """AWS objected to a call sent at `sent`; one sent before the last cut adds nothing."""
        with self._lock:
            self._note(now)
            if self._base is not None and sent <= self._slowed_at:
                return
            self._forget(now)
            began = now if self._started is None else self._started
            span = min(_WINDOW, max(_MIN_INTERVAL, now - began))
            seen = len(self._granted) / span
            rate = self.rate(sent)
            guess = seen if rate is None else min(rate, max(_SLOW_DOWN * rate, _SPEED_UP * seen))
            self._base = max(_MIN_RATE, seen, guess)
            self._settled = rate is not None  # the first throttle of all follows a burst, which shows little
            self._slowed_at = now
            self._next = now + 1 / self._base
            self._in_flight_limit = min(
                self._in_flight_limit, max(self._in_flight_limit / 2, self._measured_limit(now))
            )

    def _note(self, now: float) -> None:
        """Move all that was noted along with a clock that was set back: nothing waits for the old time."""
        back = self._latest - now
        if back < _WINDOW:  # threads read the time a little out of order
            self._latest = max(self._latest, now)
            return
        self._latest = now
        self._next -= back
        self._slowed_at -= back
        self._granted = deque(moment - back for moment in self._granted)
        if self._started is not None:
            self._started -= back

    def _measured_limit(self, now: float) -> float:
        """Little's law: more than rate times latency would only queue here, and slow down every reaction."""
        rate = self.rate(now)
        return self._max_width if rate is None else min(self._max_width, rate * self._latency + 2)

    def _forget(self, now: float) -> None:
        while self._granted and self._granted[0] <= now - _WINDOW:
            self._granted.popleft()
