"""The events of a run on stderr, and the exit code of a run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparekey.cli.output import message, notice
from sparekey.cli.secondary_output import SecondaryOutput
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sparekey.app import Connection, LedgerEntry, OutageMessage
    from sparekey.cli.progress import Progress
    from sparekey.model import RunRecord

_TEXTS = {
    "created": "new key created and stored",
    "moved": "applications moved",
    "not-created": "no new key",
    "orphan-inactive": "the new key is Inactive",
    "orphaned": "NEW KEY LOST",
    "published": "new key published",
    "reverted": "handover reverted",
    "reverting": "reverting the handover …",
    "rotation": "creating a new key …",
    "usable": "AWS takes the new key",
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
# What went wrong, by the kind of an entry as the ledger stores it.
_ATTENTION = frozenset({"orphaned", "failed", "foreign", "not-reactivated", "stumbled", "unseen", "unsure"})
# With more keys than this, a terminal gets a bar instead of a line for each step.
_LINES_UP_TO = 10


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
        case "move-checked":
            return (
                "STALLED, applications have not moved" if body.get("stalled") else "applications are moving"
            )
        case "verdict" if body.get("verdict") == "unwatched":
            return "not watched"
        case _:
            return _TEXTS.get(kind, "")


def event_text(entry: "LedgerEntry") -> str:
    """What an entry of the ledger means, in one line without a time; empty for one that is not shown."""
    body = entry.body
    if text := _key_text(entry.kind, body):
        # Why a key is deactivated is in the plan; why it is reactivated, nowhere else.
        known = entry.kind == "intent" and body.get("status") == "Inactive"
        why = f" ({body['why']})" if body.get("why") and not known else ""
        return f"{body['account']}  {body['user']}  {body['key']}: {text}{why}"
    match entry.kind:
        case "opened":
            return f"run {entry.run} started"
        case "probed":
            health = {True: "healthy", False: "UNHEALTHY", None: "unknown"}[body.get("green")]
            return f"probe {body['probe']}: {health}"
        case "stumbled":
            return f"worker {body['worker']} failed: {body['why']}"
        case "wave":
            return f"wave {body.get('number', '')} starts"
        case "waiting":
            return f"no change window is open: the remaining keys wait until {body['until']}"
        case kind:
            return _RUN_TEXTS.get(kind, "")


def is_detail(entry: "LedgerEntry") -> bool:
    """True of what only --verbose shows: that a write was answered, or that a key is not watched, as was known."""
    from sparekey.states import NEVER_WATCHED

    never = entry.body.get("verdict") == "unwatched" and entry.body.get("why") in NEVER_WATCHED
    return entry.kind == "written" or never


def needs_attention(entry: "LedgerEntry") -> bool:
    """True of what went wrong: a failure, an unhealthy probe, a watch that was lost."""
    unhealthy = entry.kind == "probed" and entry.body.get("green") is False
    lost = entry.body.get("verdict") == "unwatched" and not is_detail(entry)
    return entry.kind in _ATTENTION or unhealthy or lost


def print_event(entry: "LedgerEntry") -> None:
    """Print one entry of the ledger to stderr; --quiet leaves out only what needs no attention."""
    if (text := event_text(entry)) and (VERBOSITY.level > 0 or not is_detail(entry)):
        (message if needs_attention(entry) else notice)(f"{entry.at:%H:%M:%S}Z  {text}")


class RunEvents:
    """Prints the events of a run as they come, and knows how far it got.

    On a terminal a run of more than ten keys gets a bar, and lines only for what went wrong; --verbose has all lines.
    """

    def __init__(self, keys: int) -> None:
        self.run, self.confirmed, self.keys = "", 0, keys
        self._bar: Progress | None = None

    @contextmanager
    def shown(self) -> "Iterator[RunEvents]":
        """Show events beside the block; raises KeyboardInterrupt as it comes."""
        from sparekey.cli.progress import Progress

        if self.keys > _LINES_UP_TO and sys.stderr.isatty() and VERBOSITY.level == 0:
            with Progress("keys confirmed Inactive", quiet=0.0) as self._bar:
                self._bar.update(0, self.keys)
                yield self
        else:
            yield self

    def __call__(self, entry: "LedgerEntry") -> None:
        """Print an entry."""
        self.run = entry.run
        if entry.kind == "confirmed" and entry.body["status"] == "Inactive":
            self.confirmed += 1
        if self._bar is None or "key" not in entry.body or entry.kind == "held" or needs_attention(entry):
            print_event(entry)
        if self._bar is not None:
            self._bar.update(self.confirmed, self.keys)

    def interrupted(self, continue_with: str) -> None:
        """Print how far the run got, how to continue it and how to revert it."""
        if not self.run:
            message("Interrupted before the run started. Nothing was changed.")
            return
        message(
            f"Interrupted: {self.confirmed} of {self.keys} keys are confirmed Inactive; no further key is deactivated.",
            f"  Continue: {continue_with}",
            f"  Undo:     sparekey undo {self.run}",
            f"  Details:  sparekey show {self.run}",
        )


@contextmanager
def following(
    connection: "Connection", keys: int, continue_with: str, targets: tuple[str, ...] = ()
) -> "Iterator[tuple[RunEvents, Callable[[OutageMessage], None]]]":
    """Show the events of a run beside the block, and report outages of the state; both are given to the block.

    Ctrl-C says how far the run got, and that `continue_with` continues it.
    """
    aside, events = SecondaryOutput(), RunEvents(keys)
    try:
        with aside.running(), events.shown():
            yield events, emergency_reporter(aside, connection, targets)
    except KeyboardInterrupt:
        events.interrupted(continue_with)
        raise


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
