"""Where the marks of a key's timeline stand: pure geometry; the template draws it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from sparekey.model import AccessKey, Consumer, Usage, Value

WIDTH, HEIGHT = 1000, 16
_LONGEST, _SHORTEST = timedelta(days=400), timedelta(days=30)
_STRENGTHS = (0.3, 0.5, 0.75, 1.0)


class UseMark(Value, frozen=True):
    """One day with calls: where it stands, how wide it is, how strong."""

    x: float
    width: float
    strength: float


class ConsumerLane(Value, frozen=True):
    """One consumer's days; `text` says them."""

    consumer: Consumer
    marks: tuple[UseMark, ...]
    text: str


class UnreadSpan(Value, frozen=True):
    """A part of the axis of which no usage was read: where it stands and how wide it is."""

    x: float
    width: float


class KeyTimeline(Value, frozen=True):
    """One key: when it was created and last used, and its consumers' days; `text` says it.

    `clipped` where it was created before the axis begins; `used` is None where no use is known.
    """

    key: str
    born: float
    clipped: bool
    used: float | None
    ticks: tuple[date, ...]
    lanes: tuple[ConsumerLane, ...]
    text: str
    unread: tuple[UnreadSpan, ...] = ()


def timelines(
    keys: Iterable[AccessKey], usages: Mapping[str, Usage], now: datetime
) -> dict[str, KeyTimeline]:
    """Lay out a user's keys on one axis, by id; a key whose creation was not read has none."""
    dated = [(key.id, key.created, key.last_used.at) for key in keys if key.id and key.created]
    if not dated:
        return {}
    start = max(now - _LONGEST, min(now - _SHORTEST, *(created for _, created, _ in dated)))
    axis = TimeAxis(start, now)
    return {
        key: KeyTimeline(
            key=key,
            born=axis.x(created),
            clipped=created < start,
            used=axis.x(used) if used else None,
            ticks=axis.ticks(),
            lanes=tuple(_consumer_lane(consumer, axis) for consumer in usages[key].consumers)
            if key in usages
            else (),
            text=_summary(created, used, start, now),
            unread=_unread_spans(usages.get(key), axis),
        )
        for key, created, used in dated
    }


def _unread_spans(usage: Usage | None, axis: "TimeAxis") -> tuple[UnreadSpan, ...]:
    """What lies before and after the window that was read; all of the axis where nothing was."""
    if usage is None:
        return (UnreadSpan(0.0, float(WIDTH)),)
    first = axis.x(usage.since) if usage.since else 0.0
    last = axis.x(usage.until) if usage.until else float(WIDTH)
    spans = (UnreadSpan(0.0, first), UnreadSpan(last, round(WIDTH - last, 1)))
    # Less than a day shows as nothing.
    return tuple(span for span in spans if span.width >= axis.day)


def _summary(created: datetime, used: datetime | None, start: datetime, now: datetime) -> str:
    last = f"last used {used:%Y-%m-%d}" if used else "no use known"
    return f"Created {created:%Y-%m-%d}, {last}; the axis runs from {start:%Y-%m-%d} to {now:%Y-%m-%d}"


class TimeAxis:
    def __init__(self, start: datetime, end: datetime) -> None:
        self._start, self._length = start, end - start
        self.day = max(3.0, round(WIDTH * (timedelta(days=1) / self._length), 1))

    def x(self, at: datetime) -> float:
        return round(WIDTH * min(1.0, max(0.0, (at - self._start) / self._length)), 1)

    def ticks(self) -> tuple[date, ...]:
        """Three dates: the first day, the middle and now."""
        return tuple((self._start + self._length * part / 2).date() for part in range(3))


def _consumer_lane(consumer: Consumer, axis: TimeAxis) -> ConsumerLane:
    days: Counter[date] = Counter()
    for use in consumer.uses:
        for day, calls in use.daily or ((use.last_seen.date(), use.calls),):
            days[day] += calls
    most = max(days.values(), default=1)
    marks = tuple(
        UseMark(
            x=min(axis.x(datetime(day.year, day.month, day.day, tzinfo=UTC)), WIDTH - axis.day),
            width=axis.day,
            strength=_STRENGTHS[min(3, 4 * calls // (most + 1))],
        )
        for day, calls in sorted(days.items())
    )
    first, last = consumer.first_seen.date(), consumer.last_seen.date()
    return ConsumerLane(
        consumer, marks, f"{consumer.calls:,} calls on {len(days)} days from {first} to {last}"
    )
