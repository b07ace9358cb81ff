"""Counting: each event once, in bounded memory, the same in any order."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from sparekey.usage import aggregation as folding
from sparekey.usage.aggregation import Deduplicator, PartialUsage, UsageAggregator, UseTotals
from sparekey.usage.records import CallOrigin, UseEvent, digest

KEY = "AKIAOLDAAAAAAAAAAAAA"
HOUR = 3600


def event(number: int, at: int, agent: str = "Boto3", failed: bool = False) -> UseEvent:
    return UseEvent(
        KEY,
        digest(str(number)),
        at,
        CallOrigin(agent, "10.0.0.1", "s3", "us-east-1"),
        "GetObject",
        failed,
        None,
    )


def part(*events: UseEvent) -> PartialUsage:
    made = PartialUsage()
    for one in events:
        made.add(one, KEY)
    return made


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
def test_each_digest_is_fresh_once_also_when_most_are_on_disk(limit: int) -> None:
    rng = random.Random(7)
    digests = [digest(str(number)) for number in range(40)]
    draws = [rng.randrange(40) for _ in range(400)]
    once = Deduplicator(limit)
    fresh = [
        number for number in draws if once.first_occurrences({digests[number]}, number * HOUR, number * HOUR)
    ]
    assert sorted(fresh) == sorted(set(draws))


def test_memory_holds_no_more_than_the_limit() -> None:
    once = Deduplicator(limit=100)
    for number in range(2000):
        assert once.first_occurrences({digest(str(number))}, number, number) == 1
    assert len(once._recent) <= 100
    assert sum(map(len, once._sorted_files)) + len(once._recent) == 2000
    assert once.first_occurrences({digest("3"), digest("1999"), digest("new")}, 0, 2000) == 1


def test_the_order_of_parts_changes_nothing() -> None:
    parts = [
        part(*[event(number % 30, (number % 30) * HOUR) for number in range(start, start + 9)])
        for start in range(40)
    ]
    received = []
    for seed in range(4):
        random.Random(seed).shuffle(parts)
        fold = UsageAggregator(Deduplicator(limit=5))
        for one in parts:
            fold.merge(one)
        received.append(fold.usages([KEY], "test", None, None))
    assert received[0][0].calls == 30
    assert received.count(received[0]) == 4


def test_gaps_are_between_hours_with_calls_and_days_are_counted() -> None:
    begin = int(datetime(2026, 1, 1, 22, 10, tzinfo=UTC).timestamp())
    times = [begin, begin + 60, begin + 3 * HOUR, begin + 51 * HOUR]
    fold = UsageAggregator()
    fold.merge(part(*[event(number, at) for number, at in enumerate(times)]))
    (use,) = fold.usages([KEY], "test", None, None)[0].consumers[0].uses
    assert use.longest_gap == timedelta(hours=48)
    assert use.daily == ((date(2026, 1, 1), 2), (date(2026, 1, 2), 1), (date(2026, 1, 4), 1))


def test_an_application_too_many_is_counted_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_CONSUMERS", 3)
    fold = UsageAggregator()
    fold.merge(part(*[event(number, number, f"agent{number}") for number in range(10)]))
    (usage,) = fold.usages([KEY], "test", None, None)
    assert usage.calls == 10
    assert [(one.agent, one.calls) for one in usage.consumers] == [
        ("agent0", 1),
        ("agent1", 1),
        ("agent2", 1),
        ("others", 7),
    ]
    assert usage.partial == ("more than 3 consumers: the rest is counted as one",)


def test_counted_calls_join_those_of_parts() -> None:
    fold = UsageAggregator()
    fold.merge(part(event(1, HOUR), event(2, HOUR, failed=True)))
    where = CallOrigin("Boto3", "10.0.0.1", "s3", "us-east-1")
    fold.count((KEY, where), UseTotals(0, 5 * HOUR, None, {"PutObject"}), {0: (4, 0b100001)}, 1)
    (use,) = fold.usages([KEY], "test", None, None)[0].consumers[0].uses
    assert (use.calls, use.errors, use.actions) == (6, 2, ("GetObject", "PutObject"))
    assert use.longest_gap == timedelta(hours=4)
    assert use.own_last == datetime(1970, 1, 1, 1, tzinfo=UTC)
