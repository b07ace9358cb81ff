"""Which processes are alive, and which of them does what: heartbeats, and leases that end with them.

A process is alive while its heartbeat is young: by the database server's clock on PostgreSQL, by this machine's
on SQLite, where the process also holds a file lock that dies with it. A lease belongs to its holder for as long
as the holder is alive; a new holder raises its epoch, and the one before finds out at its next write
(`Ledger.append(lease=...)`). So a killed, a frozen and an unreachable process are replaced alike.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa

from sparekey.errors import SparekeyError
from sparekey.ledger.records import AccountLease
from sparekey.ledger.schema import leases, processes
from sparekey.ledger.store import Ledger
from sparekey.model import Value
from sparekey.runs.storage import HeldLock, StateDirectory, new_id

# Seconds. A heartbeat that is older than TTL, or as far in the future, is that of a dead or frozen process.
TTL = 15.0
_RENEWALS_PER_TTL = 4
# A process whose own loop has not come round for so long is frozen, although its heartbeat thread is not.
STUCK_AFTER = 120.0

_held = sa.select(leases).where(leases.c.holder != "")
_processes = sa.select(processes)


class WorkerInfo(Value, frozen=True):
    """A process that has signed on: `name` is its host and number, `age` the seconds since its last heartbeat."""

    id: str
    name: str
    age: float


class WorkerLeases:
    """One process's heartbeat and the leases it holds; `now` is the time in seconds, for tests."""

    def __init__(
        self,
        ledger: Ledger,
        state: StateDirectory | None = None,
        *,
        now: Callable[[], float] | None = None,
        ttl: float = 0,
    ) -> None:
        self._ledger, self._state, self._now = ledger, state, now
        self._files = state is not None and not state.shared
        self.ttl = ttl or TTL
        self.id = new_id("worker")
        self.name = f"{os.uname().nodename}/{os.getpid()}"
        self._lock: HeldLock | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._renew_round = time.monotonic()
        self._renewed_at = 0.0

    # This process

    def start(self) -> None:
        """Sign on and keep the heartbeat going until `stop`; raises StateError."""
        if self._thread is not None:
            return
        if self._files and self._state is not None:
            self._lock = self._state.try_lock(self.id)
        self.mark()
        self.renew()
        self._thread = threading.Thread(target=self._keep_renewing, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give every lease back and sign off; a database that is away forgets this process by itself."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1)
        self._thread = None
        try:
            with self._ledger.writing() as connection:
                connection.execute(sa.update(leases).where(leases.c.holder == self.id).values(holder=""))
                connection.execute(sa.delete(processes).where(processes.c.id == self.id))
        except SparekeyError:
            pass
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def mark(self) -> None:
        """The process's loop has come round: without this, the heartbeat ends after a while."""
        self._renew_round = time.monotonic()

    def renew(self) -> None:
        """Be alive for another while; raises StateError."""
        with self._ledger.writing() as connection:
            beat = self._clock(connection)
            changed = connection.execute(
                sa.update(processes).where(processes.c.id == self.id).values(beat=beat)
            )
            if changed.rowcount == 0:
                row = {"id": self.id, "name": self.name, "beat": beat}
                connection.execute(sa.insert(processes).values(**row))
        self._renewed_at = time.monotonic()

    @property
    def is_renewing(self) -> bool:
        """True while this process can write that it is alive."""
        return time.monotonic() - self._renewed_at < self.ttl

    def _keep_renewing(self) -> None:
        while not self._stopping.wait(self.ttl / _RENEWALS_PER_TTL):
            if time.monotonic() - self._renew_round < STUCK_AFTER:
                with suppress(SparekeyError, sa.exc.SQLAlchemyError):
                    self.renew()  # where the database is away, for the others this process is, too

    # Who else is there

    def _clock(self, connection: sa.Connection) -> float:
        """The time that heartbeats are measured by: the server's, since clocks of machines differ."""
        if self._now is not None:
            return self._now()
        if connection.dialect.name == "postgresql":
            return float(
                connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar() or 0
            )
        return time.time()

    def alive(self) -> dict[str, WorkerInfo]:
        """The processes that are alive, by id."""
        with self._ledger.reading() as connection:
            now = self._clock(connection)
            rows = connection.execute(_processes).all()
        workers = [WorkerInfo(row.id, row.name, abs(now - row.beat)) for row in rows]
        return {
            process.id: process
            for process in workers
            if process.age <= self.ttl and self._shows_life(process.id)
        }

    def _shows_life(self, process: str) -> bool:
        """False where the process of this file lock has ended: known at once, on the machine itself."""
        if process == self.id or not self._files or self._state is None:
            return True
        return self._state.is_held(process)

    def forget_the_dead(self, dead_for: float = 86400.0) -> None:
        """Remove what processes left that ended without signing off, a day ago."""
        with self._ledger.writing() as connection:
            limit = self._clock(connection) - dead_for
            connection.execute(sa.delete(processes).where(processes.c.beat < limit))
        for worker in self._ledger.workers():
            with self._ledger.reading() as connection:
                known = connection.execute(
                    sa.select(processes.c.id).where(processes.c.id == worker.id)
                ).first()
            if known is None:
                self._ledger.unregister(worker.id)

    # Leases

    def held(self) -> dict[str, AccountLease]:
        """Every lease by its name, and the process that has it or had it last."""
        with self._ledger.reading() as connection:
            return {
                row.name: AccountLease(row.name, row.holder, row.epoch) for row in connection.execute(_held)
            }

    def acquire(self, name: str, alive: dict[str, WorkerInfo] | None = None) -> AccountLease | None:
        """Take a lease that nobody alive has, or keep one's own; None where another process has it."""
        alive = self.alive() if alive is None else alive
        query = sa.select(leases.c.holder, leases.c.epoch).where(leases.c.name == name)
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return self._take(name, 0)
        if row.holder == self.id:
            return AccountLease(name, self.id, row.epoch)
        return None if row.holder in alive else self._take(name, row.epoch)

    def _take(self, name: str, epoch: int) -> AccountLease | None:
        taken = AccountLease(name, self.id, epoch + 1)
        try:
            with self._ledger.writing() as connection:
                if epoch == 0:
                    connection.execute(sa.insert(leases).values(name=name, holder=self.id, epoch=1))
                else:
                    mine = {"holder": self.id, "epoch": epoch + 1}
                    where = (leases.c.name == name, leases.c.epoch == epoch)
                    if connection.execute(sa.update(leases).where(*where).values(**mine)).rowcount != 1:
                        return None
        except sa.exc.IntegrityError:
            return None  # another process was first
        return taken

    def release(self, name: str) -> None:
        """Give one lease back."""
        where = (leases.c.name == name, leases.c.holder == self.id)
        with self._ledger.writing() as connection:
            connection.execute(sa.update(leases).where(*where).values(holder=""))
