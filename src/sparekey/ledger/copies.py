"""Copies of the entries beside the database, so that an undo is possible when the database is not.

Each run has a file of JSON lines, reverse/RUN.jsonl, that every process on this machine which appends to the
run's chain brings up to date, and every worker. The ledger is the record; a copy is used where the ledger cannot
be read, or where it ends earlier because an older backup was restored. See docs/adr/0031.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from sparekey.errors import SparekeyError
from sparekey.ledger.database import StateDamagedError
from sparekey.ledger.records import GENESIS, LedgerEntry, canonical, entry_hash
from sparekey.ledger.store import Ledger
from sparekey.ownership import read_owned

_SUFFIX = ".jsonl"
# Enough for the last lines of a file; only the first, which holds the plan, may be longer.
_TAIL = 1 << 20
_decoder = msgspec.json.Decoder(LedgerEntry)


class LedgerCopies:
    """The copies in one directory; safe among threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last_copied: dict[str, int] = {}
        self._writing = Lock()

    def path(self, run: str) -> Path:
        """The file of a run."""
        return self._directory / f"{run}{_SUFFIX}"

    def runs(self) -> tuple[str, ...]:
        """The runs that have a copy."""
        try:
            names = [path.name.removesuffix(_SUFFIX) for path in self._directory.iterdir()]
        except OSError:
            return ()
        return tuple(sorted(run for run in names if self.path(run).is_file()))

    def add(self, ledger: Ledger, entry: LedgerEntry) -> None:
        """Bring a run's copy up to an entry that was appended.

        A copy that cannot be written stops nothing: the entry is in the ledger, and the next one catches up.
        """
        if not entry.run.startswith("r-"):
            return
        with self._writing, suppress(OSError, SparekeyError):
            last = self._last_copied.get(entry.run)
            if last is not None and last >= entry.seq:
                return
            if last != entry.seq - 1:
                last = self._last_on_file(entry.run)
            missing = (entry,) if last == entry.seq - 1 else ledger.entries(entry.run, after=last)
            self._append(entry.run, missing)
            self._last_copied[entry.run] = max(entry.seq, last)

    def catch_up(self, ledger: Ledger, run: str) -> None:
        """Bring a run's copy up to the ledger, for who watches what others have written."""
        for entry in ledger.entries(run, after=self._last_on_file(run)):
            self.add(ledger, entry)

    def _append(self, run: str, entries: tuple[LedgerEntry, ...]) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self.path(run), flags, 0o600), "rb+", buffering=0) as file:
            # A killed process, or a full disk, may have left part of a line.
            size = file.seek(0, os.SEEK_END)
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            lines = "".join(f"{canonical(entry)}\n" for entry in entries)
            file.write(("\n" if torn else "").encode() + lines.encode())

    def _last_on_file(self, run: str) -> int:
        try:
            with self.path(run).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return 0
        return max((entry.seq for entry in _decoded(lines)), default=0)

    def read(self, run: str) -> tuple[LedgerEntry, ...]:
        """A run's copy; raises StateDamagedError where it is not a whole chain, RefusedError, OSError."""
        path = self.path(run)
        by_seq = {entry.seq: entry for entry in _decoded(read_owned(path, "the copy").splitlines())}
        chain, prev = tuple(by_seq[seq] for seq in sorted(by_seq)), GENESIS
        for seq, entry in enumerate(chain, 1):
            at = entry.at.isoformat()
            right = entry_hash(run, seq, at, entry.kind, canonical(entry.body), prev)
            if (entry.seq, entry.prev, entry.hash) != (seq, prev, right):
                raise StateDamagedError(f"the copy {path} of the ledger is not whole from entry {seq} on")
            prev = entry.hash
        return chain


def _decoded(lines: list[bytes]) -> Iterator[LedgerEntry]:
    for line in lines:
        with suppress(msgspec.DecodeError):
            yield _decoder.decode(line)


def missing_runs(ledger: Ledger, copies: LedgerCopies, run: str) -> tuple[LedgerEntry, ...]:
    """What a run's copy holds after the ledger's last entry.

    Raises StateDamagedError where the two do not agree, or the copy is not whole.
    """
    chain, head = copies.read(run), ledger.head(run)
    hashes = [GENESIS, *(entry.hash for entry in chain)]
    if head in hashes:
        return chain[hashes.index(head) :]
    known = {entry.seq: entry.hash for entry in ledger.entries(run)}
    if all(known.get(entry.seq) == entry.hash for entry in chain):
        return ()  # other machines have gone on
    raise StateDamagedError(
        f"the ledger of run {run} and its copy {copies.path(run)} differ: one was changed, or an older backup of "
        "the ledger was restored and has gone on since"
    )


def restore_from_copies(ledger: Ledger, copies: LedgerCopies, run_id: str) -> Iterator[str]:
    """Restore what the ledger lacks of the runs that may be meant; yields what was done, as text."""
    for run in copies.runs():
        if not run_id or not run.startswith(run_id):
            continue
        try:
            missing = missing_runs(ledger, copies, run)
        except (StateDamagedError, OSError) as error:
            yield str(error)
            continue
        if missing:
            ledger.restore(missing)
            yield (
                f"the ledger ended {len(missing)} entries too early, as after an older backup was restored; they "
                f"were restored from {copies.path(run)}"
            )


def differences(ledger: Ledger, copies: LedgerCopies, run: str | None = None) -> Iterator[str]:
    """Where the ledger lacks what its copies on this machine hold, or differs from them."""
    for name in copies.runs() if run is None else (run,):
        if ledger.engine.dialect.name != "sqlite" and ledger.head(name) == GENESIS:
            continue  # a run of another database
        try:
            missing = missing_runs(ledger, copies, name) if copies.path(name).exists() else ()
        except (StateDamagedError, OSError, UnicodeDecodeError) as error:
            yield str(error)
            continue
        if missing:
            yield (
                f"run {name} ends with entry {missing[0].seq - 1}, its copy {copies.path(name)} with entry "
                f"{missing[-1].seq}: the end was cut off, or an older backup was restored"
            )
