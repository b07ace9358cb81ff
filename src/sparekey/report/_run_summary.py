"""What the states of a run and of its steps mean to a person; shared by the formats that people read."""

from collections import Counter

from sparekey.formatting import number, plural
from sparekey.model import RunRecord, StepRecord, Value
from sparekey.states import STEP_STATES, Group


class SummarySection(Value, frozen=True):
    """The steps of a run that came to the same kind of end."""

    id: str
    title: str
    text: str
    tone: str
    steps: tuple[StepRecord, ...]


_SECTIONS: tuple[tuple[Group, str, str, str], ...] = (
    (
        "attention",
        "Needs a person",
        "These steps failed, or it is not known whether AWS acted. Resuming the run reads AWS again.",
        "bad",
    ),
    (
        "deactivated",
        "Deactivated",
        "These keys were made inactive; the key that is kept was active in a listing just before.",
        "good",
    ),
    (
        "rotating",
        "Being rotated",
        "A new key exists, or is being created; the old key is active until its applications have moved.",
        "plain",
    ),
    ("deleted", "Deleted", "This run deactivated these keys, and a person deleted them since.", "plain"),
    (
        "reactivated",
        "Reactivated",
        "These keys were made inactive and are active again, or about to be.",
        "warn",
    ),
    (
        "held",
        "Held",
        "These keys were left unchanged; each step has its reason and what would release it.",
        "plain",
    ),
    (
        "unchanged",
        "Not changed",
        "This run has not changed these keys, or somebody else has changed them since.",
        "plain",
    ),
)


def sections(record: RunRecord) -> tuple[SummarySection, ...]:
    """A run's steps by what became of them, what needs a person first; empty parts too."""
    return tuple(
        SummarySection(
            group,
            title,
            text,
            tone,
            tuple(step for step in record.steps if STEP_STATES[step.state].group == group),
        )
        for group, title, text, tone in _SECTIONS
    )


def summary(record: RunRecord) -> str:
    """A run in one sentence."""
    count = Counter({part.id: len(part.steps) for part in sections(record)})
    texts = [
        f"{number(count[id_])} {text}"
        for id_, text in (
            ("attention", "in need of a person"),
            ("rotating", "being rotated"),
            ("reactivated", "reactivated"),
            ("held", "held"),
            ("unchanged", "not changed"),
        )
        if count[id_]
    ]
    return ", ".join([f"{plural(count['deactivated'], 'access key')} inactive", *texts])
