"""Have the consumers of one key moved to another? Pure; without a usage source the answer is no."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from sparekey.model import AccessKey, Evidence, Usage, Value
from sparekey.policy import Policy

NotMovedReason = Literal["no-usage", "recent-use", "source-blind", "usage-partial", "not-moved", "gap"]


class Moved(Value, frozen=True, tag="moved"):
    """Every consumer has moved."""

    why: str
    evidence: tuple[Evidence, ...] = ()


class NotMoved(Value, frozen=True, tag="not-moved"):
    """Not shown to have moved; `release` says what would show it."""

    reason: NotMovedReason
    why: str
    release: str
    evidence: tuple[Evidence, ...] = ()


def moved(
    old: AccessKey, kept: AccessKey, usages: Mapping[str, Usage], policy: Policy, now: datetime
) -> Moved | NotMoved:
    """Say whether the consumers of `old` have moved to `kept`."""
    del usages, policy, now
    return NotMoved(
        "no-usage",
        f"still in use beside {kept.id}: no usage source says who uses {old.id}",
        "see who uses it and whether they have moved (plan --usage), or --force it",
    )
