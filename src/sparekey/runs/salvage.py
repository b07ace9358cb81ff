"""What is known of runs when the state cannot be used: the database as far as it can be read, else the copies."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from sparekey.errors import BadInputError, SparekeyError
from sparekey.ledger.copies import LedgerCopies, missing_runs
from sparekey.ledger.database import StateError, connect
from sparekey.ledger.records import LedgerEntry
from sparekey.ledger.store import Ledger
from sparekey.runs.storage import REVERSE, StateDirectory, database_url

_ROWS = "SELECT run, seq, at, kind, body, prev, hash FROM sparekey_entries"
_ORDER = " ORDER BY run, seq"
_OF_ONE_RUN = f"{_ROWS} WHERE run = ?{_ORDER}"
_OF_ALL = f"{_ROWS}{_ORDER}"
_UNREADABLE = (SparekeyError, OSError, sqlite3.Error, sa.exc.SQLAlchemyError, subprocess.CalledProcessError)
_MEMORY = Path("/dev/shm")  # noqa: S108  # room where the disk has none


@contextmanager
def scratch_state(
    directory: Path, url: str, runs: frozenset[str] | None = None
) -> Iterator[tuple[StateDirectory, tuple[str, ...]]]:
    """A state of its own, gone at the end, with what is known of the runs, or of some; and where that was read.

    A server is asked only for all of them: who names runs knows that it is away, and cannot wait for it. Raises
    StateError where no room is found for it.
    """
    try:
        with TemporaryDirectory(dir=_MEMORY if _has_room(_MEMORY) else None) as scratch:
            state = StateDirectory(Path(scratch) / "state")
            with closing(state):
                yield state, tuple(_fill(state.ledger, directory, url, runs))
    except OSError as error:
        raise StateError(f"there is no room to work without the state: {error}") from error


def _has_room(path: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(path).free > 1 << 26
    return False


def _fill(ledger: Ledger, directory: Path, url: str, runs: frozenset[str] | None) -> Iterator[str]:
    """Fill an empty ledger; yields each source that gave something."""
    with suppress(*_UNREADABLE):
        if not (url and runs is not None) and _add(
            ledger, _rows_by_url(url) if url else _rows_of_file(directory, runs)
        ):
            yield "the ledger, which can still be read"
    copies = LedgerCopies(directory / REVERSE)
    for run in copies.runs():
        if runs is not None and run not in runs:
            continue
        with suppress(SparekeyError, OSError, UnicodeDecodeError):
            missing = missing_runs(ledger, copies, run)
            if missing:
                ledger.restore(missing)
                yield f"the copy {copies.path(run)}"


def _add(ledger: Ledger, rows: Iterable[tuple[Any, ...]]) -> bool:
    """Add the runs whose chains are whole; a run that is damaged is left to its copy."""
    by_run: dict[str, list[LedgerEntry]] = {}
    damaged = set()
    for run, seq, at, kind, body, prev, digest in rows:
        try:
            entry = LedgerEntry(
                run, seq, datetime.fromisoformat(at), kind, msgspec.json.decode(body), prev, digest
            )
        except (msgspec.DecodeError, TypeError, ValueError):
            damaged.add(run)
            continue
        by_run.setdefault(run, []).append(entry)
    added = False
    for run, entries in by_run.items():
        if run not in damaged:
            with suppress(StateError):
                ledger.restore(entries)
                added = True
    return added


def _rows_by_url(url: str) -> list[tuple[Any, ...]]:
    engine = connect(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(_OF_ALL))]
    finally:
        engine.dispose()


def _rows_of_file(directory: Path, runs: frozenset[str] | None) -> list[tuple[Any, ...]]:
    """The rows of a database file that may not be writable, locked, or on a full disk."""
    path = Path(sa.make_url(database_url(directory)).database or "")
    wal = path.with_name(f"{path.name}-wal")
    with suppress(sqlite3.Error):
        return _rows_in(f"file:{quote(str(path))}?mode=ro", runs)
    if not wal.exists() or not wal.stat().st_size:
        # Nothing is outside of the file: it can be read although SQLite may not write beside it.
        return _rows_in(f"file:{quote(str(path))}?immutable=1", runs)
    with TemporaryDirectory(dir=_MEMORY if _has_room(_MEMORY) else None) as scratch:
        # By another process: closing the file here would drop locks that SQLite may hold on it in this one.
        subprocess.run(["cp", "--", path, wal, scratch], check=True, capture_output=True)  # noqa: S603, S607
        return _rows_in(f"file:{quote(str(Path(scratch) / path.name))}", runs)


def _rows_in(uri: str, runs: frozenset[str] | None) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        if runs is None:
            return connection.execute(_OF_ALL).fetchall()
        return [row for run in sorted(runs) for row in connection.execute(_OF_ONE_RUN, (run,))]


def manual_way_back(directory: Path, run_id: str, error: StateError) -> StateError:
    """The same error with the file that reverses the run by hand as the next step, where there is one."""
    scripts = sorted((directory / REVERSE).glob("*.sh"))
    matching = [path for path in scripts if run_id and path.stem.startswith(run_id)]
    if not matching:
        return error
    hint = (
        f"{' or '.join(map(str, matching))} has the AWS CLI command for each key of the plan. "
        "Run those of the keys that "
        "this run deactivated."
    )
    return type(error)(f"{error.message}; nothing was reactivated", hint)


def unknown_run(error: BadInputError, cause: StateError) -> StateError:
    """What to say where the run that is meant was not found without the state."""
    return type(cause)(f"{cause.message}; without it, {error.message}", cause.hint)
