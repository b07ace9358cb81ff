"""How much a command writes to stderr: set once a process by --quiet, --verbose and --debug."""

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

_C = TypeVar("_C", bound=click.Command)


class Verbosity:
    """`level` is -1 (quiet: only results, questions and what went wrong), 0, or 1 (verbose)."""

    level = 0
    debug = False


VERBOSITY = Verbosity()


def reset() -> None:
    """Start a command with the default."""
    VERBOSITY.level, VERBOSITY.debug = 0, False
    logging.getLogger("sparekey").handlers.clear()


def _set_level(level: int) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(_context: click.Context, _option: click.Parameter, given: bool) -> None:
        if given:
            VERBOSITY.level = level

    return callback


class _HarmlessFormatter(logging.Formatter):
    """Formats a record as one line in which nothing can move the cursor: a request id is the server's text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        from sparekey.formatting import clean

        return clean(super().format(record)).replace("\n", "\\n")


def _log_to_stderr(_context: click.Context, _option: click.Parameter, given: bool) -> None:
    if not given:
        return
    VERBOSITY.debug = True
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HarmlessFormatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    # Only our own records: those of libraries may hold what they send.
    logger = logging.getLogger("sparekey")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)


def add_verbosity_options(command: _C) -> _C:
    """Give a command --quiet, --verbose and --debug, which its function does not see."""
    common: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
    command.params += [
        click.Option(
            ["-q", "--quiet"],
            **common,
            callback=_set_level(-1),
            help="Write only results, questions and errors.",
        ),
        click.Option(
            ["-v", "--verbose"], **common, callback=_set_level(1), help="Write every step to stderr."
        ),
        click.Option(
            ["--debug"],
            **common,
            callback=_log_to_stderr,
            help="Log each AWS call to stderr: service, action, status and request id, never what was sent.",
        ),
    ]
    return command
