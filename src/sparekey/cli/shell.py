"""What every verb shares: errors to sentences, options, where output goes, progress."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sparekey.report import Look

INTERRUPTED = 130
# Whoever reads from a pipe wants whole lines.
_UNBROKEN = 1000
_F = TypeVar("_F", bound=Callable[..., Any])


def guarded(command: click.Command) -> int:
    """Run a command; returns its exit code and lets no traceback reach the person."""
    try:
        code = command.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone: nothing is left to say, and Python must not say it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  # the last door: told, with an exit code, never swallowed
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    from sparekey.errors import SparekeyError

    if os.environ.get("SPAREKEY_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, SparekeyError):
        tell(f"error: {error.message}", f"hint: {error.hint}" if error.hint else "")
        return error.exit_code
    tell(
        f"error: sparekey failed in a way it does not know: {type(error).__name__}: {error}",
        "hint: SPAREKEY_DEBUG=1 shows where; `sparekey runs` shows what was done.",
    )
    return 1


def tell(*lines: str) -> None:
    """Say something beside the report: to stderr, with nothing in it that could move the cursor."""
    from sparekey.words import clean

    for line in lines:
        if line:
            click.echo(clean(line), err=True)


def show(chunks: Iterable[str]) -> None:
    """Write a report to stdout as it comes."""
    for chunk in chunks:
        sys.stdout.write(chunk)
    sys.stdout.flush()


def look(*, show_all: bool = False) -> "Look":
    """How stdout wants a table."""
    from rich.console import Console

    from sparekey.report import Look

    console = Console()
    told = console.is_terminal or "COLUMNS" in os.environ
    width = console.width if told else _UNBROKEN
    return Look(width=width, color=console.is_terminal and not console.no_color, show_all=show_all)


def aws_options(command: _F) -> _F:
    """--profile, --region and --config: who asks, and by which policy."""
    options = (
        click.option("--profile", metavar="NAME", help="AWS profile; else the usual credential chain."),
        click.option("--region", metavar="NAME", help="AWS region; picks the partition where it matters."),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Policy file; else SPAREKEY_HOME/sparekey.toml. Never read from the current directory.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def format_option(*names: str) -> Callable[[_F], _F]:
    """--format, the first name being the default."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(names),
        default=names[0],
        show_default=True,
        help="Output format.",
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr for what takes over two seconds on a terminal, a plain line now and then elsewhere."""
    from sparekey.cli.progress import Progress

    with Progress(title) as bar:
        yield bar.update
