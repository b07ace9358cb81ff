"""The append-only record of what was intended and done: one chain per run, each entry hashing the last.

SQLite in the state directory, or PostgreSQL by URL with the same code. An entry is committed to disk before
`append` returns. A chain shows every edited, removed or reordered entry; a cut tail shows only against a head
hash that was kept elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from threading import Lock
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sparekey.ledger.database import (
    EXCLUSIVE,
    StateDamagedError,
    StateError,
    connect,
    with_state_errors,
)
from sparekey.ledger.records import (
    GENESIS,
    AccountLease,
    FencedError,
    LedgerEntry,
    ProbeObservation,
    StoppedError,
    UserClaim,
    VerifiedChain,
    WorkerRecord,
    canonical,
    entry_hash,
)
from sparekey.ledger.schema import (
    SCHEMA_VERSION,
    claims_table,
    entries_table,
    migrate,
    observations_table,
    runs_table,
    stored_version,
    workers_table,
)
from sparekey.ledger.statements import (
    add_entry,
    entries_of_run,
    entries_of_user,
    epoch_of,
    finish,
    head_of,
    heads,
    last_of_kinds,
    lease_of,
    move_claim,
    observed,
    opening_of,
    reopen,
    unfinished,
    wait_for_chain,
)

_RETRIES = 50


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
        self._reader = engine.execution_options(**EXCLUSIVE[engine.dialect.name])

    @classmethod
    def open(cls, url: str) -> "Ledger":
        """Open it, make or migrate its tables; raises SchemaError for another version's, StateError else."""
        ledger = cls(connect(url))
        with ledger.reading() as connection:
            ready = stored_version(connection) == str(SCHEMA_VERSION)
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
        with self._reader_lock, with_state_errors(self.engine) as connection:
            if self._write_lock:
                # One that reads first and writes later fails at once when another wrote in between.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read from; raises StateError."""
        return with_state_errors(self._reader)

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

        `claim` must still be the ledger's; with `bump_epoch` its epoch grows by one, which ends every other claim.
        `unless_last=(stops, starts)` demands that of the run's entries of these kinds the last is one of `starts`,
        `must_be_first` that the run has no entry yet, `lease` that its holder still has it.
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
            epoch = connection.execute(epoch_of, {"account": account, "user": user}).scalar()
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
        query = entries_of_run(
            one_user=user is not None, some_kinds=bool(kinds), limited=limit is not None
        )  # fmt: skip
        asked = {"run": run, "after": after, "account": account, "user": user, "kinds": kinds, "limit": limit}
        with self.reading() as connection:
            return tuple(map(_entry, connection.execute(query, asked)))

    def entries_of_user(self, account: str, user: str, kinds: tuple[str, ...]) -> tuple[LedgerEntry, ...]:
        """What any run recorded of one user, in order of time."""
        asked = {"account": account, "user": user, "kinds": kinds}
        with self.reading() as connection:
            return tuple(map(_entry, connection.execute(entries_of_user, asked)))

    def opening(self, run: str) -> str:
        """The hash of a run's first entry, which names it for good; empty where the run has none."""
        with self.reading() as connection:
            return connection.execute(opening_of, {"run": run}).scalar() or ""

    def has(self, run: str, seq: int, entry_hash: str) -> bool:
        """True where a run's chain has this very entry at this place."""
        query = sa.select(entries_table.c.hash).where(entries_table.c.run == run, entries_table.c.seq == seq)
        with self.reading() as connection:
            return bool(connection.execute(query).scalar() == entry_hash)

    def head(self, run: str) -> str:
        """The hash of a run's last entry; GENESIS where the run has none."""
        with self.reading() as connection:
            return _head(connection, run)[1]

    def heads(self) -> dict[str, str]:
        """The hash of each chain's last entry."""
        with self.reading() as connection:
            return {row.run: row.hash for row in connection.execute(heads)}

    def runs(self) -> tuple[str, ...]:
        """Every run, by the time of its first entry."""
        query = (
            sa.select(entries_table.c.run)
            .where(entries_table.c.seq == 1)
            .order_by(entries_table.c.at, entries_table.c.run)
        )
        with self.reading() as connection:
            return tuple(connection.execute(query).scalars())

    def unfinished(self) -> tuple[tuple[str, int], ...]:
        """The runs for which something may be left to do, and the number of each one's last entry."""
        with self.reading() as connection:
            return tuple((row.run, row.seq or 0) for row in connection.execute(unfinished))

    def finish(self, run: str, seq: int) -> None:
        """Nothing is left to do for a run whose last entry is this one; a later entry opens it again."""
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(wait_for_chain, {"run": run})
            connection.execute(finish, {"run": run, "seq": seq, "no": False})

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
            insert = _insert(connection, observations_table).values(run=run, name=name, **row)
            connection.execute(insert.on_conflict_do_update(index_elements=["run", "name"], set_=row))

    def observations(self, run: str) -> dict[str, ProbeObservation]:
        """The latest word of each probe of a run."""
        with self.reading() as connection:
            return {
                row.name: ProbeObservation(
                    datetime.fromisoformat(row.asked), datetime.fromisoformat(row.seen), row.green
                )
                for row in connection.execute(observed, {"run": run})
            }

    def register(self, worker: WorkerRecord) -> None:
        """Register a worker; its lock shows whether it still lives."""
        until = worker.credentials_until.isoformat() if worker.credentials_until else None
        row = {"host": worker.host, "since": worker.since.isoformat(), "credentials_until": until}
        with self.writing() as connection:
            connection.execute(_insert(connection, workers_table).values(id=worker.id, **row))

    def unregister(self, worker: str) -> None:
        """Forget a worker."""
        with self.writing() as connection:
            connection.execute(sa.delete(workers_table).where(workers_table.c.id == worker))

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
                for row in connection.execute(sa.select(workers_table).order_by(workers_table.c.id))
            )

    def verify(self, run: str, head: str | None = None) -> VerifiedChain:
        """Recompute a chain and say which entries were edited, removed or reordered.

        With `head` (a head hash that was kept elsewhere) a cut tail is seen too.
        """
        broken: list[str] = []
        seq, prev, seen = 0, GENESIS, False
        query = sa.select(entries_table).where(entries_table.c.run == run).order_by(entries_table.c.seq)
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
    row = connection.execute(head_of, {"run": run}).first()
    return (row.seq, row.hash) if row else (0, GENESIS)


def _add(
    connection: sa.Connection, run: str, kind: str, body: Mapping[str, Any], at: datetime
) -> LedgerEntry:
    if connection.dialect.name == "postgresql":
        # Another writer of the same chain waits here, rather than tries again; SQLite has one writer anyway.
        connection.execute(wait_for_chain, {"run": run})
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
    connection.execute(add_entry, row)
    if entry.kind == "opened":
        new = _insert(connection, runs_table).values(run=entry.run, unfinished=True)
        connection.execute(new.on_conflict_do_nothing())
    else:
        connection.execute(reopen, {"run": entry.run, "yes": True})


def _raise_epoch(connection: sa.Connection, run: str, account: str, user: str, epoch: int) -> None:
    first = _insert(connection, claims_table).values(account=account, user_name=user, epoch=epoch, run=run)
    connection.execute(
        first.on_conflict_do_update(
            index_elements=["account", "user_name"],
            set_={"epoch": epoch, "run": run},
            where=claims_table.c.epoch < epoch,
        )
    )


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _check_claim(connection: sa.Connection, run: str, claim: UserClaim, *, bump_epoch: bool) -> None:
    """Hold the claim's row until the commit, so that the entry and the claim are one."""
    if claim.epoch == 0:
        first = _insert(connection, claims_table).values(
            account=claim.account, user_name=claim.user, epoch=0, run=run
        )
        connection.execute(first.on_conflict_do_nothing())
    epoch = claim.epoch + 1 if bump_epoch else claim.epoch
    held = {"claimed": claim.account, "by": claim.user, "held": claim.epoch, "epoch": epoch, "run": run}
    updated = connection.execute(move_claim, held)
    if updated.rowcount != 1:
        raise FencedError(f"user {claim.user} in account {claim.account} was taken over by another worker")


def check_lease(connection: sa.Connection, lease: AccountLease) -> None:
    """Raise FencedError where another process has taken a lease over."""
    row = connection.execute(lease_of, {"name": lease.name}).first()
    if row is None or (row.holder, row.epoch) != (lease.holder, lease.epoch):
        raise FencedError(f"{lease.name} was taken over by another process")


def _check_last_kind(
    connection: sa.Connection, run: str, stops: tuple[str, ...], starts: tuple[str, ...]
) -> None:
    result = connection.execute(last_of_kinds, {"run": run, "kinds": stops + starts})
    last = max(result, key=lambda row: row.last, default=None)
    if last is None or last.kind not in starts:
        raise StoppedError(f"run {run} was stopped")
