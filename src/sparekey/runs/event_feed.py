"""The events of all unfinished runs, whichever worker executes them: each new entry once."""

from collections.abc import Iterator

from sparekey.ledger.records import LedgerEntry
from sparekey.ledger.store import Ledger


class LedgerFeed:
    """New entries since the feed was made; only unfinished runs are looked at, and those that were a look ago."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: dict[str, int] | None = None

    def new_events(self) -> Iterator[LedgerEntry]:
        """The entries that came since the last look; raises StateError."""
        heads = dict(self._ledger.unfinished())
        if self._seen is None:
            self._seen = heads
            return
        for run in set(self._seen) - set(heads):
            yield from self._ledger.entries(run, after=self._seen[run])
            del self._seen[run]
        for run, head in heads.items():
            if head != self._seen.get(run, 0):
                for entry in self._ledger.entries(run, after=self._seen.get(run, 0)):
                    self._seen[run] = entry.seq
                    yield entry
