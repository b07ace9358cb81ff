"""Change windows where clocks change: open while the zone's clocks show a time within them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.errors import BadInputError
from sparekey.runs.change_windows import check_window, is_open, next_opening, parse_window

SPRING = datetime(2027, 3, 27, 20, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 20, tzinfo=UTC)


def opens(window: str, begin: datetime) -> list[str]:
    """From when to when, in UTC, in the twenty hours from `begin` on."""
    found: list[str] = []
    was = False
    for minute in range(0, 20 * 60, 5):
        at = begin + timedelta(minutes=minute)
        now = is_open((window,), at)
        if now and not was:
            found.append(f"{at:%H:%M}-")
        if was and not now:
            found[-1] += f"{at:%H:%M}"
        was = now
    return found


@pytest.mark.parametrize(
    ("window", "begin", "expected"),
    [
        ("Sun 02:00-03:00", SPRING, []),
        ("Sun 02:15-02:45", SPRING, []),
        ("Sun 02:30-03:30", SPRING, ["01:00-01:30"]),
        ("Sun 01:30-02:30", SPRING, ["00:30-01:00"]),
        ("Sat 22:00-02:30", SPRING, ["21:00-01:00"]),
        ("Sun 01:00-04:00", SPRING, ["00:00-02:00"]),
        ("Sun 02:00-03:00", AUTUMN, ["00:00-02:00"]),
        ("Sun 02:15-02:45", AUTUMN, ["00:15-00:45", "01:15-01:45"]),
        ("Sun 02:30-03:30", AUTUMN, ["00:30-01:00", "01:30-02:30"]),
        ("Sun 01:30-02:30", AUTUMN, ["23:30-00:30", "01:00-01:30"]),
        ("Sun 01:00-04:00", AUTUMN, ["23:00-03:00"]),
    ],
)
def test_where_clocks_change(window: str, begin: datetime, expected: list[str]) -> None:
    assert opens(f"{window} Europe/Berlin", begin) == expected


def test_the_next_opening_is_one_although_clocks_skip_this_weeks() -> None:
    window = "Sun 02:15-02:45 Europe/Berlin"
    assert next_opening((window,), SPRING) == datetime(2027, 4, 4, 0, 15, tzinfo=UTC)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    st.integers(0, 365 * 24 * 12),
    st.integers(0, 95),
    st.integers(0, 95),
)
def test_open_is_what_the_clocks_show(zone: str, step: int, start: int, end: int) -> None:
    def clock(quarter: int) -> str:
        return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}"

    now = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=5 * step)
    window = f"Mon-Sun {clock(start)}-{clock(end)} {zone}"
    shown = now.astimezone(ZoneInfo(zone))
    minutes, begin, until = shown.hour * 60 + shown.minute, start * 15, end * 15
    within = begin <= minutes < until if begin < until else minutes >= begin or minutes < until
    assert is_open((window,), now) is within
    coming = next_opening((window,), now)
    assert coming > now
    if begin != until:
        assert is_open((window,), coming)
        assert not is_open((window,), coming.astimezone(UTC) - timedelta(seconds=1))
    assert parse_window(window).zone == zone


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ("", "is not a change window"),
        ("Mon 9-10", "is not a change window"),
        ("Mon 09:00-16:00 Europe/Berln", "there is no time zone 'Europe/Berln'"),
        ("Mon 09:00-16:00 ../../etc/passwd", "there is no time zone"),
        ("Mon 09:00-24:00", "is not a change window: hour must be"),
        ("Mon 09:60-10:00", "is not a change window: minute must be"),
        ("Mon-Foo 09:00-10:00", "'Foo' is not a day"),
        ("Die 09:00-10:00", "'Die' is not a day"),
        (
            "Sun 02:00-03:00 Europe/Berlin",
            "does not open on 2027-03-28, when the clocks of Europe/Berlin change",
        ),
        ("Mon-Sun 02:15-02:45 Europe/Berlin", "opens twice on 2026-10-25"),
        ("Sun 01:15-01:45 America/New_York", "opens twice on 2026-11-01"),
    ],
)
def test_a_window_that_is_none_or_lost_is_refused(window: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why) as refused:
        check_window(window, date(2026, 10, 1))
    assert refused.value.hint


@pytest.mark.parametrize(
    "window",
    [
        "Mon-Thu 09:00-16:00 Europe/Berlin",
        "Sat 22:00-02:30 Europe/Berlin",
        "Sun 01:00-04:00 Europe/Berlin",
        "Mon-Fri 02:15-02:45 Europe/Berlin",
        "Sun 02:15-02:45",
        "Fri-Mon 23:00-01:00 UTC",
    ],
)
def test_a_window_that_opens_every_time_is_taken(window: str) -> None:
    check_window(window, date(2026, 10, 1))
