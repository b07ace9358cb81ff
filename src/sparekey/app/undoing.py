"""Undo, whatever state the state is in."""

import os
from collections.abc import Callable
from contextlib import closing

from msgspec import structs

from sparekey.app.session import App
from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.errors import BadInputError
from sparekey.home import home
from sparekey.ledger import Entry, FencedError, SchemaError, StateError
from sparekey.model import INACTIVE, Caller, RunRecord, StepRecord
from sparekey.probes import Probes, Tools
from sparekey.run.copies import put_back
from sparekey.run.runs import Runs, check_key, check_run_id
from sparekey.run.salvage import scratch_state, unknown_run, way_by_hand
from sparekey.run.state import State

OnEvent = Callable[[Entry], None]
OnStart = Callable[[RunRecord], None]
# Of so many users it is asked whether a key is off that the ledger does not know to be off.
_LOOKED_AT = 200


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
            return _with_unexplained(app, _noted(record, *notes))
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
        record,
        f"{error.message}; the keys of the run were read from {' and '.join(sources)}",
        f"this undo is not on record: run `sparekey undo {record.id}` again once the state can be written, or the "
        "run may go on where it stood",
    )


def _with_unexplained(app: App, record: RunRecord) -> RunRecord:
    """The record, with keys in doubt that are off although the ledger does not say that the run did it.

    So it is after an older backup was restored; but somebody else may have switched them off for a reason.
    """
    planned = [step for step in record.steps if step.state == "planned"]
    users = sorted({(step.account, step.user) for step in planned})
    off: set[tuple[str, str, str]] = set()
    notes: list[str] = []
    for account, user in users[:_LOOKED_AT]:
        try:
            keys = app.account(account).list_keys(user)
            off |= {(account, user, key.id or "") for key in keys if key.status == INACTIVE}
        except NotFoundError:
            continue
        except AwsError as error:
            notes.append(
                f"whether keys of user {user} in account {account} are off is not known: {error.message}"
            )
    if len(users) > _LOOKED_AT:
        notes.append(f"{len(users) - _LOOKED_AT} further users of the plan were not looked at")
    steps = tuple(_in_doubt(record, step) if _id(step) in off else step for step in record.steps)
    return _noted(structs.replace(record, steps=steps), *notes)


def _id(step: StepRecord) -> tuple[str, str, str]:
    return step.account, step.user, step.key


def _in_doubt(record: RunRecord, step: StepRecord) -> StepRecord:
    if step.state != "planned":
        return step
    return structs.replace(
        step,
        state="in_doubt",
        why="AWS shows it Inactive, but the ledger does not say that this run deactivated it; it is left alone",
        release=f"if the run did (an older backup was restored), its line in reverse/{record.id}.sh reactivates it",
    )
