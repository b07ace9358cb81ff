"""The timeline: one key fades out, the other fades in, on one axis."""

from datetime import date

import pytest

from sparekey.model import Usage
from sparekey.usage.aggregation import PartialUsage, UsageAggregator
from sparekey.usage.records import CallOrigin, UseEvent, digest
from sparekey.usage.timeline import Timeline, make_timeline

DAY = 86_400


def usages(**calls: list[int]) -> tuple[Usage, ...]:
    """Usages of keys: calls on each day from the epoch on."""
    fold = UsageAggregator()
    for key, days in calls.items():
        part = PartialUsage()
        for day, count in enumerate(days):
            for number in range(count):
                use = UseEvent(
                    key,
                    digest(f"{key}{day}{number}"),
                    day * DAY,
                    CallOrigin("Boto3", "10.0.0.1", "s3", ""),
                    "Get",
                    False,
                    None,
                )
                part.add(use, key)
        fold.merge(part)
    return fold.usages(list(calls), "test", None, None)


def test_one_fades_out_and_the_other_fades_in() -> None:
    shown = make_timeline(usages(old=[8, 4, 2, 1, 0, 0], new=[0, 0, 1, 4, 8, 8]))
    assert [(line.key, line.bar, line.calls) for line in shown.lines] == [
        ("new", "··▁▄██", 21),
        ("old", "█▄▂▁··", 15),
    ]
    assert (shown.first, shown.last, shown.days_each) == (date(1970, 1, 1), date(1970, 1, 6), 1)
    assert shown.lines[0].services == ("s3",)


@pytest.mark.parametrize(("width", "bar", "each"), [(3, "█·█", 2), (1, "█", 5), (100, "█···█", 1)])
def test_many_days_share_a_slice(width: int, bar: str, each: int) -> None:
    shown = make_timeline(usages(old=[1, 0, 0, 0, 1]), width)
    assert (shown.lines[0].bar, shown.days_each) == (bar, each)


def test_nothing_seen_is_an_empty_timeline() -> None:
    assert make_timeline(usages(old=[])) == Timeline(None, None, 1, ())


def test_a_single_call_among_many_is_seen() -> None:
    assert make_timeline(usages(old=[1, 500])).lines[0].bar == "▁█"
