"""Change windows: "Mon-Thu 09:00-16:00 Europe/Berlin"; they bind deactivations, never a reactivation."""

import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sparekey.errors import BadInputError
from sparekey.model import Value

_YEAR = 366
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(
    r"(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? +"
    r"(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?: +(?P<zone>\S+))?"
)


Span = tuple[datetime, datetime]


class ChangeWindow(Value, frozen=True):
    """Days of the week (0 is Monday) on which it opens; an `end` not after `start` is the next day's.

    It is open while the clocks of its zone show a time within it: where they go forward it may be shorter, where
    they go back it may open twice.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: str

    def spans(self, now: datetime) -> list[Span]:
        """Its openings and closings from yesterday to two weeks ahead, in order."""
        today = now.astimezone(ZoneInfo(self.zone)).date()
        days = (today + timedelta(days=offset) for offset in range(-1, 15))
        return [span for day in days if day.weekday() in self.days for span in self.span_on(day)]

    def span_on(self, day: date) -> list[Span]:
        """The openings that begin on one day: one, or two or none where clocks change."""
        zone = ZoneInfo(self.zone)
        begin = datetime.combine(day, self.start)
        end = datetime.combine(day if self.end > self.start else day + timedelta(days=1), self.end)
        edges = {_instant(local, zone, projection) for local in (begin, end) for projection in (0, 1)}
        edges |= set(_utc_spans(min(edges), max(edges), zone))
        spans: list[Span] = []
        for opens, closes in pairwise(sorted(edges)):
            shown = (opens + (closes - opens) / 2).astimezone(zone).replace(tzinfo=None)
            if begin <= shown < end:
                joined = spans and spans[-1][1] == opens
                spans[-1:] = [(spans[-1][0], closes)] if joined else [*spans[-1:], (opens, closes)]
        return [(opens.astimezone(zone), closes.astimezone(zone)) for opens, closes in spans]


def _instant(local: datetime, zone: ZoneInfo, projection: int) -> datetime:
    return local.replace(tzinfo=zone, fold=projection).astimezone(UTC)


def _utc_spans(begin: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moment within a span, to the second, at which the zone's clocks change; at most one."""
    offset = begin.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() == offset:
        return []
    before, after = int(begin.timestamp()), int(end.timestamp())
    while after - before > 1:
        middle = (before + after) // 2
        same = datetime.fromtimestamp(middle, zone).utcoffset() == offset
        before, after = (middle, after) if same else (before, middle)
    return [datetime.fromtimestamp(after, UTC)]


def check_window(text: str, today: date) -> None:
    """Raise BadInputError for what is no window, or lies within an hour that clocks skip or show twice."""
    window = parse_window(text)
    zone = ZoneInfo(window.zone)
    for offset in range(_YEAR):
        day = today + timedelta(days=offset)
        if day.weekday() not in window.days:
            continue
        times = len(window.span_on(day))
        edges = (datetime.combine(day, window.start), datetime.combine(day, window.end))
        twice = times > 1 and all(_instant(edge, zone, 0) != _instant(edge, zone, 1) for edge in edges)
        if twice or not times:
            happens = "opens twice" if twice else "does not open"
            raise BadInputError(
                f"{text!r} {happens} on {day}, when the clocks of {window.zone} change",
                "Let it begin before or end after the hour that clocks skip or repeat, or write it in UTC.",
            )


def parse_window(text: str) -> ChangeWindow:
    """Read one; raises BadInputError."""
    hint = 'Write it as "Mon-Thu 09:00-16:00 Europe/Berlin"; without a zone it is UTC.'
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadInputError(f"{text!r} is not a change window", hint)
    for day in (match["first"], match["last"]):
        if day and day not in _DAYS:
            raise BadInputError(f"{text!r} is not a change window: {day!r} is not a day", hint)
    try:
        start, end = time.fromisoformat(match["start"]), time.fromisoformat(match["end"])
    except ValueError as error:
        raise BadInputError(f"{text!r} is not a change window: {error}", hint) from error
    zone = match["zone"] or "UTC"
    try:
        ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise BadInputError(
            f"{text!r} is not a change window: there is no time zone {zone!r}", hint
        ) from error
    first = _DAYS.index(match["first"])
    last = _DAYS.index(match["last"] or match["first"])
    days = frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
    return ChangeWindow(days, start, end, zone)


def is_open(windows: tuple[str, ...], now: datetime) -> bool:
    """True inside any of them, and always where there are none."""
    return opened_at(windows, now) is not None


def opened_at(windows: tuple[str, ...], now: datetime) -> str | None:
    """When the window that is open now has opened, as text; None outside, "always" where there are none."""
    if not windows:
        return "always"
    spans = [span for window in windows for span in parse_window(window).spans(now)]
    opened = [opens for opens, closes in spans if opens <= now < closes]
    return min(opened).isoformat() if opened else None


def next_opening(windows: tuple[str, ...], now: datetime) -> datetime:
    """When the next of them opens."""
    return min(opens for window in windows for opens, _ in parse_window(window).spans(now) if opens > now)
