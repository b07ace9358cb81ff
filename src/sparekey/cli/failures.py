"""Failures of a command: one sentence, a next step and an exit code; no traceback reaches a person."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from sparekey.cli.output import discard, message
from sparekey.cli.verbosity import VERBOSITY, reset

if TYPE_CHECKING:
    import threading


INTERRUPTED = 130
# What is installed only where it is asked for, and by which name.
_EXTRAS = {
    **dict.fromkeys(("ahocorasick_rs", "isal", "obstore"), "archive"),
    "psycopg": "postgres",
}


def run_guarded(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command, by default with the process's arguments; returns its exit code.

    No traceback reaches the person.
    """
    reset()
    try:
        code = command.main(args, prog_name="sparekey", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        with suppress(OSError):
            error.show()
        return 2
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has gone: nothing is left to write.
        discard(sys.stdout)
        return 1
    except Exception as error:  # noqa: BLE001  # the last door: reported, with an exit code
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    from sparekey.errors import SparekeyError, UnexpectedError, trace

    if VERBOSITY.debug or os.environ.get("SPAREKEY_DEBUG"):
        message(*trace(error))
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = _EXTRAS.get(error.name.partition(".")[0])
        if extra:
            message(
                f"error: this needs a package that is not installed: {error.name}",
                f"hint: pip install 'sparekey[{extra}]'",
            )
            return 2
    known = error if isinstance(error, SparekeyError) else UnexpectedError.of(error)
    message(f"error: {known.message}", f"hint: {known.hint}" if known.hint else "")
    return known.exit_code


def report_thread_failure(failure: "threading.ExceptHookArgs") -> None:
    """What becomes of an error that ends a thread of some library: its type and place, as of any other."""
    from sparekey.errors import UnexpectedError

    if failure.exc_value is not None:
        message(f"warning: a thread ended: {UnexpectedError.of(failure.exc_value).message}")
