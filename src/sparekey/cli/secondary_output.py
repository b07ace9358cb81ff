"""What is reported while work continues: in order, in a thread of its own, so that a slow receiver holds nothing up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

# Seconds that the end of the work waits for what is still to be reported.
_DRAIN_SECONDS = 20.0


class SecondaryOutput:
    """Calls to be made one after the other, later; a call must not raise."""

    def __init__(self) -> None:
        self._calls = SimpleQueue[Callable[[], None] | None]()

    def call_later(self, call: Callable[[], None]) -> None:
        """Let it be made once those before it are through."""
        self._calls.put(call)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the calls beside the block; at its end, wait a while for those that are left."""
        thread = threading.Thread(target=self._run, name="aside", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._calls.put(None)
            thread.join(_DRAIN_SECONDS)
