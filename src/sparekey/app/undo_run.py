"""Undo, whatever state the state is in."""

import os
from collections.abc import Callable
from contextlib import closing
from itertools import islice

from msgspec import structs

from sparekey.app.connection import App
from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.gateway import AccountGateway
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.copies import put_back
from sparekey.ledger.store import Entry, FencedError, SchemaError, StateError
from sparekey.model import INACTIVE, Caller, RunRecord, StepRecord
from sparekey.probes import Probes, Tools
from sparekey.revalidation import UserId
from sparekey.runs.salvage import scratch_state, unknown_run, way_by_hand
from sparekey.runs.service import Runs, check_key, check_run_id
from sparekey.runs.storage import State
from sparekey.settings import home

OnEvent = Callable[[Entry], None]
OnStart = Callable[[RunRecord], None]
# Of so many users it is asked whether a key is off that the ledger does not know to be off.
_LOOKED_AT = 200
_UNEXPLAINED = (
    "AWS shows it Inactive, but the ledger does not say that this run deactivated it; it is left alone"
)


def undo(
    app: App,
    run: str,
    *,
    key: str = "",
    on_start: OnStart = lambda _record: None,
    on_event: OnEvent = lambda _entry: None,
) -> RunRecord:
    """Reactivate what a run deactivated, all of it or one key; never waits for anything.

    `on_start` gets the run as it is before anything is done.
    Where the state cannot be read or written, by what is known of the run without it: then nothing is put on
    record, and a note says so. Raises StateError where nothing is known of the run.
    """
    check_run_id(run)
    caller = app.gateway.caller()
    url = os.environ.get("SPAREKEY_DATABASE_URL", "")
    try:
        with closing(State(home(), url)) as state:
            notes = tuple(put_back(state.ledger, state.copies, run))
            runs = _runs(app, state, caller)
            _refuse_forgotten(runs, run)
            _announce(runs.show(run), key, on_start)
            record = runs.undo(run, key, on_event=on_event)
            return _with_unexplained(app, _noted(record, *notes), key)
    except (FencedError, SchemaError):
        raise
    except StateError as error:
        return _undo_without_state(app, caller, url, run, key, on_start, on_event, error)


def _announce(record: RunRecord, key: str, on_start: OnStart) -> None:
    check_key(record.id, key, record.steps)
    on_start(record)


def _refuse_forgotten(runs: Runs, run: str) -> None:
    """Name the way by hand where the ledger does not know a run that was begun here."""
    try:
        runs.find(run)
    except BadInputError as error:
        by_hand = way_by_hand(home(), run, StateError(f"{error.message} in the ledger", error.hint))
        if by_hand.hint == error.hint:
            raise
        raise BadInputError(by_hand.message, by_hand.hint) from error


def _runs(app: App, state: State, caller: Caller) -> Runs:
    probes = Probes(Tools(os.environ, app.gateway.alarm_state))
    return Runs(state, app.clock, app.account, caller, probes=probes)


def _noted(record: RunRecord, *notes: str) -> RunRecord:
    return structs.replace(record, notes=(*record.notes, *notes))


def _undo_without_state(
    app: App,
    caller: Caller,
    url: str,
    run: str,
    key: str,
    on_start: OnStart,
    on_event: OnEvent,
    error: StateError,
) -> RunRecord:
    cause = way_by_hand(home(), run, error)
    with scratch_state(home(), url) as (state, sources):
        if not sources:
            raise cause from error
        try:
            runs = _runs(app, state, caller)
            _announce(runs.show(run), key, on_start)
            record = runs.undo(run, key, on_event=on_event)
        except BadInputError as unknown:
            raise unknown_run(unknown, cause) from error
    return _noted(
        _with_unexplained(app, record, key),
        f"{error.message}; the keys of the run were read from {' and '.join(sources)}",
        f"this undo is not on record: run `sparekey undo {record.id}` again once the state can be written, or the "
        "run may go on where it stood",
    )


def _with_unexplained(app: App, record: RunRecord, key: str) -> RunRecord:
    """The record, with keys in doubt that are off although the ledger does not say that the run did it.

    So it is after an older backup was restored, or by a copy that lacks the end; but somebody else may have
    switched them off for a reason. A `key` that was named is held where the run has not deactivated it.
    """

    def is_asked(step: StepRecord) -> bool:
        return step.key == key and step.state in ("planned", "held") if key else step.state == "planned"

    asked: dict[UserId, list[StepRecord]] = {}
    for step in filter(is_asked, record.steps):
        asked.setdefault((step.account, step.user), []).append(step)
    doubtful: dict[str, str] = {}
    for (account, user), steps in islice(sorted(asked.items()), _LOOKED_AT):
        try:
            off = _inactive(app.account(account), user, steps[0].key)
        except (AwsError, RefusedError) as error:
            doubtful |= dict.fromkeys(
                (step.key for step in steps), f"whether it is off is not known: {error.message}"
            )
        else:
            doubtful |= dict.fromkeys(off & {step.key for step in steps}, _UNEXPLAINED)
    found = tuple(
        _in_doubt(record, step, doubtful[step.key]) if is_asked(step) and step.key in doubtful else step
        for step in record.steps
    )
    more = len(asked) - _LOOKED_AT
    notes = (f"{more} further users of the plan were not looked at",) if more > 0 else ()
    return _noted(structs.replace(record, steps=found), *notes)


def _inactive(gateway: AccountGateway, user: str, key: str) -> set[str]:
    """The keys of a user that are off, whatever the user is called now; raises AwsError."""
    try:
        keys = gateway.list_keys(user)
    except NotFoundError:
        keys = gateway.list_keys(gateway.owner_of(key))
    return {found.id for found in keys if found.id and found.status == INACTIVE}


def _in_doubt(record: RunRecord, step: StepRecord, why: str) -> StepRecord:
    return structs.replace(
        step,
        state="in_doubt",
        why=why,
        release=f"if the run did (as before an older backup), its line in reverse/{record.id}.sh reactivates it",
    )
