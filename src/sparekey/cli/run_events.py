"""What happens in a run, said as it happens, and the exit code that a run comes to."""

from typing import TYPE_CHECKING

from sparekey.cli.options import message

if TYPE_CHECKING:
    from sparekey.app import LedgerEntry
    from sparekey.model import RunRecord

_TEXTS = {
    "already-inactive": "was inactive already",
    "confirmed": "read back, several readings agree",
    "failed": "failed",
    "foreign": "somebody else changed it",
    "gone": "is gone",
    "held": "held",
    "intent": "about to change it",
    "renamed": "its user was renamed",
    "not-reactivated": "NOT reactivated",
    "resolved": "read what became of it",
    "unseen": "AWS refused to show its user's keys",
    "unsure": "AWS's answer was lost: reading what became of it",
    "verdict": "the watch is over",
    "watching": "watched",
    "written": "AWS has taken the change",
}
_RUN_TEXTS = {
    "resumed": "the run goes on",
    "stopped": "the run is stopped: no further key is deactivated",
    "undoing": "undo requested",
}


def print_event(entry: "LedgerEntry") -> None:
    """Tell one entry of the ledger to stderr."""
    body = entry.body
    at = f"{entry.at:%H:%M:%S}"
    if entry.kind in _TEXTS:
        text = "not watched" if body.get("verdict") == "unwatched" else _TEXTS[entry.kind]
        why = f" ({body['why']})" if body.get("why") and entry.kind != "intent" else ""
        if entry.kind == "failed" and not body.get("final", True):
            text = "failed; it is tried again"
        message(f"{at}  {body['account']}  {body['user']}  {body['key']}: {text}{why}")
    elif entry.kind == "probed":
        color = {True: "green", False: "RED", None: "could not be asked"}[body.get("green")]
        message(f"{at}  probe {body['probe']}: {color}")
    elif entry.kind == "stumbled":
        message(f"{at}  worker {body['worker']} could not do its work: {body['why']}")
    elif entry.kind == "wave":
        message(f"{at}  wave {body.get('number', '')} begins")
    elif entry.kind == "waiting":
        message(f"{at}  no change window is open: the keys that are left wait until {body['until']}")
    elif entry.kind in _RUN_TEXTS:
        message(f"{at}  {_RUN_TEXTS[entry.kind]}")


def check_wait_or_detach(wait: bool, detach: bool) -> None:
    """--wait stays, --detach leaves."""
    from sparekey.errors import BadInputError

    if wait and detach:
        raise BadInputError("--wait and --detach say opposite things", "Stay with one, leave with the other.")


def run_exit_code(record: "RunRecord", *, handed_over: bool = False) -> int:
    """1 where a key is not where it should be, 3 where steps are held, else 0.

    Steps of a run that was handed over or stopped, or whose later waves wait for a watch, may be outstanding.
    """
    from sparekey.states import STEP_STATES

    states = {STEP_STATES[step.state] for step in record.steps}
    waits = handed_over or record.state in ("watching", "stopped")
    wrong = {state for state in states if state.group == "attention"}
    returning = {state for state in states if state.group == "reactivated" and state.phase != "ended"}
    unfinished = {state for state in states if state.phase in ("pending", "in_progress")}
    if wrong or returning or (unfinished and not waits):
        return 1
    return 3 if any(state.group == "held" for state in states) else 0
