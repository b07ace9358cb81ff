"""What happens in a run, said as it happens, and the exit code that a run comes to."""

from typing import TYPE_CHECKING

from sparekey.cli.options import tell

if TYPE_CHECKING:
    from sparekey.app import Entry
    from sparekey.model import RunRecord

_SAID = {
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
_OF_RUN = {
    "resumed": "the run goes on",
    "stopped": "the run is stopped: no further key is deactivated",
    "undoing": "undo requested",
}
_WRONG = frozenset({"failed", "in_doubt", "reactivating", "rollback_failed"})
_NOT_YET = frozenset({"applied", "planned"})


def say(entry: "Entry") -> None:
    """Tell one entry of the ledger to stderr."""
    told = entry.body
    at = f"{entry.at:%H:%M:%S}"
    if entry.kind in _SAID:
        said = "not watched" if told.get("verdict") == "unwatched" else _SAID[entry.kind]
        why = f" ({told['why']})" if told.get("why") and entry.kind != "intent" else ""
        if entry.kind == "failed" and not told.get("final", True):
            said = "failed; it is tried again"
        tell(f"{at}  {told['account']}  {told['user']}  {told['key']}: {said}{why}")
    elif entry.kind == "probed":
        color = {True: "green", False: "RED", None: "could not be asked"}[told.get("green")]
        tell(f"{at}  probe {told['probe']}: {color}")
    elif entry.kind == "stumbled":
        tell(f"{at}  worker {told['worker']} could not do its work: {told['why']}")
    elif entry.kind == "wave":
        tell(f"{at}  wave {told.get('number', '')} begins")
    elif entry.kind == "waiting":
        tell(f"{at}  no change window is open: the keys that are left wait until {told['until']}")
    elif entry.kind in _OF_RUN:
        tell(f"{at}  {_OF_RUN[entry.kind]}")


def refuse_both(wait: bool, detach: bool) -> None:
    """--wait stays, --detach leaves."""
    from sparekey.errors import BadInputError

    if wait and detach:
        raise BadInputError("--wait and --detach say opposite things", "Stay with one, leave with the other.")


def run_exit_code(record: "RunRecord", *, handed_over: bool = False) -> int:
    """1 where a key is not where it should be, 3 where steps are held, else 0.

    Steps of a run that was handed over or stopped, or whose later waves wait for a watch, may be outstanding.
    """
    states = {step.state for step in record.steps}
    waits = handed_over or record.state in ("watching", "stopped")
    if states & _WRONG or (states & _NOT_YET and not waits):
        return 1
    return 3 if "held" in states else 0
