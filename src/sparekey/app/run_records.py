"""Runs and the ledger as they stand: list, show, follow, verify and export; without credentials."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from msgspec import structs

from sparekey.aws.gateway import AccountGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import SparekeyError
from sparekey.formatting import escaped
from sparekey.ledger import verification as verification
from sparekey.ledger.copies import differences
from sparekey.ledger.records import GENESIS, OnEvent
from sparekey.ledger.verification import VerificationResult
from sparekey.model import Caller, RunRecord
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.settings import state_directory

_NO_WORKER = Caller("", "")


def follow(run: str, on_event: OnEvent, until: Callable[[RunRecord], bool] = lambda _: False) -> RunRecord:
    """Pass on the events of a run until it ends or is stopped; from anywhere, without credentials."""
    with run_records(None) as records:
        return records.follow(run, on_event, until)


def verify_ledger(run: str | None = None, head: str | None = None) -> VerificationResult:
    """Account for every row of the ledger, or for one run's, against a head that was kept elsewhere."""
    kept = verification.parse_head(head) if head is not None else None
    with own_state() as state:
        if run is None:
            return _with_copies(verification.verify_all(state.ledger), state)
        name = recorded_run(state, run)
        return _with_copies(verification.verify_run(state.ledger, name, kept), state, name)


def _with_copies(
    result: VerificationResult, state: StateDirectory, run: str | None = None
) -> VerificationResult:
    faults = tuple(differences(state.ledger, state.copies, run))
    return structs.replace(result, faults=(*result.faults, *faults))


def export_ledger(run: str | None = None) -> Iterator[str]:
    """Every entry as it is stored, or those of one run, as JSON lines that a terminal may show."""
    with own_state() as state:
        for row in verification.raw_rows(state.ledger, None if run is None else recorded_run(state, run)):
            yield escaped(verification.exported_entry(row))


def recorded_run(state: StateDirectory, run: str) -> str:
    """The run that is meant: as it is written where it has entries, for a run may lack its first."""
    return run if run and state.ledger.head(run) != GENESIS else _whole_id(run)


def runs(clock: Clock | None = None) -> tuple[RunRecord, ...]:
    """Every run, oldest first; AWS is not asked."""
    with run_records(clock) as records:
        return records.list()


def show(run: str, clock: Clock | None = None) -> RunRecord:
    """One run by its ledger; AWS is not asked."""
    with run_records(clock) as records:
        return records.show(run)


@contextmanager
def own_state() -> Iterator[StateDirectory]:
    """The state, closed at the end."""
    with closing(_state()) as state:
        yield state


@contextmanager
def run_records(clock: Clock | None, caller: Caller = _NO_WORKER) -> Iterator[RunService]:
    """The runs for who asks nothing of AWS: no credentials, and no account that could be entered."""

    def no_account(account: str) -> AccountGateway:
        raise SparekeyError(f"account {account} is not needed here")

    with own_state() as state:
        yield RunService(state, clock or SystemClock(), no_account, caller)


def _whole_id(run: str) -> str:
    with run_records(None) as records:
        return records.find(run)


def _state() -> StateDirectory:
    return StateDirectory(state_directory(), os.environ.get("SPAREKEY_DATABASE_URL", ""))
