"""The append-only record of what was intended and done: one chain per run, each entry hashing the last.

SQLite in the state directory, or PostgreSQL by URL with the same code. An entry is committed to disk before
`append` returns. A chain shows every edited, removed or reordered entry; a cut tail shows only against a head
hash that was kept elsewhere.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import cache
from threading import Lock
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sparekey.errors import SparekeyError
from sparekey.model import Value

GENESIS = "0" * 64
SCHEMA_VERSION = 2
_RETRIES = 50
# How long a writer waits for another one.
_BUSY_MS = 30_000
_HOST = re.compile(r"[\w.:%/~,-]*\Z")

_metadata = sa.MetaData()
_meta = sa.Table(
    "sparekey_meta",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_entries = sa.Table(
    "sparekey_entries",
    _metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # Copies out of the body, to find a user's entries by.
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("sparekey_entries_user", "account", "user_name", "run", "seq"),
    sa.Index("sparekey_entries_kind", "run", "kind", "seq"),
)
# Who may write to a user: a number that grows with every intent, so that a worker thought dead finds out.
_claims = sa.Table(
    "sparekey_claims",
    _metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("user_name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
)


# The latest word of each probe of a run; what matters of it stands in the chain as well.
_observations = sa.Table(
    "sparekey_observations",
    _metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
    sa.Column("green", sa.Boolean, nullable=True),
)
_workers = sa.Table(
    "sparekey_workers",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
    sa.Column("credentials_until", sa.Text, nullable=True),
)

# The runs, and whether something may be left to do for them: every entry opens its run's row again, and whoever
# supervises the run closes it once nothing is due. So what is unfinished is found without reading the past.
_runs = sa.Table(
    "sparekey_runs",
    _metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("unfinished", sa.Boolean, nullable=False),
    sa.Index("sparekey_runs_unfinished", "unfinished", sqlite_where=sa.text("unfinished")),
)
# Processes and leases; `runs/worker_leases.py` holds what they mean.
processes = sa.Table(
    "sparekey_processes",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("beat", sa.Float, nullable=False),
)
leases = sa.Table(
    "sparekey_leases",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
)

# Statements are built once: building one costs several times what SQLite takes to answer it.
_epoch_of = sa.select(_claims.c.epoch).where(
    _claims.c.account == sa.bindparam("account"), _claims.c.user_name == sa.bindparam("user")
)
_move_claim = (
    sa.update(_claims)
    .where(
        _claims.c.account == sa.bindparam("claimed"),
        _claims.c.user_name == sa.bindparam("by"),
        _claims.c.epoch == sa.bindparam("held"),
    )
    .values(epoch=sa.bindparam("epoch"), run=sa.bindparam("run"))
)
_opening_of = sa.select(_entries.c.hash).where(_entries.c.run == sa.bindparam("run"), _entries.c.seq == 1)
_head_of = (
    sa.select(_entries.c.seq, _entries.c.hash)
    .where(_entries.c.run == sa.bindparam("run"))
    .order_by(_entries.c.seq.desc())
    .limit(1)
)
# Not ordered by number with a limit of one: for that, databases walk back through the whole chain.
_last_of_kinds = (
    sa.select(_entries.c.kind, sa.func.max(_entries.c.seq).label("last"))
    .where(
        _entries.c.run == sa.bindparam("run"),
        _entries.c.kind.in_(sa.bindparam("kinds", expanding=True)),
    )
    .group_by(_entries.c.kind)
)
_wait_for_chain = sa.text("SELECT pg_advisory_xact_lock(7305802, hashtext(:run))")
_add_entry = sa.insert(_entries)
_reopen = sa.text("UPDATE sparekey_runs SET unfinished = :yes WHERE run = :run AND NOT unfinished")
_finish = sa.text(
    "UPDATE sparekey_runs SET unfinished = :no WHERE run = :run "
    "AND (SELECT max(seq) FROM sparekey_entries WHERE run = :run) = :seq"
)
_unfinished = (
    sa.select(
        _runs.c.run,
        sa.select(sa.func.max(_entries.c.seq))
        .where(_entries.c.run == _runs.c.run)
        .scalar_subquery()
        .label("seq"),
    )
    .where(_runs.c.unfinished)
    .order_by(_runs.c.run)
)
_last_of_chains = (
    sa.select(_entries.c.run, sa.func.max(_entries.c.seq).label("seq")).group_by(_entries.c.run).subquery()
)
_heads = sa.select(_entries.c.run, _entries.c.hash).join(
    _last_of_chains,
    sa.and_(_entries.c.run == _last_of_chains.c.run, _entries.c.seq == _last_of_chains.c.seq),
)
_observed = sa.select(_observations).where(_observations.c.run == sa.bindparam("run"))
_lease_of = sa.select(leases.c.holder, leases.c.epoch).where(leases.c.name == sa.bindparam("name"))
_entries_of_user = (
    sa.select(_entries)
    .where(
        _entries.c.account == sa.bindparam("account"),
        _entries.c.user_name == sa.bindparam("user"),
        _entries.c.kind.in_(sa.bindparam("kinds", expanding=True)),
    )
    .order_by(_entries.c.at, _entries.c.run, _entries.c.seq)
)


@cache
def _entries_of_run(*, one_user: bool, some_kinds: bool, limited: bool) -> sa.Select[Any]:
    query = (
        sa.select(_entries)
        .where(_entries.c.run == sa.bindparam("run"), _entries.c.seq > sa.bindparam("after"))
        .order_by(_entries.c.seq)
    )
    if one_user:
        query = query.where(
            _entries.c.account == sa.bindparam("account"), _entries.c.user_name == sa.bindparam("user")
        )
    if some_kinds:
        query = query.where(_entries.c.kind.in_(sa.bindparam("kinds", expanding=True)))
    return query.limit(sa.bindparam("limit", type_=sa.Integer)) if limited else query


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


class FencedError(StateError):
    """Somebody else has taken over this user or stopped this run: nothing was appended."""


class StoppedError(FencedError):
    """The run was stopped or undone: nothing was appended."""


class LedgerEntry(Value, frozen=True):
    """One entry as it is stored: `hash` is SHA-256 over everything else in it, `prev` included."""

    run: str
    seq: int
    at: datetime
    kind: str
    body: Mapping[str, Any]
    prev: str
    hash: str


class UserClaim(Value, frozen=True):
    """The right to write to one user, as long as `epoch` is still the ledger's."""

    account: str
    user: str
    epoch: int


class AccountLease(Value, frozen=True):
    """The right to do something that one process does at a time, as long as `epoch` is still the ledger's."""

    name: str
    holder: str
    epoch: int


class ProbeObservation(Value, frozen=True):
    """When a probe was last asked, when it last answered, and what: None where it could not be asked."""

    asked: datetime
    seen: datetime
    healthy: bool | None


class WorkerRecord(Value, frozen=True):
    """A process that watches runs; `credentials_until` is None where it can renew them."""

    id: str
    host: str
    since: datetime
    credentials_until: datetime | None = None


class VerifiedChain(Value, frozen=True):
    """What verifying one run found: nothing in `broken` means that the chain is whole up to `head`."""

    run: str
    entries: int
    head: str
    broken: tuple[str, ...]


def canonical(content: Any) -> str:
    """One spelling for each content: JSON with sorted keys and no spaces."""
    return msgspec.json.encode(content, order="sorted").decode()


def entry_hash(run: str, seq: int, at: str, kind: str, body: str, prev: str) -> str:
    """The hash of an entry: over all of it as it is stored, but for the hash itself."""
    return hashlib.sha256(canonical([run, seq, at, kind, body, prev]).encode()).hexdigest()


class Ledger:
    """The record; every method is one short transaction, safe among threads, processes and machines."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        # Each reading is one statement, which sees one moment without a transaction around it.
        self._write_lock = engine.dialect.name == "sqlite"
        # This process's writers to a file wait for each other here: SQLite would have them look again and again.
        self._reader_lock: AbstractContextManager[Any] = Lock() if self._write_lock else nullcontext()
        # Called with each entry that was appended, once it is on disk; must not raise.
        self.on_append: Callable[[LedgerEntry], None] | None = None
        # Called before an entry that lets a key be deactivated; raises StateError where it would not be kept.
        self.before_deactivation: Callable[[], None] | None = None
        self._reader = engine.execution_options(**_EXCLUSIVE[engine.dialect.name])

    @classmethod
    def open(cls, url: str) -> "Ledger":
        """Open it, make or migrate its tables; raises SchemaError for another version's, StateError else."""
        ledger = cls(connect(url))
        with ledger.reading() as connection:
            ready = _schema(connection) == str(SCHEMA_VERSION)
        if not ready:  # only then: a writer would wait for its turn
            with ledger.writing() as connection:
                migrate(connection)
        return ledger

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction that writes; raises StateError."""
        with self._reader_lock, _with_state_errors(self.engine) as connection:
            if self._write_lock:
                # One that reads first and writes later fails at once when another wrote in between.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read from; raises StateError."""
        return _with_state_errors(self._reader)

    def append(
        self,
        run: str,
        kind: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        claim: UserClaim | None = None,
        bump_epoch: bool = False,
        unless_last: tuple[tuple[str, ...], tuple[str, ...]] | None = None,
        must_be_first: bool = False,
        lease: AccountLease | None = None,
    ) -> LedgerEntry:
        """Add an entry to a run's chain; it is on disk when this returns.

        `claim` must still be the ledger's; with `take` its epoch grows by one, which ends every other claim.
        `unless=(stops, starts)` demands that of the run's entries of these kinds the last is one of `starts`,
        `first` that the run has no entry yet, `lease` that its holder still has it.
        Raises FencedError where either does not hold, StateFullError, StateError.
        """
        if unless_last is not None and self.before_deactivation is not None:
            self.before_deactivation()
        entry = self._append(
            run,
            kind,
            body,
            at=at,
            claim=claim,
            bump_epoch=bump_epoch,
            unless_last=unless_last,
            must_be_first=must_be_first,
            lease=lease,
        )
        if self.on_append is not None:
            self.on_append(entry)
        return entry

    def _append(
        self,
        run: str,
        kind: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        claim: UserClaim | None,
        bump_epoch: bool,
        unless_last: tuple[tuple[str, ...], tuple[str, ...]] | None,
        must_be_first: bool,
        lease: AccountLease | None,
    ) -> LedgerEntry:
        for _ in range(_RETRIES):
            try:
                with self.writing() as connection:
                    if claim is not None:
                        _check_claim(connection, run, claim, bump_epoch=bump_epoch)
                    if lease is not None:
                        check_lease(connection, lease)
                    entry = _add(connection, run, kind, body, at)
                    if must_be_first and entry.seq != 1:
                        raise FencedError(f"run {run} exists")
                    if unless_last is not None:
                        _check_last_kind(connection, run, *unless_last)
                    return entry
            except sa.exc.IntegrityError:
                continue  # another process appended in the same moment: read the head again
        raise StateError(f"run {run} is written to by too many at once", "Run the same command again.")

    def restore(self, entries: Iterable[LedgerEntry]) -> None:
        """Restore entries that are missing at the end of their chains, as they were, and the claims they took.

        Raises StateDamagedError where one does not follow what is there: then nothing is restored.
        """
        with self.writing() as connection:
            for entry in entries:
                at, body = entry.at.isoformat(), canonical(entry.body)
                right = entry_hash(entry.run, entry.seq, at, entry.kind, body, entry.prev)
                if (entry.seq - 1, entry.prev) != _head(connection, entry.run) or entry.hash != right:
                    raise StateDamagedError(
                        f"entry {entry.seq} of run {entry.run} does not follow what the ledger holds"
                    )
                _add_row(connection, entry, at, body)
                epoch = entry.body.get("epoch")
                if isinstance(epoch, int):
                    _raise_epoch(connection, entry.run, *_user_of(entry.body), epoch)

    def claim(self, account: str, user: str) -> UserClaim:
        """The claim that holds now; read it before reading AWS."""
        with self.reading() as connection:
            epoch = connection.execute(_epoch_of, {"account": account, "user": user}).scalar()
            return UserClaim(account, user, epoch or 0)

    def is_current(self, claim: UserClaim) -> bool:
        """True while nobody has taken the user over since."""
        return self.claim(claim.account, claim.user) == claim

    def check_not_stopped(self, run: str, unless_last: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        """Raise StoppedError where the last of these kinds in a run's chain is one of the first."""
        with self.reading() as connection:
            _check_last_kind(connection, run, *unless_last)

    def check_lease(self, lease: AccountLease) -> None:
        """Raise FencedError where another process has taken a lease over."""
        with self.reading() as connection:
            check_lease(connection, lease)

    def entries(
        self,
        run: str,
        *,
        account: str | None = None,
        user: str | None = None,
        kinds: tuple[str, ...] = (),
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[LedgerEntry, ...]:
        """A run's entries in order: all, one user's, some kinds, or those after a sequence number."""
        query = _entries_of_run(
            one_user=user is not None, some_kinds=bool(kinds), limited=limit is not None
        )  # fmt: skip
        asked = {"run": run, "after": after, "account": account, "user": user, "kinds": kinds, "limit": limit}
        with self.reading() as connection:
            return tuple(map(_entry, connection.execute(query, asked)))

    def entries_of_user(self, account: str, user: str, kinds: tuple[str, ...]) -> tuple[LedgerEntry, ...]:
        """What any run says of one user, in order of time."""
        asked = {"account": account, "user": user, "kinds": kinds}
        with self.reading() as connection:
            return tuple(map(_entry, connection.execute(_entries_of_user, asked)))

    def opening(self, run: str) -> str:
        """The hash of a run's first entry, which names it for good; empty where the run has none."""
        with self.reading() as connection:
            return connection.execute(_opening_of, {"run": run}).scalar() or ""

    def has(self, run: str, seq: int, entry_hash: str) -> bool:
        """True where a run's chain has this very entry at this place."""
        query = sa.select(_entries.c.hash).where(_entries.c.run == run, _entries.c.seq == seq)
        with self.reading() as connection:
            return bool(connection.execute(query).scalar() == entry_hash)

    def head(self, run: str) -> str:
        """The hash of a run's last entry; GENESIS where the run has none."""
        with self.reading() as connection:
            return _head(connection, run)[1]

    def heads(self) -> dict[str, str]:
        """The hash of each chain's last entry."""
        with self.reading() as connection:
            return {row.run: row.hash for row in connection.execute(_heads)}

    def runs(self) -> tuple[str, ...]:
        """Every run, by the time of its first entry."""
        query = sa.select(_entries.c.run).where(_entries.c.seq == 1).order_by(_entries.c.at, _entries.c.run)
        with self.reading() as connection:
            return tuple(connection.execute(query).scalars())

    def unfinished(self) -> tuple[tuple[str, int], ...]:
        """The runs for which something may be left to do, and the number of each one's last entry."""
        with self.reading() as connection:
            return tuple((row.run, row.seq or 0) for row in connection.execute(_unfinished))

    def finish(self, run: str, seq: int) -> None:
        """Nothing is left to do for a run whose last entry is this one; a later entry opens it again."""
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_wait_for_chain, {"run": run})
            connection.execute(_finish, {"run": run, "seq": seq, "no": False})

    def export(self, run: str | None = None) -> Iterator[str]:
        """Yield every entry as a line of canonical JSON, run by run."""
        for name in (run,) if run else self.runs():
            after = 0
            while page := self.entries(name, after=after, limit=1000):
                for entry in page:
                    yield canonical(entry)
                after = page[-1].seq

    def observe(self, run: str, name: str, observation: ProbeObservation) -> None:
        """Keep the latest word of a probe."""
        row = {
            "asked": observation.asked.isoformat(),
            "seen": observation.seen.isoformat(),
            "green": observation.healthy,
        }
        with self.writing() as connection:
            insert = _insert(connection, _observations).values(run=run, name=name, **row)
            connection.execute(insert.on_conflict_do_update(index_elements=["run", "name"], set_=row))

    def observations(self, run: str) -> dict[str, ProbeObservation]:
        """The latest word of each probe of a run."""
        with self.reading() as connection:
            return {
                row.name: ProbeObservation(
                    datetime.fromisoformat(row.asked), datetime.fromisoformat(row.seen), row.green
                )
                for row in connection.execute(_observed, {"run": run})
            }

    def register(self, worker: WorkerRecord) -> None:
        """Register a worker; its lock shows whether it still lives."""
        until = worker.credentials_until.isoformat() if worker.credentials_until else None
        row = {"host": worker.host, "since": worker.since.isoformat(), "credentials_until": until}
        with self.writing() as connection:
            connection.execute(_insert(connection, _workers).values(id=worker.id, **row))

    def unregister(self, worker: str) -> None:
        """Forget a worker."""
        with self.writing() as connection:
            connection.execute(sa.delete(_workers).where(_workers.c.id == worker))

    def workers(self) -> tuple[WorkerRecord, ...]:
        """Every worker that signed on, dead ones included."""
        with self.reading() as connection:
            return tuple(
                WorkerRecord(
                    row.id,
                    row.host,
                    datetime.fromisoformat(row.since),
                    datetime.fromisoformat(row.credentials_until) if row.credentials_until else None,
                )
                for row in connection.execute(sa.select(_workers).order_by(_workers.c.id))
            )

    def verify(self, run: str, head: str | None = None) -> VerifiedChain:
        """Recompute a chain and say which entries were edited, removed or reordered.

        With `head` (a head hash that was kept elsewhere) a cut tail is seen too.
        """
        broken: list[str] = []
        seq, prev, seen = 0, GENESIS, False
        query = sa.select(_entries).where(_entries.c.run == run).order_by(_entries.c.seq)
        with self.reading() as connection:
            for row in connection.execute(query).yield_per(1000):
                broken += _check_entry(row, seq, prev)
                seq, prev = row.seq, row.hash
                seen = seen or prev == head
        if seq == 0:
            broken.append(f"run {run} has no entries")
        if head is not None and not seen:
            broken.append(
                f"the head {head} is not in the chain: entries after {seq} were cut off or replaced"
            )
        return VerifiedChain(run, seq, prev, tuple(broken))


def _check_entry(row: Any, seq: int, prev: str) -> Iterator[str]:
    if row.seq != seq + 1:
        yield (
            f"entry {seq + 1} was removed"
            if row.seq == seq + 2
            else f"entries {seq + 1} to {row.seq - 1} were removed"
        )
    elif row.prev != prev:
        yield f"entry {row.seq} does not follow entry {seq}: one of them was replaced or moved"
    if row.hash != entry_hash(row.run, row.seq, row.at, row.kind, row.body, row.prev):
        yield f"entry {row.seq} was edited"
    elif (row.account, row.user_name) != _user_of(_entry(row).body):
        yield f"entry {row.seq} is filed under another user"


def _user_of(body: Mapping[str, Any]) -> tuple[str, str]:
    return str(body.get("account", "")), str(body.get("user", ""))


def _entry(row: Any) -> LedgerEntry:
    try:
        at, body = datetime.fromisoformat(row.at), msgspec.json.decode(row.body)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise StateDamagedError(
            f"entry {row.seq} of run {row.run} in the ledger cannot be read: {error}"
        ) from error
    return LedgerEntry(row.run, row.seq, at, row.kind, body, row.prev, row.hash)


def _head(connection: sa.Connection, run: str) -> tuple[int, str]:
    row = connection.execute(_head_of, {"run": run}).first()
    return (row.seq, row.hash) if row else (0, GENESIS)


def _add(
    connection: sa.Connection, run: str, kind: str, body: Mapping[str, Any], at: datetime
) -> LedgerEntry:
    if connection.dialect.name == "postgresql":
        # Whoever appends to the same chain waits here, rather than tries again; SQLite has one writer anyway.
        connection.execute(_wait_for_chain, {"run": run})
    last, prev = _head(connection, run)
    text, moment, seq = canonical(body), at.isoformat(), last + 1
    entry = LedgerEntry(run, seq, at, kind, body, prev, entry_hash(run, seq, moment, kind, text, prev))
    _add_row(connection, entry, moment, text)
    return entry


def _add_row(connection: sa.Connection, entry: LedgerEntry, at: str, body: str) -> None:
    account, user = _user_of(entry.body)
    row = {
        "run": entry.run, "seq": entry.seq, "at": at, "kind": entry.kind,
        "body": body, "prev": entry.prev, "hash": entry.hash, "account": account, "user_name": user,
    }  # fmt: skip
    connection.execute(_add_entry, row)
    if entry.kind == "opened":
        new = _insert(connection, _runs).values(run=entry.run, unfinished=True)
        connection.execute(new.on_conflict_do_nothing())
    else:
        connection.execute(_reopen, {"run": entry.run, "yes": True})


def _raise_epoch(connection: sa.Connection, run: str, account: str, user: str, epoch: int) -> None:
    first = _insert(connection, _claims).values(account=account, user_name=user, epoch=epoch, run=run)
    connection.execute(
        first.on_conflict_do_update(
            index_elements=["account", "user_name"],
            set_={"epoch": epoch, "run": run},
            where=_claims.c.epoch < epoch,
        )
    )


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _check_claim(connection: sa.Connection, run: str, claim: UserClaim, *, bump_epoch: bool) -> None:
    """Hold the claim's row until the commit, so that the entry and the claim are one."""
    if claim.epoch == 0:
        first = _insert(connection, _claims).values(
            account=claim.account, user_name=claim.user, epoch=0, run=run
        )
        connection.execute(first.on_conflict_do_nothing())
    epoch = claim.epoch + 1 if bump_epoch else claim.epoch
    held = {"claimed": claim.account, "by": claim.user, "held": claim.epoch, "epoch": epoch, "run": run}
    updated = connection.execute(_move_claim, held)
    if updated.rowcount != 1:
        raise FencedError(f"user {claim.user} in account {claim.account} was taken over by another worker")


def check_lease(connection: sa.Connection, lease: AccountLease) -> None:
    """Raise FencedError where another process has taken a lease over."""
    row = connection.execute(_lease_of, {"name": lease.name}).first()
    if row is None or (row.holder, row.epoch) != (lease.holder, lease.epoch):
        raise FencedError(f"{lease.name} was taken over by another process")


def _check_last_kind(
    connection: sa.Connection, run: str, stops: tuple[str, ...], starts: tuple[str, ...]
) -> None:
    result = connection.execute(_last_of_kinds, {"run": run, "kinds": stops + starts})
    last = max(result, key=lambda row: row.last, default=None)
    if last is None or last.kind not in starts:
        raise StoppedError(f"run {run} was stopped")


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
        # What a password with a bare "@" or ":" in it does to a URL must not be told: it would show the rest.
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
_EXCLUSIVE: dict[str, dict[str, Any]] = {"sqlite": {}, "postgresql": {"isolation_level": "AUTOCOMMIT"}}


@contextmanager
def _with_state_errors(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction whose database errors become ours; a clash of keys is left to the caller."""
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        raise state_error(error, engine.url) from error


# What databases say, and what it means. SQLite says "database or disk is full" or "disk I/O error" (a file limit),
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


def _schema(connection: sa.Connection) -> str | None:
    """The version of the tables; None where there are none."""
    if not sa.inspect(connection).has_table(_meta.name):
        return None
    return connection.execute(sa.select(_meta.c.value).where(_meta.c.name == "schema")).scalar()


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to this version's schema; raises SchemaError where they cannot be."""
    if connection.dialect.name == "postgresql":
        # Two first starts at once: the second waits here.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7305801)"))
    if not sa.inspect(connection).has_table(_meta.name):
        _metadata.create_all(connection)
        connection.execute(sa.insert(_meta).values(name="schema", value=str(SCHEMA_VERSION)))
        return
    current = _schema(connection)
    version = int(current) if current and current.isdigit() else -1
    for step in range(version, SCHEMA_VERSION):
        if step not in MIGRATIONS:
            raise SchemaError(
                f"the state has schema {current}, which is too old for this version (schema {SCHEMA_VERSION})",
                "Open it once with the previous version of sparekey; nothing was changed.",
            )
        _metadata.create_all(connection)  # those that are missing
        for statement in MIGRATIONS[step]:
            connection.execute(sa.text(statement))
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"the state has schema {current}, this version of sparekey knows schema {SCHEMA_VERSION}",
            "A newer sparekey wrote it: update this one; nothing was changed.",
        )
    connection.execute(sa.update(_meta).where(_meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))


# The statements that lead from one schema to the next; entries themselves are never rewritten.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        """
        INSERT INTO sparekey_runs (run, unfinished)
        SELECT run, (1 = 1) FROM sparekey_entries WHERE seq = 1 AND kind = 'opened'
        AND run NOT IN (SELECT run FROM sparekey_runs)
        """,
    )
}
