"""The clocks of tests: time that passes only by waiting, that runs fast, or that is hurried."""

import time
from datetime import UTC, datetime, timedelta

from sparekey.clock import SystemClock
from sparekey.sandbox.clock import SandboxClock

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class VirtualClock:
    """Time passes only while somebody waits; `waits` are the waits so far, and `time` may be set, back too."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += timedelta(seconds=seconds)


class RunningClock(VirtualClock):
    """Begins at the same moment in every test and then runs `speed` times as fast as the machine's."""

    def __init__(self, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed
        self.begun = time.monotonic()

    def now(self) -> datetime:
        return self.time + timedelta(seconds=(time.monotonic() - self.begun) * self.speed)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.speed)


class HurriedSandboxClock:
    """A sandbox's clock; a long wait takes at most a tenth of a second, and the clock jumps."""

    def __init__(self, clock: SandboxClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        waited = min(seconds / 20, 0.1) if seconds >= 0.2 else seconds
        time.sleep(waited)
        self._clock.advance(seconds - waited)


class HurriedClock(SystemClock):
    """The machine's clock; waits a third of what it is asked to: what is waited for is a practice AWS."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 3)
