"""Files of destinations: exchanged as a whole, and only where nobody else may write."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sparekey import ownership
from sparekey.errors import RefusedError
from sparekey.handover.interface import HandoverError


def check_file(path: Path, *, private: bool = False) -> None:
    """Raise HandoverError where a file is missing, or others may write it or its folder (or `private`: read it)."""
    try:
        status = path.stat()
        ownership.check_file(path, "the file", status)
        ownership.check_directory(path.parent, "the folder", ours=False)
    except OSError as error:
        raise HandoverError(
            f"{path} cannot be used: {error.strerror}", "Create it; sparekey creates none."
        ) from None
    except RefusedError as error:
        raise HandoverError(error.message, error.hint) from None
    if private and status.st_mode & 0o077:
        raise HandoverError(f"others may read {path}", f"chmod 600 {path}")
    if not os.access(path.parent, os.W_OK):
        raise HandoverError(f"files in {path.parent} cannot be written by this account")


def exchange(path: Path, content: bytes) -> None:
    """Put a whole new file in place of another one, with its mode; after a crash it is the old or the new one.

    The content is in a file of mode 0600 beside it for a moment. Raises HandoverError.
    """
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise HandoverError(f"{path} cannot be written: {error.strerror}") from None
