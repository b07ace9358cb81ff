"""A connection to the state database, SQLite or PostgreSQL, and what its errors mean."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from sparekey.errors import SparekeyError

# How long a writer waits for another one.
_BUSY_MS = 30_000
_HOST = re.compile(r"[\w.:%/~,-]*\Z")


class StateError(SparekeyError):
    """The state cannot be used as it is."""

    default_hint = "Check the state directory: SPAREKEY_HOME, or the platform's default."


class StateFullError(StateError):
    """Nothing more can be written to the state."""

    default_hint = "Free space under the state directory and run the same command again; it continues."


class StateDamagedError(StateError):
    """The state holds what cannot be read: a damaged file, or an entry that is none."""

    default_hint = (
        "Stop what uses it, keep a copy, and restore a backup. `sparekey undo RUN` and SPAREKEY_HOME/reverse/RUN.sh "
        "work without it."
    )


class StateAwayError(StateError):
    """The state is there but cannot be reached or written now."""


class SchemaError(StateError):
    """The state was written by another version."""


# A server that has gone without a word is noticed within half a minute, and no statement waits for ever.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25000,
    "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
}


def connect(url: str) -> sa.Engine:
    """An engine for a database URL; on SQLite: WAL, full sync, and writers that wait their turn."""
    try:
        parsed = _with_driver(url)
        # A server may have gone since a connection was last used; a file has not.
        postgres = parsed.get_backend_name() != "sqlite"
        more = (
            {"connect_args": {k: v for k, v in KEEPALIVE.items() if k not in parsed.query}}
            if postgres
            else {}
        )
        engine = sa.create_engine(parsed, pool_pre_ping=postgres, **more)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        # What a password with a bare "@" or ":" in it does to a URL must not be shown: it would reveal the rest.
        raise StateError(
            f"the database URL cannot be used: {type(error).__name__}",
            "Write postgresql://user:password@host/database with %40 for @ and %3A for : in the password, and "
            "install sparekey[postgres].",
        ) from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
    return engine


def _with_driver(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    # What a password with a "@", "]" or "/" in it leaves behind would be shown as the server's name.
    if not _HOST.match(parsed.host or "") or ("@" in (parsed.database or "") and parsed.host):
        raise ValueError
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


# How a statement is its own transaction: SQLite's driver begins none, see _configure_sqlite.
EXCLUSIVE: dict[str, dict[str, Any]] = {"sqlite": {}, "postgresql": {"isolation_level": "AUTOCOMMIT"}}


@contextmanager
def with_state_errors(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction whose database errors become ours; a clash of keys is left to the caller."""
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        raise state_error(error, engine.url) from error


# The texts of databases and what they mean. SQLite: "database or disk is full" or "disk I/O error" (a file limit),
# PostgreSQL "No space left". Sources: https://www.sqlite.org/rescode.html, and PostgreSQL's errcodes.
_FULL = ("is full", "disk I/O error", "No space left")
_DAMAGED = (
    "malformed",
    "is not a database",
    "invalid page",
    "could not read block",
    "Could not decode to UTF-8",
)
_LOCKED = ("is locked", "lock timeout")
_READ_ONLY = ("readonly database", "read-only", "unable to open database file")


def state_error(error: sa.exc.DBAPIError, url: sa.URL) -> StateError:
    """A database's failure in one sentence that names the file or server, never a password."""
    where, text = state_name(url), _first_line(error)
    if any(word in text for word in _FULL):
        return StateFullError(f"{where} cannot be written: {text}")
    if any(word in text for word in _DAMAGED):
        return StateDamagedError(f"{where} is damaged: {text}; nothing was written to it")
    if any(word in text for word in _LOCKED):
        return StateAwayError(
            f"{where} is locked by another process: {text}; nothing was written to it",
            "See what holds it open (`fuser` or `lsof` names it), end that, and run the same command again.",
        )
    if any(word in text for word in _READ_ONLY):
        return StateAwayError(
            f"{where} cannot be opened or written: {text}",
            "Make its directory writable for this user, or set SPAREKEY_HOME.",
        )
    if url.get_backend_name() == "sqlite":
        return StateError(f"{where} cannot be used: {text}")
    return StateAwayError(
        f"{where} cannot be used: {text}",
        "Start the database, or check --database-url and SPAREKEY_DATABASE_URL.",
    )


def state_name(url: sa.URL) -> str:
    """The state as messages name it: its file, or its server and database."""
    if url.get_backend_name() == "sqlite":
        return f"the state file {url.database}"
    return f"the state in PostgreSQL {url.host or 'on this machine'}{f':{url.port}' if url.port else ''}/{url.database}"


def _first_line(error: sa.exc.DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error).__name__
