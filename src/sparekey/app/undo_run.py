"""Undo, whatever state the state is in."""

import os
from collections.abc import Callable
from contextlib import closing
from itertools import islice

from msgspec import structs

from sparekey.app.connection import Connection
from sparekey.app.rotation import handovers
from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.gateway import AccountGateway
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.copies import restore_from_copies
from sparekey.ledger.database import SchemaError, StateError
from sparekey.ledger.records import FencedError, OnEvent
from sparekey.model import INACTIVE, Caller, RunRecord, StepRecord
from sparekey.probes import Prober, ProbeTools
from sparekey.revalidation import UserId
from sparekey.runs.run_ids import check_key, check_run_id
from sparekey.runs.salvage import manual_way_back, scratch_state, unknown_run
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory
from sparekey.settings import state_directory

OnStart = Callable[[RunRecord], None]
# Of so many users it is asked whether a key is off that the ledger does not know to be off.
_LISTED_AT_ONCE = 200
_UNEXPLAINED_INACTIVE = (
    "AWS lists it as Inactive, but the ledger has no deactivation by this run; it is left unchanged"
)


def undo_run(
    connection: Connection,
    run: str,
    *,
    key: str = "",
    on_start: OnStart = lambda _record: None,
    on_event: OnEvent = lambda _entry: None,
) -> RunRecord:
    """Reactivate what a run deactivated, all of it or one key; never waits for anything.

    `on_start` gets the run as it is before anything is done.
    Where the state cannot be read or written, by what is known of the run without it: then nothing is put on
    record, and a note states it. Raises StateError where nothing is known of the run.
    """
    check_run_id(run)
    caller = connection.gateway.caller()
    url = os.environ.get("SPAREKEY_DATABASE_URL", "")
    try:
        with closing(StateDirectory(state_directory(), url)) as state:
            notes = tuple(restore_from_copies(state.ledger, state.copies, run))
            runs = _runs(connection, state, caller)
            _refuse_forgotten(runs, run)
            _announce(runs.show(run), key, on_start)
            record = runs.undo(run, key, on_event=on_event)
            return _with_unexplained(connection, _with_notes(record, *notes), key)
    except (FencedError, SchemaError):
        raise
    except StateError as error:
        return _undo_without_state(connection, caller, url, run, key, on_start, on_event, error)


def _announce(record: RunRecord, key: str, on_start: OnStart) -> None:
    check_key(record.id, key, record.steps)
    on_start(record)


def _refuse_forgotten(runs: RunService, run: str) -> None:
    """Name the commands to revert manually where the ledger does not know a run that was started here."""
    try:
        runs.find(run)
    except BadInputError as error:
        by_hand = manual_way_back(
            state_directory(), run, StateError(f"{error.message} in the ledger", error.hint)
        )
        if by_hand.hint == error.hint:
            raise
        raise BadInputError(by_hand.message, by_hand.hint) from error


def _runs(connection: Connection, state: StateDirectory, caller: Caller) -> RunService:
    probes = Prober(ProbeTools(os.environ, connection.gateway.alarm_state))
    return RunService(
        state, connection.clock, connection.account, caller, probes=probes, handover=handovers(connection)
    )


def _with_notes(record: RunRecord, *notes: str) -> RunRecord:
    return structs.replace(record, notes=(*record.notes, *notes))


def _undo_without_state(
    connection: Connection,
    caller: Caller,
    url: str,
    run: str,
    key: str,
    on_start: OnStart,
    on_event: OnEvent,
    error: StateError,
) -> RunRecord:
    cause = manual_way_back(state_directory(), run, error)
    with scratch_state(state_directory(), url) as (state, sources):
        if not sources:
            raise cause from error
        try:
            runs = _runs(connection, state, caller)
            _announce(runs.show(run), key, on_start)
            record = runs.undo(run, key, on_event=on_event)
        except BadInputError as unknown:
            raise unknown_run(unknown, cause) from error
    return _with_notes(
        _with_unexplained(connection, record, key),
        f"{error.message}; the keys of the run were read from {' and '.join(sources)}",
        f"this undo is not on record: run `sparekey undo {record.id}` again once the state can be written, or the "
        "run may continue where it stopped",
    )


def _with_unexplained(connection: Connection, record: RunRecord, key: str) -> RunRecord:
    """The record, with keys in doubt that are off although the ledger does not say that the run did it.

    So it is after an older backup was restored, or by a copy that lacks the end; but somebody else may have
    switched them off for a reason. A `key` that was named is held where the run has not deactivated it.
    """

    def is_asked(step: StepRecord) -> bool:
        return step.key == key and step.state in ("planned", "held") if key else step.state == "planned"

    overrides: dict[UserId, list[StepRecord]] = {}
    for step in filter(is_asked, record.steps):
        overrides.setdefault((step.account, step.user), []).append(step)
    doubtful: dict[str, str] = {}
    for (account, user), steps in islice(sorted(overrides.items()), _LISTED_AT_ONCE):
        try:
            off = _inactive(connection.account(account), user, steps[0].key)
        except (AwsError, RefusedError) as error:
            doubtful |= dict.fromkeys(
                (step.key for step in steps), f"whether it is off is not known: {error.message}"
            )
        else:
            doubtful |= dict.fromkeys(off & {step.key for step in steps}, _UNEXPLAINED_INACTIVE)
    unexplained = tuple(
        _doubtful_step(record, step, doubtful[step.key]) if is_asked(step) and step.key in doubtful else step
        for step in record.steps
    )
    more = len(overrides) - _LISTED_AT_ONCE
    notes = (f"{more} further users of the plan were not looked at",) if more > 0 else ()
    return _with_notes(structs.replace(record, steps=unexplained), *notes)


def _inactive(gateway: AccountGateway, user: str, key: str) -> set[str]:
    """The keys of a user that are off, whatever the user is called now; raises AwsError."""
    try:
        keys = gateway.list_keys(user)
    except NotFoundError:
        keys = gateway.list_keys(gateway.owner_of(key))
    return {key_.id for key_ in keys if key_.id and key_.status == INACTIVE}


def _doubtful_step(record: RunRecord, step: StepRecord, why: str) -> StepRecord:
    return structs.replace(
        step,
        state="in_doubt",
        why=why,
        release=f"if the run did (as before an older backup), its line in reverse/{record.id}.sh reactivates it",
    )
