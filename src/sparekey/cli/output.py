"""What a command writes: the report to stdout, everything else to stderr."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from sparekey.report import RenderOptions


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


def render_options(*, show_all: bool = False) -> "RenderOptions":
    """How stdout wants a table."""
    from rich.console import Console

    from sparekey.report import RenderOptions

    console = Console()
    width_is_known = console.is_terminal or "COLUMNS" in os.environ
    width = console.width if width_is_known else _LONGEST_MESSAGE
    return RenderOptions(width=width, color=console.is_terminal and not console.no_color, show_all=show_all)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr for what takes over two seconds on a terminal, a plain line now and then elsewhere."""
    from sparekey.cli.progress import Progress

    with Progress(title) as bar:
        yield bar.update
