"""What one process does beside its supervision: each task in a thread of its own, none waits for another."""

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Protocol

from sparekey.clock import Clock
from sparekey.runs.context import StepCoroutine
from sparekey.runs.scheduler import run_all

Task = tuple[str, ...]


class TaskRunner(Protocol):
    """Tasks by name; a name that is under way is not started again."""

    def start(self, name: Task, works: Iterable[StepCoroutine[None]], *, deadline: float) -> None:
        """Begin it; each of its calls of the outside is given up after `deadline` seconds."""
        ...

    def busy(self, name: Task) -> bool:
        """True while it is under way: all that begin with this name are meant."""
        ...

    def ended(self) -> list[tuple[Task, Exception | None]]:
        """The tasks that have ended since this was asked last, and what they failed with."""
        ...


class ThreadTasks:
    """Tasks in daemon threads: one that hangs keeps no process alive. `calls` are made at once for one task."""

    def __init__(self, clock: Clock, calls: int, wake: Callable[[], None] = lambda: None) -> None:
        self._clock, self._calls, self._wake = clock, calls, wake
        self._under_way: set[Task] = set()
        self._ended = SimpleQueue[tuple[Task, Exception | None]]()

    def start(self, name: Task, works: Iterable[StepCoroutine[None]], *, deadline: float) -> None:
        """Begin it in a thread."""
        self._under_way.add(name)

        def run() -> None:
            error: Exception | None = None
            try:
                # Two at least: only then is a call made in a thread that need not be waited for.
                run_all(works, self._clock, at_once=max(self._calls, 2), deadline=deadline)
            except Exception as found:  # noqa: BLE001  # the supervision puts it on record
                error = found
            self._ended.put((name, error))
            self._wake()

        threading.Thread(target=run, name="/".join(name), daemon=True).start()

    def busy(self, name: Task) -> bool:
        """True while any task that begins with this name is under way."""
        return any(task[: len(name)] == name for task in self._under_way)

    def ended(self) -> list[tuple[Task, Exception | None]]:
        """What has ended since."""
        outcomes: list[tuple[Task, Exception | None]] = []
        while True:
            try:
                task, error = self._ended.get_nowait()
            except Empty:
                return outcomes
            self._under_way.discard(task)
            outcomes.append((task, error))
