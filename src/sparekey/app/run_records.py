"""The run service without credentials; the ledger verified and exported."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from msgspec import structs

from sparekey.aws.gateway import AccountGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import SparekeyError
from sparekey.formatting import escaped
from sparekey.ledger import verification
from sparekey.ledger.copies import differences
from sparekey.ledger.records import GENESIS
from sparekey.ledger.verification import VerificationResult
from sparekey.model import Caller
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.settings import state_directory

_NO_WORKER = Caller("", "")


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
    return run if run and state.ledger.head(run) != GENESIS else _service(state).find(run)


@contextmanager
def own_state() -> Iterator[StateDirectory]:
    """The state, closed at the end."""
    with closing(StateDirectory(state_directory(), os.environ.get("SPAREKEY_DATABASE_URL", ""))) as state:
        yield state


@contextmanager
def run_records(clock: Clock | None = None, caller: Caller = _NO_WORKER) -> Iterator[RunService]:
    """The run service for what needs no AWS: list, show, follow, stop; no account can be entered by it."""
    with own_state() as state:
        yield _service(state, clock, caller)


def _service(state: StateDirectory, clock: Clock | None = None, caller: Caller = _NO_WORKER) -> RunService:
    return RunService(state, clock or SystemClock(), _no_account, caller)


def _no_account(account: str) -> AccountGateway:
    raise SparekeyError(f"account {account} is not needed here")
