"""What the states of a step and of a run mean: one table that the command line, console and reports read.

A state's `label` is what a person reads, everywhere the same; `tone` is how a page colours it.
"""

from collections.abc import Mapping
from typing import Literal

from sparekey.model import RunState, StepState, Value

Group = Literal["attention", "deactivated", "deleted", "reactivated", "rotating", "held", "unchanged"]
# pending: not started, or left to a person; in_progress: a worker writes or verifies; watching: a worker monitors it.
Phase = Literal["pending", "in_progress", "watching", "ended"]
Tone = Literal["wait", "done", "off", "back", "bad", "warn", "held"]


class StepStateInfo(Value, frozen=True):
    """One state of a step.

    `handed_over`: a new key may have been published in its place, and an undo takes that back.
    `may_be_inactive`: the key is, or may be, Inactive in AWS because of the run, so that an undo concerns it.
    """

    label: str
    group: Group
    phase: Phase
    tone: Tone
    may_be_inactive: bool = False
    handed_over: bool = False

    @property
    def undoable(self) -> bool:
        """True where a person may undo it: the key may be inactive, or its handover has started."""
        return (self.may_be_inactive and self.group != "reactivated") or self.handed_over


class RunStateInfo(Value, frozen=True):
    """One state of a run; `ended`: no worker has anything left to do for it."""

    label: str
    tone: Tone
    ended: bool = False


STEP_STATES: Mapping[StepState, StepStateInfo] = {
    "planned": StepStateInfo("planned", "unchanged", "pending", "wait"),
    "held": StepStateInfo("held", "held", "ended", "held"),
    "already_inactive": StepStateInfo("already inactive", "unchanged", "ended", "off"),
    "gone": StepStateInfo("no longer exists", "unchanged", "ended", "off"),
    "in_doubt": StepStateInfo("outcome unknown", "attention", "in_progress", "wait", may_be_inactive=True),
    "applied": StepStateInfo(
        "deactivated, verifying", "deactivated", "in_progress", "wait", may_be_inactive=True
    ),
    "confirmed": StepStateInfo("deactivated", "deactivated", "in_progress", "done", may_be_inactive=True),
    "watching": StepStateInfo(
        "deactivated, being watched", "deactivated", "watching", "done", may_be_inactive=True
    ),
    "settled": StepStateInfo("deactivated, settled", "deactivated", "ended", "done", may_be_inactive=True),
    "unwatched": StepStateInfo(
        "deactivated, not watched", "deactivated", "ended", "off", may_be_inactive=True
    ),
    "reactivating": StepStateInfo("reactivating", "reactivated", "in_progress", "wait", may_be_inactive=True),
    "rolled_back": StepStateInfo("rolled back", "reactivated", "ended", "back"),
    "rollback_failed": StepStateInfo(
        "ROLLBACK FAILED, still inactive", "attention", "watching", "bad", may_be_inactive=True
    ),
    "undone": StepStateInfo("reactivated", "reactivated", "ended", "back"),
    "changed": StepStateInfo("changed externally", "unchanged", "ended", "warn"),
    "failed": StepStateInfo("failed", "attention", "ended", "bad", may_be_inactive=True),
    "creating": StepStateInfo("creating the new key", "rotating", "in_progress", "wait", handed_over=True),
    "stored": StepStateInfo(
        "new key stored, not usable yet", "rotating", "in_progress", "wait", handed_over=True
    ),
    "usable": StepStateInfo(
        "new key usable, publishing", "rotating", "in_progress", "wait", handed_over=True
    ),
    "moving": StepStateInfo(
        "new key published, applications moving", "rotating", "watching", "wait", handed_over=True
    ),
    "stalled": StepStateInfo(
        "STALLED, applications have not moved", "attention", "watching", "warn", handed_over=True
    ),
    "moved": StepStateInfo(
        "applications moved, deactivating", "rotating", "in_progress", "wait", handed_over=True
    ),
    "reverting": StepStateInfo("reverting the handover", "rotating", "in_progress", "wait"),
    "reverted": StepStateInfo("handover reverted", "unchanged", "ended", "back"),
    "orphaned": StepStateInfo("NEW KEY LOST, deactivated", "attention", "ended", "bad"),
    "deleting": StepStateInfo("deleting", "attention", "pending", "wait"),
    "deleted": StepStateInfo("deleted", "deleted", "ended", "off"),
}

RUN_STATES: Mapping[RunState, RunStateInfo] = {
    "applying": RunStateInfo("in progress", "wait"),
    "waiting": RunStateInfo("waiting for a change window", "wait"),
    "stopped": RunStateInfo("stopped", "warn"),
    "moving": RunStateInfo("waiting for applications to move", "wait"),
    "watching": RunStateInfo("watching", "done"),
    "settled": RunStateInfo("settled", "done", ended=True),
    "unwatched": RunStateInfo("done, not watched", "warn", ended=True),
    "rolled_back": RunStateInfo("rolled back", "bad", ended=True),
    "rollback_failed": RunStateInfo("rollback failed", "bad"),
    "undone": RunStateInfo("undone", "back", ended=True),
    "failed": RunStateInfo("failed", "bad"),
}


# Why a key is not watched, where that was known before it was deactivated; every other reason is a lost watch.
WATCH_NOT_ASKED = "it was asked not to watch"
NO_PROBE = "no health probe covers this user; a breakage would not be detected"
NEVER_WATCHED = frozenset({WATCH_NOT_ASKED, NO_PROBE})


def step_label(state: StepState) -> str:
    """What became of a key, in words."""
    return STEP_STATES[state].label
