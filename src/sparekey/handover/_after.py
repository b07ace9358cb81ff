"""What a handover runs: a program without a shell, with only the variables that are named."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sparekey.formatting import clean_line
from sparekey.handover.interface import HandoverError
from sparekey.policy import Handover

_SECONDS = 80.0
_OUTPUT = 200


def run_after(handover: Handover, environ: Mapping[str, str], *more: str) -> str:
    """Run `after` and return what it came to; empty where there is none. Raises HandoverError."""
    if not handover.after:
        return ""
    return run_program((*handover.after, *more), handover, environ)


def run_program(
    words: tuple[str, ...], handover: Handover, environ: Mapping[str, str], standard_input: str = ""
) -> str:
    """Run a program to its end; raises HandoverError where it fails. What it prints is shown where it fails."""
    try:
        done = subprocess.run(  # noqa: S603  # the policy's own program, and no shell
            words,
            env={name: environ[name] for name in handover.env if name in environ},
            input=standard_input.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HandoverError(f"{words[0]} had not ended after {_SECONDS:g} s", temporary=True) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "a character that no command line can have"
        raise HandoverError(f"{words[0]} cannot be started: {why}") from None
    if done.returncode:
        printed = clean_line(
            done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace"), _OUTPUT
        )
        raise HandoverError(f"{words[0]} ended with {done.returncode}: {printed}")
    return f"{words[0]} ended with 0"


def find_program(name: str, environ: Mapping[str, str], names: tuple[str, ...]) -> bool:
    """Whether a program can be started, by the PATH that it is given."""
    if os.sep in name:
        return os.access(name, os.X_OK)
    path = environ.get("PATH", os.defpath) if "PATH" in names else os.defpath
    return any(os.access(Path(folder) / name, os.X_OK) for folder in path.split(os.pathsep))
