"""The events of a run as lines on stderr, and the exit code of a run."""

from typing import TYPE_CHECKING, Any

from sparekey.cli.output import message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sparekey.app import Connection, LedgerEntry, OutageMessage
    from sparekey.cli.secondary_output import SecondaryOutput
    from sparekey.model import RunRecord

_TEXTS = {
    "already-inactive": "was already Inactive",
    "failed": "failed",
    "foreign": "changed externally",
    "gone": "no longer exists",
    "held": "held",
    "renamed": "its user was renamed",
    "not-reactivated": "NOT reactivated",
    "resolved": "outcome read from AWS",
    "unseen": "AWS refused to list its user's keys",
    "unsure": "AWS's response was lost; reading the outcome",
    "verdict": "watch ended",
    "watching": "watching",
}
_RUN_TEXTS = {
    "resumed": "run resumed",
    "stopped": "run stopped; no further key is deactivated",
    "undoing": "undo requested",
}


def _key_text(kind: str, body: "Mapping[str, Any]") -> str:
    """What happened to a key; empty for an entry that is not shown."""
    is_off = body.get("status") == "Inactive"
    match kind:
        case "intent":
            return "deactivating …" if is_off else "reactivating …"
        case "written":
            return f"{'deactivated' if is_off else 'reactivated'}, verifying …"
        case "confirmed":
            return f"confirmed {body['status']} ({body['reads']} consistent reads)"
        case "failed" if not body.get("final", True):
            return "failed; retrying"
        case "verdict" if body.get("verdict") == "unwatched":
            return "not watched"
        case _:
            return _TEXTS.get(kind, "")


def print_event(entry: "LedgerEntry") -> None:
    """Print one entry of the ledger to stderr."""
    body = entry.body
    at = f"{entry.at:%H:%M:%S}"
    if text := _key_text(entry.kind, body):
        why = f" ({body['why']})" if body.get("why") and entry.kind != "intent" else ""
        message(f"{at}  {body['account']}  {body['user']}  {body['key']}: {text}{why}")
    elif entry.kind == "probed":
        health = {True: "healthy", False: "UNHEALTHY", None: "unknown"}[body.get("green")]
        message(f"{at}  probe {body['probe']}: {health}")
    elif entry.kind == "stumbled":
        message(f"{at}  worker {body['worker']} failed: {body['why']}")
    elif entry.kind == "wave":
        message(f"{at}  wave {body.get('number', '')} starts")
    elif entry.kind == "waiting":
        message(f"{at}  no change window is open: the remaining keys wait until {body['until']}")
    elif entry.kind in _RUN_TEXTS:
        message(f"{at}  {_RUN_TEXTS[entry.kind]}")


def emergency_reporter(
    aside: "SecondaryOutput", connection: "Connection", targets: tuple[str, ...] = ()
) -> "Callable[[OutageMessage], None]":
    """A function that prints and sends, beside the work, that the state cannot be used or can be again."""
    from sparekey import app

    def report(what: "OutageMessage") -> None:
        message(what.text)
        failures = app.notify_of_state(connection, what, targets)
        message(*(f"not notified: {failed.target}: {failed.why}" for failed in failures))

    return lambda what: aside.call_later(lambda: report(what))


def check_wait_or_detach(wait: bool, detach: bool) -> None:
    """Raise BadInputError where both are given."""
    from sparekey.errors import BadInputError

    if wait and detach:
        raise BadInputError(
            "--wait and --detach contradict each other",
            "Use --wait to wait until the watch ends, or --detach to return at once.",
        )


def run_exit_code(record: "RunRecord", *, handed_over: bool = False, fail_on_held: bool = False) -> int:
    """1 where a key is not where it should be, 3 where steps are held and that is to be a failure, else 0.

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
    return 3 if fail_on_held and any(state.group == "held" for state in states) else 0
