"""Threads that take tasks from many accounts in turn, so that a slow account holds up no other."""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

# Seconds between looks at the events: to be woken for each one costs a tenth of a call.
_TICK = 0.01

Event = TypeVar("Event")


class HasMaxInFlight(Protocol):
    """Something that bears only so many tasks at once."""

    @property
    def max_in_flight(self) -> int:
        """How many tasks are useful at once."""
        ...


class AccountQueue:
    """One account's waiting tasks; no more run at once than the account can bear."""

    def __init__(self, account: HasMaxInFlight) -> None:
        self.account = account
        self.tasks: deque[Callable[[], None]] = deque()
        self.running = 0
        self.not_before = False  # it stands in the crew's queue

    def can_run(self) -> bool:
        """True while a task waits and the account's width is not used up."""
        return bool(self.tasks) and self.running < self.account.max_in_flight


class WorkerPool(Generic[Event]):
    """So many threads; events go back to the thread that made the crew.

    The threads are daemons: on Ctrl-C nobody waits for an answer that is on its way.
    """

    def __init__(self, workers: int) -> None:
        self._changed = threading.Condition()
        self._queues: deque[AccountQueue] = deque()
        self._stopped = False
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if kind is None:
            for thread in self._threads:
                thread.join()

    def put(self, queue: AccountQueue, task: Callable[[], None]) -> None:
        """Add a task to a lane."""
        with self._changed:
            queue.tasks.append(task)
            self._enqueue(queue)

    def emit(self, event: Event) -> None:
        """Pass an event to the calling thread."""
        self._events.put(event)

    def next_event(self) -> Event:
        """Wait for the next event; raises what a task raised against its contract."""
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get_nowait()
                if isinstance(event, BaseException):
                    raise event
                return event
            time.sleep(_TICK)

    def _enqueue(self, queue: AccountQueue) -> None:
        if not queue.not_before and queue.can_run():
            queue.not_before = True
            self._queues.append(queue)
            self._changed.notify()

    def _work(self) -> None:
        while taken := self._next_task():
            queue, task = taken
            try:
                task()
            except BaseException as error:  # noqa: BLE001  # raised again where the caller waits
                self._events.put(error)
            with self._changed:
                queue.running -= 1
                self._enqueue(queue)

    def _next_task(self) -> tuple[AccountQueue, Callable[[], None]] | None:
        with self._changed:
            while not self._stopped:
                if not self._queues:
                    self._changed.wait()
                    continue
                queue = self._queues.popleft()
                queue.not_before = False
                if queue.can_run():
                    queue.running += 1
                    task = queue.tasks.popleft()
                    self._enqueue(queue)
                    return queue, task
            return None
