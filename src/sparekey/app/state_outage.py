"""Notices that the state cannot be used, while a process that needs it runs, and that it can be used again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sparekey.errors import SparekeyError
from sparekey.runs.storage import StateDirectory

# Seconds between two checks, and after how many without an answer the state counts as unusable.
_EVERY, _NO_ANSWER = 5.0, 20.0


@contextmanager
def report_outages(
    state: StateDirectory,
    report: Callable[[str], None],
    *,
    every: float = _EVERY,
    no_answer: float = _NO_ANSWER,
) -> Iterator[None]:
    """Check the state beside the block, in threads of their own, and report each change.

    The engine waits for a database that is away for as long as it takes, so the worker's own thread cannot report.
    """
    checks = _StateChecks(state)
    over = threading.Event()
    threads = (
        threading.Thread(target=checks.run, args=(over, every), name="state-check", daemon=True),
        threading.Thread(target=_report, args=(checks, over, report, every, no_answer), daemon=True),
    )
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        threads[1].join()


class _StateChecks:
    """The last check that ended well, and why a later one did not."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self.is_usable = time.monotonic()
        self.fault = ""

    def run(self, over: threading.Event, every: float) -> None:
        """Check until it is over; a check may hang."""
        while not over.is_set():
            try:
                self._state.check()
            except SparekeyError as error:
                self.fault = error.message
            except Exception as error:  # noqa: BLE001  # reported; the next check shows whether it lasts
                self.fault = f"the state cannot be used: {type(error).__name__}"
            else:
                self.is_usable, self.fault = time.monotonic(), ""
            over.wait(every)


def _report(
    checks: _StateChecks, over: threading.Event, report: Callable[[str], None], every: float, no_answer: float
) -> None:
    since = 0.0
    while not over.wait(min(every, 1.0)):
        silent = time.monotonic() - checks.is_usable
        fault = checks.fault or (
            f"the state has not answered for {silent:.0f} s" if silent > no_answer else ""
        )
        if fault and not since:
            since = checks.is_usable
            report(f"{fault}; runs may stand still until it can be used again")
        elif since and not fault:
            report(f"the state can be used again after {time.monotonic() - since:.0f} s; the runs go on")
            since = 0.0
