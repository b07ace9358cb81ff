"""The sandbox's own time, which tests and the demo can move."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta


class SandboxClock:
    """A clock that runs with the machine's (moved by an offset), or stands still when given a start.

    A standing clock moves only by `advance`, `sleep` and the latency of calls.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._frozen_at = start
        self._offset = timedelta(0)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The present of the sandbox, aware, in UTC."""
        with self._lock:
            return (self._frozen_at or datetime.now(UTC)) + self._offset

    def advance(self, by: timedelta | float) -> None:
        """Move on (or back) by a timedelta or by seconds."""
        with self._lock:
            self._offset += by if isinstance(by, timedelta) else timedelta(seconds=by)

    def sleep(self, seconds: float) -> None:
        """Wait; a standing clock moves on at once."""
        if self._frozen_at is not None:
            self.advance(seconds)
        elif seconds > 0:
            time.sleep(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait without holding up other requests."""
        if self._frozen_at is not None:
            self.advance(seconds)
        elif seconds > 0:
            await asyncio.sleep(seconds)
