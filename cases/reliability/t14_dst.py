"""Change windows in the lost and the doubled hour: open at five-minute steps as the clocks of the zone show, and `next_opening` tells the truth."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lab import *
from sparekey.runs.change_windows import is_open, next_opening, parse_window


def shown(window, now):
    """What the clock on the wall says: open or not."""
    local = now.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None)
    for back in (0, 1):
        day = local.date() - timedelta(days=back)
        end = day if window.end > window.start else day + timedelta(days=1)
        if day.weekday() in window.days and datetime.combine(day, window.start) <= local < datetime.combine(end, window.end): return True
    return False


for zone, days in (("Europe/Berlin", (datetime(2027, 3, 27, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC))), ("America/New_York", (datetime(2027, 3, 13, 20, tzinfo=UTC), datetime(2026, 10, 31, 20, tzinfo=UTC)))):
    for begin in days:
        for hours in ("Sun 02:00-03:00", "Sun 02:15-02:45", "Sun 02:30-03:30", "Sun 01:30-02:30", "Sat 22:00-02:30", "Sat-Sun 00:00-00:00", "Sun 01:00-04:00", "Sun 01:15-01:45"):
            text, wrong = f"{hours} {zone}", []
            for minute in range(0, 20 * 60, 5):
                now = begin + timedelta(minutes=minute)
                if is_open((text,), now) != shown(parse_window(text), now): wrong.append(now.isoformat())
                if is_open((text,), now): continue
                opens = next_opening((text,), now).astimezone(UTC)
                if opens <= now or not is_open((text,), opens) or is_open((text,), opens - timedelta(seconds=1)): wrong.append(("next_opening", now.isoformat(), opens.isoformat()))
            form(f"{text} from {begin:%Y-%m-%d}", not wrong, wrong[:3])
end()
