"""Records of runs that have ended, kept in files so that a list of runs does not read the past again.

A cache and nothing else: each file names the head of the chain it was made of, and holds for no other. One that
is missing, of another version or damaged is rebuilt from the ledger.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from sparekey import __version__
from sparekey.errors import SparekeyError
from sparekey.model import RunRecord, Value
from sparekey.ownership import read_owned

SUMMARIES = "summaries"
# To be raised where the same entries come to another record than before.
_FORMAT = f"{__version__}/1"


class _SummaryFile(Value, frozen=True):
    """One file."""

    format: str
    record: RunRecord


_decoder = msgspec.json.Decoder(_SummaryFile)


class Summaries:
    """The records kept in one directory; safe among threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, run: str, head: str) -> RunRecord | None:
        """The record of a run whose chain has this head; None where none is kept."""
        try:
            summary = _decoder.decode(read_owned(self._path(run), "the summary"))
        except (OSError, SparekeyError, msgspec.DecodeError):
            return None
        record = summary.record
        return record if (summary.format, record.id, record.head) == (_FORMAT, run, head) else None

    def put(self, record: RunRecord) -> None:
        """Keep the record of a run that has ended; where it cannot be written, it is made again next time."""
        path = self._path(record.id)
        scratch = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(scratch, flags, 0o600), "wb") as file:
                file.write(msgspec.json.encode(_SummaryFile(_FORMAT, record)))
            scratch.replace(path)

    def _path(self, run: str) -> Path:
        return self._directory / f"{run}.json"
