"""Carrying many users' work at once: their waits overlap in one thread, and memory stays bounded."""

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count, islice

from sparekey.clock import Clock
from sparekey.run.turn import Work

IN_FLIGHT = 64
# No work asks for more; without it a clock that is set back would hold everything up for as long.
_LONGEST = 60.0


def drive(works: Iterable[Work[None]], clock: Clock, in_flight: int = IN_FLIGHT) -> None:
    """Run all of them to their end, at most `in_flight` at a time.

    The first exception is raised when the rest are through: one user's failure stops no other.
    """
    source: Iterator[Work[None]] = iter(works)
    order = count()
    waiting: list[tuple[datetime, int, Work[None]]] = []
    errors: list[Exception] = []
    while True:
        for work in islice(source, in_flight - len(waiting)):
            heapq.heappush(waiting, (clock.now(), next(order), work))
        if not waiting:
            break
        due, _, work = heapq.heappop(waiting)
        pause = (due - clock.now()).total_seconds()
        if pause > 0:
            clock.sleep(min(pause, _LONGEST))
        try:
            wait = next(work)
        except StopIteration:
            continue
        except Exception as error:  # noqa: BLE001  # raised below, when the other users are through
            errors.append(error)
            continue
        heapq.heappush(waiting, (clock.now() + timedelta(seconds=wait), next(order), work))
    if errors:
        raise errors[0]
