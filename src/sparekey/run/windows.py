"""Change windows: "Mon-Thu 09:00-16:00 Europe/Berlin"; they bind deactivations, never the way back."""

import re
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sparekey.errors import BadInputError
from sparekey.model import Value

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(
    r"(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? +"
    r"(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?: +(?P<zone>\S+))?"
)


class Window(Value, frozen=True):
    """Days of the week (0 is Monday) on which it opens; an `end` not after `start` is the next day's."""

    days: frozenset[int]
    start: time
    end: time
    zone: str

    def spans(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """Its openings and closings from yesterday to a week ahead, in UTC order."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        found = []
        for offset in range(-1, 8):
            day = today + timedelta(days=offset)
            if day.weekday() in self.days:
                last = day if self.end > self.start else day + timedelta(days=1)
                opens = datetime.combine(day, self.start, zone)
                found.append((opens, datetime.combine(last, self.end, zone)))
        return found


def parse(text: str) -> Window:
    """Read one; raises BadInputError."""
    try:
        return _parse(_FORM.fullmatch(text.strip()))
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        hint = 'Write it as "Mon-Thu 09:00-16:00 Europe/Berlin"; without a zone it is UTC.'
        raise BadInputError(f"{text!r} is not a change window", hint) from error


def _parse(match: re.Match[str] | None) -> Window:
    if match is None:
        raise ValueError
    first = _DAYS.index(match["first"])
    last = _DAYS.index(match["last"] or match["first"])
    zone = match["zone"] or "UTC"
    ZoneInfo(zone)
    days = frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
    return Window(days, time.fromisoformat(match["start"]), time.fromisoformat(match["end"]), zone)


def is_open(windows: tuple[str, ...], now: datetime) -> bool:
    """True inside any of them, and always where there are none."""
    return opened_at(windows, now) is not None


def opened_at(windows: tuple[str, ...], now: datetime) -> str | None:
    """When the window that is open now has opened, as text; None outside, "always" where there are none."""
    if not windows:
        return "always"
    spans = [span for window in windows for span in parse(window).spans(now)]
    opened = [opens for opens, closes in spans if opens <= now < closes]
    return min(opened).isoformat() if opened else None


def next_opening(windows: tuple[str, ...], now: datetime) -> datetime:
    """When the next of them opens."""
    return min(opens for window in windows for opens, _ in parse(window).spans(now) if opens > now)
