"""Where runs are kept: a private directory with SQLite in it, or PostgreSQL by URL; and who is alive."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from sparekey.errors import BadInputError
from sparekey.ledger.copies import LedgerCopies
from sparekey.ledger.database import StateAwayError, StateError, StateFullError, connect, state_error
from sparekey.ledger.store import Ledger
from sparekey.ownership import check_ancestors, check_owned, make_directories
from sparekey.runs.summaries import SUMMARIES, Summaries

_FILE = "sparekey.db"
REVERSE = "reverse"
_OWN_DIRECTORY = ("sparekey.", "locks", REVERSE, SUMMARIES)
# How long making and migrating the tables may take until the waiting process gives up, and how often it looks.
_SETUP_TAKES, _LOOK_AGAIN = 60.0, 0.02
# What a run may write: a plan twice, then some entries and engine rows for each step.
_ROOM_FIXED, _ROOM_PER_STEP = 4 * 1024 * 1024, 16 * 1024


class HeldLock(Protocol):
    """An exclusive lock that dies with its process."""

    def release(self) -> None:
        """Let go."""
        ...


class StateDirectory:
    """The state of all runs; `directory` is made with mode 0700 and everything in it 0600."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        _private_directory(directory)
        self.shared = bool(url)
        if url and not url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            raise BadInputError(
                "the database URL is not one of PostgreSQL",
                "Write postgresql://user@host/database, or leave it out for SQLite.",
            )
        if not url:
            self._file = _private_file(directory / _FILE)
            url = database_url(directory)
        self.url = url
        self.copies = LedgerCopies(directory / REVERSE)
        self.summaries = Summaries(directory / SUMMARIES)
        self._ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened at first use; raises StateError, SchemaError."""
        if self._ledger is None:
            with self.exclusively("setup"):
                self._ledger = ledger = Ledger.open(self.url)
            ledger.before_deactivation = self.check_in_place
            ledger.on_append = lambda entry: self.copies.add(ledger, entry)
        return self._ledger

    def close(self) -> None:
        """Give connections back."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def check(self) -> None:
        """Raise StateError where runs cannot be kept now: the database is away, its file gone, its disk full."""
        self.check_in_place()
        if not self.shared:
            free = shutil.disk_usage(self.directory).free
            if free < _ROOM_PER_STEP:
                raise StateFullError(f"the disk under {self.directory} is full: {free} bytes are free")
        self.ledger.workers()

    def check_in_place(self) -> None:
        """Raise StateAwayError where the database file was removed or replaced: what is written would be lost."""
        if self.shared:
            return
        path = self.directory / _FILE
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) == self._file:
                return
            what = "replaced"
        except OSError as error:
            what = "removed" if isinstance(error, FileNotFoundError) else f"lost ({error.strerror})"
        raise StateAwayError(
            f"the state file {path} was {what} while sparekey uses it; no key is deactivated any more",
            "End every sparekey process, put the file back, and run the same command again. `sparekey undo RUN` "
            "works without it.",
        )

    def check_room(self, steps: int) -> None:
        """Raise StateFullError where the disk under the state directory cannot hold so many steps."""
        if self.shared:
            return
        needed = _ROOM_FIXED + steps * _ROOM_PER_STEP
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise StateFullError(
                f"{free // 1024} KiB are free under {self.directory}, a run of {steps} steps may need "
                f"{needed // 1024} KiB; nothing was changed"
            )

    def try_lock(self, name: str) -> HeldLock | None:
        """Take an exclusive lock by name; None where another process, here or elsewhere, holds it."""
        return _advisory_lock(self.url, name) if self.shared else _file_lock(self.directory / "locks", name)

    def is_held(self, name: str) -> bool:
        """True where somebody holds the lock of this name."""
        lock = self.try_lock(name)
        if lock is not None:
            lock.release()
        return lock is None

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold a lock that nobody else can have, such as an executor id's; raises StateError."""
        lock = self.try_lock(name)
        if lock is None:
            raise StateError(f"{name} is in use by another process")
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def exclusively(self, name: str) -> Iterator[None]:
        """Hold a lock that others wait for, in this process or another; raises StateError after a minute."""
        until = time.monotonic() + _SETUP_TAKES
        while (lock := self.try_lock(name)) is None:
            if time.monotonic() > until:
                raise StateError(
                    f"another process has been preparing the state in {self.directory} for "
                    f"{_SETUP_TAKES:g} s; nothing was done",
                    "Run the same command again; if it fails again, stop the process that hangs.",
                )
            time.sleep(_LOOK_AGAIN)
        try:
            yield
        finally:
            lock.release()


def database_url(directory: Path) -> str:
    """The URL of the database in a state directory, whose name may hold what means something in a URL."""
    return sa.URL.create("sqlite", database=str(directory / _FILE)).render_as_string(hide_password=False)


def new_id(prefix: str) -> str:
    """An id that no other process has."""
    return f"{prefix}-{secrets.token_hex(4)}"


def _private_directory(path: Path) -> None:
    what = "the state directory"
    try:
        check_ancestors(path, what)
        make_directories(path)
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o077:
            _make_private(path)
        check_owned(path, what)
        for entry in path.iterdir():
            if entry.name.startswith(_FILE):
                _check_file(entry)
    except OSError as error:
        raise StateError(
            f"{what} {path} cannot be used: {error.strerror}", "Check it, or set SPAREKEY_HOME."
        ) from error


def _check_file(path: Path) -> None:
    with suppress(FileNotFoundError):  # SQLite removes what it no longer needs
        if not stat.S_ISREG(path.stat().st_mode):  # `is_file` is false of what is gone, too
            raise StateError(f"the state file {path} cannot be used: it is not a file", "Move it away.")
        check_owned(path, "the state file")


def _make_private(path: Path) -> None:
    """Close a directory that is ours; not one such as /tmp, which would lock out everyone else who works in it."""
    if any(not entry.name.startswith(_OWN_DIRECTORY) for entry in path.iterdir()):
        raise StateError(
            f"others may look into the state directory {path}, and it holds more than sparekey's own files",
            f"Name an empty one with SPAREKEY_HOME; or, if no one else needs it: chmod 700 {path}",
        )
    if (path / _FILE).exists():
        check_owned(path, "the state directory")  # others may have written what lies in it
    path.chmod(0o700)


def _check_writable(path: Path) -> None:
    if not os.access(path, os.R_OK | os.W_OK):
        code = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code))


def _private_file(path: Path) -> tuple[int, int]:
    """Make a file that only its user may read; returns its device and inode.

    One that is there is not opened: closing it would drop the locks that SQLite holds on it in this process, and
    another process could then remove the journal that is in use (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        # SQLite gives its -wal and -shm files the mode of the database.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        status = path.stat()
        if status.st_mode & 0o077:
            path.chmod(0o600)
        _check_writable(path)
    except OSError as error:
        raise StateAwayError(
            f"the state file {path} cannot be used: {error.strerror}",
            "Make it writable for this user, or set SPAREKEY_HOME.",
        ) from error
    return status.st_dev, status.st_ino


class _FileLock:
    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path

    def release(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._descriptor)


def _file_lock(directory: Path, name: str) -> HeldLock | None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        return _lock_file(directory / f"{name}.lock")
    except OSError as error:
        kind = StateFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StateAwayError
        raise kind(
            f"the state directory {directory.parent} cannot be used: {error.strerror} ({error.filename})"
        ) from error


def _lock_file(path: Path) -> HeldLock | None:
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # The holder before us may have removed the file between our open and our lock.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return _FileLock(descriptor, path)
        os.close(descriptor)


class _AdvisoryLock:
    def __init__(self, engine: sa.Engine, connection: sa.Connection) -> None:
        self._engine, self._connection = engine, connection

    def release(self) -> None:
        self._connection.close()
        self._engine.dispose()


def _advisory_lock(url: str, name: str) -> HeldLock | None:
    """A PostgreSQL session lock: it ends with the connection, so with the process that holds it."""
    number = int.from_bytes(hashlib.sha256(f"sparekey {name}".encode()).digest()[:8], "big", signed=True)
    engine = connect(url)
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        taken = connection.execute(
            sa.text("SELECT pg_try_advisory_lock(:number)"), {"number": number}
        ).scalar()
    except sa.exc.DBAPIError as error:
        engine.dispose()
        raise state_error(error, engine.url) from error
    if taken:
        return _AdvisoryLock(engine, connection)
    connection.close()
    engine.dispose()
    return None
