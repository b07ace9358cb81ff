"""Runs many users' work at once: their waits and calls overlap, and memory is bounded.

One thread does all the deciding; only calls of AWS are made in others, `at_once` at a time.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sparekey.aws.errors import UnreachableError
from sparekey.clock import Clock
from sparekey.runs.context import Effect, LongCall, StepCoroutine

IN_FLIGHT = 256
# No work asks for more; without it a clock that is set back would hold everything up for as long.
_LONGEST = 60.0

# Seconds that a call may take before it counts as cut off: a listing of IAM takes one at most.
DEADLINE = 15.0

T = TypeVar("T")
Outcome = Future[Any]
Call = Callable[[], Any]


def run_all(
    works: Iterable[StepCoroutine[None]],
    clock: Clock,
    *,
    at_once: int = 1,
    in_flight: int = IN_FLIGHT,
    deadline: float = DEADLINE,
) -> None:
    """Run all of them to their end, at most `in_flight` at a time, the earlier ones first.

    A call that has not ended after `deadline` seconds (a `LongCall` after its own) counts as cut off, and nobody
    waits for it any more. The
    first exception is raised when the rest are through: one user's failure stops no other.
    """
    pool = _Pool() if at_once > 1 else None
    make: Callable[[Call], Outcome] = pool.submit if pool else performed
    try:
        errors = _Scheduler(enumerate(works), clock, make, at_once, in_flight, deadline).run()
    finally:
        if pool:
            pool.close()
    if errors:
        raise errors[0]


class _Pool:
    """Threads for calls: as many as are needed at once; a call that hangs keeps its thread, and no process alive."""

    def __init__(self) -> None:
        self._calls = SimpleQueue[tuple[Call, Outcome] | None]()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    def submit(self, call: Call) -> Outcome:
        """Make a call in a thread that is free, else in a new one."""
        outcome = Outcome()
        self._calls.put((call, outcome))
        if not self._idle.acquire(blocking=False):
            self._threads += 1
            threading.Thread(target=self._work, name="aws", daemon=True).start()
        return outcome

    def _work(self) -> None:
        while (job := self._calls.get()) is not None:
            call, outcome = job
            ended = performed(call)
            self._idle.release()
            error = ended.exception()
            if error is None:
                outcome.set_result(ended.result())
            else:
                outcome.set_exception(error)

    def close(self) -> None:
        """Let the threads end."""
        for _ in range(self._threads):
            self._calls.put(None)


def advance(work: StepCoroutine[Any], outcome: Outcome | None) -> Effect:
    """Let a work go on, with what came of the call it asked for; returns what it asks for next."""
    if outcome is None:
        return next(work)
    error = outcome.exception()
    return work.send(outcome.result()) if error is None else work.throw(error)


def performed(call: Call) -> Outcome:
    """Make a call here and now."""
    outcome = Outcome()
    try:
        outcome.set_result(call())
    except Exception as error:  # noqa: BLE001  # passed to the work that asked
        outcome.set_exception(error)
    return outcome


def run_inline(work: StepCoroutine[T], clock: Clock) -> T:
    """Do one work to its end, here and now; returns its result, raises what it raises."""
    outcome: Outcome | None = None
    while True:
        try:
            asked = advance(work, outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        outcome = None
        if callable(asked):
            outcome = performed(asked)
        else:
            clock.sleep(asked)


class _Scheduler:
    """Works by their number: those that wait for a time, that can go on, whose call is to be made or is made.

    What has started is finished first, so that little lies between reading a user's keys and setting one.
    """

    def __init__(
        self,
        works: Iterator[tuple[int, StepCoroutine[None]]],
        clock: Clock,
        make: Callable[[Call], Outcome],
        at_once: int,
        in_flight: int,
        deadline: float,
    ) -> None:
        self._works, self._clock, self._perform = works, clock, make
        self._max_started, self._in_flight, self._deadline = at_once, in_flight, deadline
        self._sleeping: list[tuple[datetime, int, StepCoroutine[None]]] = []
        self._ready: list[tuple[int, StepCoroutine[None], Outcome | None]] = []
        self._waiting: list[tuple[int, StepCoroutine[None], Call]] = []
        # The calls under way, by their own number: until when, and whose. The clock may be set, this one not.
        self._calling: dict[int, tuple[float, int, StepCoroutine[None]]] = {}
        self._pool = count()
        self._finished = SimpleQueue[tuple[int, Outcome]]()
        self._errors: list[Exception] = []

    def run(self) -> list[Exception]:
        """Go on until all have ended; what they failed with."""
        while True:
            self._start_works()
            if self._ready:
                self._advance(*heapq.heappop(self._ready))
            elif self._calling:
                self._take_finished(self._until_due())
            elif self._sleeping:
                self._clock.sleep(self._until_due())
                self._wake(1)
            else:
                return self._errors

    def _start_works(self) -> None:
        """Admit what may continue now."""
        under_way = len(self._sleeping) + len(self._ready) + len(self._waiting) + len(self._calling)
        for number, work in islice(self._works, self._in_flight - under_way):
            heapq.heappush(self._ready, (number, work, None))
        self._wake()
        while self._waiting and len(self._calling) < self._max_started:
            self._call(*heapq.heappop(self._waiting))
        self._take_finished(0)

    def _wake(self, at_least: int = 0) -> None:
        """Let those go on whose time has come, or so many: a clock that was set back holds up nobody."""
        while self._sleeping and (at_least > 0 or self._sleeping[0][0] <= self._clock.now()):
            _, number, work = heapq.heappop(self._sleeping)
            heapq.heappush(self._ready, (number, work, None))
            at_least -= 1

    def _until_due(self) -> float:
        """Seconds until the first one's time comes, as far as a clock that may be set can show."""
        if not self._sleeping:
            return _LONGEST
        return min(max((self._sleeping[0][0] - self._clock.now()).total_seconds(), 0.0), _LONGEST)

    def _call(self, number: int, work: StepCoroutine[None], call: Call) -> None:
        me = next(self._pool)
        deadline = call.deadline if isinstance(call, LongCall) else self._deadline
        self._calling[me] = (time.monotonic() + deadline, number, work)
        self._perform(call).add_done_callback(lambda outcome: self._finished.put((me, outcome)))

    def _take_finished(self, retry_policy: float) -> None:
        """Let those go on whose call has ended or is overdue; waits so many seconds for the first."""
        if retry_policy and self._calling:
            first = min(until for until, _, _ in self._calling.values())
            retry_policy = min(retry_policy, max(first - time.monotonic(), 0.001))
        while True:
            try:
                me, outcome = self._finished.get(timeout=retry_policy)
            except Empty:
                break
            self._end_call(me, outcome)
            retry_policy = 0
        now = time.monotonic()
        for me in [me for me, (until, _, _) in self._calling.items() if until <= now]:
            late = Outcome()
            late.set_exception(UnreachableError(f"AWS did not answer within {self._deadline:g} s"))
            self._end_call(me, late)

    def _end_call(self, me: int, outcome: Outcome) -> None:
        calling = self._calling.pop(me, None)
        if calling is not None:  # else it was given up
            heapq.heappush(self._ready, (calling[1], calling[2], outcome))

    def _advance(self, number: int, work: StepCoroutine[None], outcome: Outcome | None) -> None:
        try:
            asked = advance(work, outcome)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001  # raised when the other works are through
            self._errors.append(error)
            return
        if callable(asked):
            heapq.heappush(self._waiting, (number, work, asked))
        elif asked:
            due = self._clock.now() + timedelta(seconds=asked)
            heapq.heappush(self._sleeping, (due, number, work))
        else:
            heapq.heappush(self._ready, (number, work, None))
