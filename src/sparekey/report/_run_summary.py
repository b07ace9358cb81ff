"""What the states of a run and of its steps mean to a person; shared by the formats that people read."""

from collections import Counter
from collections.abc import Mapping

from sparekey.formatting import number, plural
from sparekey.model import RunRecord, RunState, StepRecord, StepState, Value

VERDICTS: Mapping[RunState, tuple[str, str]] = {
    "applying": ("UNDER WAY", "plain"),
    "waiting": ("WAITING FOR A WINDOW", "plain"),
    "stopped": ("STOPPED", "warn"),
    "watching": ("WATCHING", "plain"),
    "settled": ("SETTLED", "good"),
    "unwatched": ("DONE, UNWATCHED", "warn"),
    "rolled_back": ("ROLLED BACK", "bad"),
    "rollback_failed": ("ROLLBACK FAILED", "bad"),
    "undone": ("UNDONE", "plain"),
    "failed": ("FAILED", "bad"),
}


class SummarySection(Value, frozen=True):
    """The steps of a run that came to the same kind of end."""

    id: str
    title: str
    text: str
    tone: str
    steps: tuple[StepRecord, ...]


_SECTIONS: tuple[tuple[str, str, str, str, frozenset[StepState]], ...] = (
    (
        "attention",
        "Needs a person",
        "These steps failed, or it is not known whether AWS acted. Resuming the run reads AWS again.",
        "bad",
        frozenset({"failed", "rollback_failed", "in_doubt", "deleting"}),
    ),
    (
        "done",
        "Deactivated",
        "These keys were made inactive; the key that stays was active in a listing just before.",
        "good",
        frozenset({"applied", "confirmed", "watching", "settled", "unwatched"}),
    ),
    (
        "deleted",
        "Deleted",
        "These keys were retired by this run and deleted by hand since.",
        "plain",
        frozenset({"deleted"}),
    ),
    (
        "back",
        "Put back",
        "These keys were made inactive and are active again, or about to be.",
        "warn",
        frozenset({"reactivating", "rolled_back", "undone"}),
    ),
    (
        "held",
        "Held",
        "These keys were left alone, for a reason; each says what would release it.",
        "plain",
        frozenset({"held"}),
    ),
    (
        "alone",
        "Not ours, or not yet",
        "These keys were not changed by this run, or somebody else has changed them since.",
        "plain",
        frozenset({"planned", "already_inactive", "gone", "changed"}),
    ),
)


def sections(record: RunRecord) -> tuple[SummarySection, ...]:
    """A run's steps by what became of them, what needs a person first; empty parts too."""
    return tuple(
        SummarySection(id_, title, says, tone, tuple(step for step in record.steps if step.state in states))
        for id_, title, says, tone, states in _SECTIONS
    )


def summary(record: RunRecord) -> str:
    """A run in one sentence."""
    count = Counter({part.id: len(part.steps) for part in sections(record)})
    texts = [
        f"{number(count[id_])} {text}"
        for id_, text in (
            ("attention", "in need of a person"),
            ("back", "put back"),
            ("held", "held"),
            ("alone", "not changed by it"),
        )
        if count[id_]
    ]
    return ", ".join([f"{plural(count['done'], 'access key')} inactive", *texts])
