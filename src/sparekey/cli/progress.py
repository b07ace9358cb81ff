"""Progress on stderr: a bar for anything over two seconds on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from sparekey.cli.output import message

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 10.0


class Progress:
    """Counts what is done; shows nothing in the first `quiet` seconds, two by default."""

    def __init__(self, title: str, *, quiet: float = _QUIET_SECONDS) -> None:
        self._title, self._quiet = title, quiet
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: RichProgress | None = None
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            with suppress(OSError):
                self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Report how much is done of how much (None: not known yet)."""
        now = time.monotonic()
        if now - self._started < self._quiet:
            return
        if self._terminal:
            with suppress(OSError):  # the terminal may have gone
                self._show_bar(done, total)
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            message(f"{self._title}: {done:,} of {total or '?'}")

    def _show_bar(self, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task_id = self._bar.add_task(self._title, total=total)
            self._bar.start()
        self._bar.update(self._task_id, completed=done, total=total)
