"""Where the marks of a key's timeline stand: pure geometry; the template draws it."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

from sparekey.model import AccessKey, Consumer, Usage, Value

WIDTH = 720
_LEFT, _RIGHT = 4, 4
_LONGEST = timedelta(days=400)
_FADED = (0.25, 0.5, 0.75, 1.0)


class Mark(Value, frozen=True):
    """One day with calls: where it stands, how wide it is, how strong, and its text."""

    x: float
    width: float
    strength: float
    text: str


class Lane(Value, frozen=True):
    """One consumer's days."""

    consumer: Consumer
    marks: tuple[Mark, ...]


class Tick(Value, frozen=True):
    """A date under the axis."""

    x: float
    text: str
    anchor: str


class Timeline(Value, frozen=True):
    """One key from `start` to `end`: when it was created and last used, and its consumers' days."""

    key: str
    start: datetime
    end: datetime
    born: float
    clipped: bool
    used: float | None
    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]


def timeline(key: AccessKey, usage: Usage | None, now: datetime) -> Timeline | None:
    """Lay out one key; None where its creation was not read."""
    if key.created is None or key.id is None:
        return None
    start = max(now - _LONGEST, min(key.created, now - timedelta(days=30)))
    scale = _Scale(start, now)
    used = key.last_used.at
    return Timeline(
        key=key.id,
        start=start,
        end=now,
        born=scale.x(key.created),
        clipped=key.created < start,
        used=scale.x(used) if used else None,
        ticks=scale.ticks(),
        lanes=tuple(Lane(consumer, _marks(consumer, scale)) for consumer in usage.consumers) if usage else (),
    )


class _Scale:
    def __init__(self, start: datetime, end: datetime) -> None:
        self._start = start
        self._seconds = (end - start).total_seconds()
        self.day = max(2.0, round((WIDTH - _LEFT - _RIGHT) * 86400 / self._seconds, 1))

    def x(self, at: datetime) -> float:
        share = (at - self._start).total_seconds() / self._seconds
        return round(_LEFT + min(1.0, max(0.0, share)) * (WIDTH - _LEFT - _RIGHT), 1)

    def ticks(self) -> tuple[Tick, ...]:
        """Five dates from the first day to now."""
        found = []
        for fifth in range(5):
            at = self._start + timedelta(seconds=self._seconds * fifth / 4)
            anchor = "start" if fifth == 0 else "end" if fifth == 4 else "middle"
            found.append(Tick(self.x(at), f"{at:%Y-%m-%d}", anchor))
        return tuple(found)


def _marks(consumer: Consumer, scale: _Scale) -> tuple[Mark, ...]:
    days: Counter[date] = Counter()
    for use in consumer.uses:
        for day, calls in use.daily or ((use.last_seen.date(), use.calls),):
            days[day] += calls
    most = max(days.values(), default=1)
    return tuple(
        Mark(
            x=min(scale.x(datetime(day.year, day.month, day.day, tzinfo=UTC)), WIDTH - _RIGHT - scale.day),
            width=scale.day,
            strength=_FADED[min(3, 4 * calls // (most + 1))],
            text=f"{day}: {calls:,} calls",
        )
        for day, calls in sorted(days.items())
    )
