"""Consumers over time, one line each on one common axis: one key fades out and the other fades in."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta

from sparekey.model import Consumer, Usage, Value

# Never empty for a day with calls, and each step is shown by height, not by colour.
_STEPS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"


class TimelineRow(Value, frozen=True):
    """One consumer of one key: `bar` has one character for each slice of time, from `first` on."""

    key: str
    agent: str
    source: str
    services: tuple[str, ...]
    calls: int
    bar: str


class Timeline(Value, frozen=True):
    """Lines by key and then by last call, newest first; `first` and `last` are the days at both ends."""

    first: date | None
    last: date | None
    days_each: int
    lines: tuple[TimelineRow, ...]


def make_timeline(usages: Iterable[Usage], width: int = 48) -> Timeline:
    """The consumers of several keys on one axis of at most `width` slices of whole days."""
    pairs = [(usage.key, consumer) for usage in usages for consumer in usage.consumers]
    days = [day for _, consumer in pairs for use in consumer.uses for day, _ in use.daily]
    if not days:
        return Timeline(None, None, 1, ())
    first, last = min(days), max(days)
    each = -(-((last - first).days + 1) // width)
    slices = -(-((last - first).days + 1) // each)
    pairs.sort(key=lambda entry: (entry[0], -entry[1].last_seen.timestamp(), entry[1].agent, entry[1].source))
    lines = tuple(_line(key, consumer, first, each, slices) for key, consumer in pairs)
    return Timeline(first, first + timedelta(days=slices * each - 1), each, lines)


def _line(key: str, consumer: Consumer, first: date, each: int, slices: int) -> TimelineRow:
    calls: dict[int, int] = defaultdict(int)
    for use in consumer.uses:
        for day, number in use.daily:
            calls[(day - first).days // each] += number
    most = max(calls.values(), default=1)
    bar = "".join(
        _STEPS[(calls[at] * len(_STEPS) - 1) // most] if calls.get(at) else _NOTHING for at in range(slices)
    )
    services = tuple(sorted({use.service for use in consumer.uses}))
    return TimelineRow(key, consumer.agent, consumer.source, services, consumer.calls, bar)
