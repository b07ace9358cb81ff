"""What a command writes: the report to stdout, everything else to stderr."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from sparekey.report import RenderOptions, Subject


# A pipe gets whole lines.
_LONGEST_MESSAGE = 1000


def message(*lines: str) -> None:
    """Write lines to stderr, beside the report, with nothing in it that could move the cursor."""
    from sparekey.formatting import clean

    try:
        for line in lines:
            if line:
                click.echo(clean(line), err=True)
    except OSError:
        # Nobody may be listening any more, or the disk is full; a run in progress continues.
        discard(sys.stderr)


def notice(*lines: str) -> None:
    """Write lines that --quiet leaves out: what is being done, and what to do next."""
    if VERBOSITY.level >= 0:
        message(*lines)


def detail(*lines: str) -> None:
    """Write lines that only --verbose asks for."""
    if VERBOSITY.level > 0:
        message(*lines)


def print_report(chunks: Iterable[str]) -> None:
    """Write a report to stdout as it comes; raises SparekeyError where stdout does not take it."""
    from sparekey.errors import SparekeyError

    for chunk in chunks:
        try:
            sys.stdout.write(chunk)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(sys.stdout)
            raise SparekeyError(
                f"the report cannot be written to stdout: {error.strerror}",
                "Send it elsewhere; what a run did is kept: `sparekey runs`.",
            ) from error


def discard(stream: TextIO) -> None:
    """Let what is still in the buffer go nowhere: Python would try again at exit, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # a stream that is no file
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_paged(chunks: Iterable[str]) -> None:
    """Write a report to stdout, through PAGER where stdout is a terminal that it does not fit on."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        print_report(chunks)
        return
    text = "".join(chunks)
    if text.count("\n") < shutil.get_terminal_size().lines:
        print_report((text,))
        return
    # less: leave short text and colours as they are. https://man7.org/linux/man-pages/man1/less.1.html
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(text, color=True)


def render_options(
    *, show_all: bool = False, brief: bool = False, undo: bool = False, to_file: bool = False
) -> "RenderOptions":
    """How stdout, or a file, wants a table."""
    from sparekey.report import RenderOptions

    if to_file:
        return RenderOptions(show_all=show_all, brief=brief, undo=undo)
    from rich.console import Console

    console = Console()
    width_is_known = console.is_terminal or "COLUMNS" in os.environ
    width = console.width if width_is_known else _LONGEST_MESSAGE
    color = console.is_terminal and not console.no_color
    return RenderOptions(width=width, color=color, show_all=show_all, brief=brief, undo=undo)


def write_output(chunks: Iterable[str], file: Path | None) -> None:
    """Write text to a file that only its owner can read, whole or not at all; without one to stdout."""
    if file is None:
        print_report(chunks)
        return
    from sparekey.app import write_private

    write_private(file, "".join(chunks).encode())
    notice(f"written to {file}")


class ReportOutput:
    """Where and how a command's report is wanted: format, file or stdout, with a pager or without."""

    def __init__(self, subject: "Subject", format_: str, file: Path | None, *, pager: bool) -> None:
        self.format, self.file = format_, file
        self._subject, self._pager = subject, pager and format_ == "table"

    def write(self, value: Any, *, show_all: bool = False, brief: bool = False, undo: bool = False) -> None:
        """Render a value and write it; raises SparekeyError where its place does not take it."""
        from sparekey import report

        options = render_options(show_all=show_all, brief=brief, undo=undo, to_file=self.file is not None)
        self.write_text(report.render(self._subject, value, self.format, options))

    def write_text(self, chunks: Iterable[str]) -> None:
        """Write a report that is rendered."""
        if self.file is None and self._pager:
            print_paged(chunks)
        else:
            write_output(chunks, self.file)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr for what takes over two seconds on a terminal, a plain line now and then elsewhere."""
    if VERBOSITY.level < 0:
        yield lambda _done, _total: None
        return
    from sparekey.cli.progress import Progress

    with Progress(title) as bar:
        yield bar.update
